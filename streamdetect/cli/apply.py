"""``streamdetect policy apply``: a checked policy onto the policy topic, where workers follow it."""

import asyncio
import json
import sys
from pathlib import Path

from streamdetect.cli.controls import actor_or_login, tell
from streamdetect.cli.flags import AsJson
from streamdetect.cli.policy import described, read_policy, summary_of
from streamdetect.cli.times import instant, shown
from streamdetect.errors import PolicyError, UsageError
from streamdetect.kafka.plan import POLICY
from streamdetect.pipeline.decisions.policy import CompiledPolicy, load_policy, policy_text
from streamdetect.settings import load_settings
from streamdetect.telemetry.logs import configure_logs


def apply(
    file: Path,
    *,
    effective_at: str | None = None,
    actor: str | None = None,
    config: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Check a policy, then give it to the workers that obey its id; each goes over to it without a restart.

    Parameters
    ----------
    file
        The policy, in TOML.
    effective_at
        Event time of the first row it judges (RFC 3339 or ms), if the file does not say; at once unless told.
    actor
        Who decides; the login name unless told.
    config
        Settings file (TOML), over STREAMDETECT_CONFIG.
    as_json
        Print the summary as JSON.
    """
    by, policy = actor_or_login(actor), _with_time(read_policy(file), effective_at, str(file))
    settings = load_settings(config)
    configure_logs("critical")
    topic = settings.topic(POLICY)
    before = _readable(asyncio.run(tell(settings, topic, policy.model.id, policy.text.encode(), actor=by)))
    model = policy.model
    if as_json:
        replaced = before and {"version": before.model.version, "hash": before.hash}
        print(json.dumps({**summary_of(policy), "replaced": replaced}))
    else:
        when = "at once" if model.effective_at is None else f"at the first event from {shown(model.effective_at)} on"
        print(f"{topic}: policy {model.id} version {model.version} takes effect {when}")
        print(described(policy))
        if before is not None:
            print(f"  instead of version {before.model.version}, hash {before.hash}")
    if before is not None and before.model.version == model.version and before.hash != policy.hash:
        sys.stderr.write(f"streamdetect: version {model.version} was there with other values; raise the version\n")


def _with_time(policy: CompiledPolicy, effective_at: str | None, source: str) -> CompiledPolicy:
    """The policy, taking effect when told. Raises ``UsageError`` if it says itself when."""
    if effective_at is None:
        return policy
    if policy.model.effective_at is not None:
        raise UsageError(f"{source} says effective_at itself; leave it out there, or --effective-at here")
    # In front: before the first table, where a key belongs to the policy itself.
    return load_policy(f"effective_at = {instant(effective_at)}\n{policy.text}", source)


def _readable(value: bytes | None) -> CompiledPolicy | None:
    """The policy that was there, if it can be run."""
    try:
        return None if value is None else load_policy(policy_text(value))
    except PolicyError:
        return None
