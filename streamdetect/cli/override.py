"""``streamdetect override``: what a person decides about one subject, over what the detector says."""

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

from cyclopts import App, Parameter

from streamdetect.cli.controls import actor_or_login, now_ms, subject_of, tell, text_bytes
from streamdetect.cli.flags import AsJson
from streamdetect.cli.times import duration_ms, shown
from streamdetect.errors import UsageError
from streamdetect.kafka.plan import OVERRIDES
from streamdetect.messages.decision import Subject
from streamdetect.messages.override import Everything, Override
from streamdetect.messages.reading import read
from streamdetect.settings import Settings, load_settings
from streamdetect.telemetry.logs import configure_logs

app = App(name="override", help="Allow or deny a subject, whatever the detector decides, or take that back.")

For = Annotated[str, Parameter(name="--for")]
Effect = Literal["allow", "deny", "kill"]


@app.command
def allow(
    subject: str,
    *,
    for_: For,
    reason: str,
    actor: str | None = None,
    config: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Let a subject pass: gateways ignore what is in force against it, and the detector lifts it and adds nothing new.

    Afterwards the subject is not hit again for what was known of it by then.

    Parameters
    ----------
    subject
        account:ID, org:ID, api_key:ID, subnet:CIDR (/24; /64, /56, /48) or asn:NUMBER.
    for_
        How long, such as 90s, 15m, 6h, 7d.
    reason
        Why, for the record.
    actor
        Who decides; the login name unless told.
    config
        Settings file (TOML), over STREAMDETECT_CONFIG.
    as_json
        Print the override as JSON.
    """
    _decide("allow", subject_of(subject), for_, reason, actor, load_settings(config), as_json=as_json)


@app.command
def deny(
    subject: str,
    *,
    for_: For,
    reason: str,
    action: Literal["verify", "suspend"] = "suspend",
    actor: str | None = None,
    config: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Stop a subject at the gateways, with or without a detector.

    Parameters
    ----------
    subject
        account:ID, org:ID, api_key:ID, subnet:CIDR (/24; /64, /56, /48) or asn:NUMBER.
    for_
        How long, such as 90s, 15m, 6h, 7d.
    reason
        Why, for the record.
    action
        What gateways do.
    actor
        Who decides; the login name unless told.
    config
        Settings file (TOML), over STREAMDETECT_CONFIG.
    as_json
        Print the override as JSON.
    """
    settings = load_settings(config)
    _decide("deny", subject_of(subject), for_, reason, actor, settings, action=action, as_json=as_json)


@app.command
def clear(
    subject: str, *, reason: str, actor: str | None = None, config: Path | None = None, as_json: AsJson = False
) -> None:
    """Take an override back; from then on what the detector decides holds again.

    Parameters
    ----------
    subject
        Whom it is about, written as for allow and deny.
    reason
        Why, for the record.
    actor
        Who decides; the login name unless told.
    config
        Settings file (TOML), over STREAMDETECT_CONFIG.
    as_json
        Print what was taken back as JSON.
    """
    take_back(subject_of(subject), reason, actor, load_settings(config), as_json=as_json)


def decide(
    effect: Effect,
    subject: Subject | Everything,
    lasts_ms: int | None,
    reason: str,
    actor: str,
    settings: Settings,
    *,
    action: Literal["verify", "suspend"] | None = None,
) -> tuple[Override, Override | None]:
    """Write an override; gives it, and the one it replaces."""

    async def write() -> tuple[Override, bytes | None]:
        created_at = await now_ms(settings, time.time_ns() // 1_000_000)
        override = Override(
            override_id=f"o-{uuid4().hex}",
            subject=subject,
            effect=effect,
            action=action,
            actor=actor,
            reason=reason,
            created_at=created_at,
            expires_at=None if lasts_ms is None else created_at + lasts_ms,
        )
        return override, await tell(settings, settings.topic(OVERRIDES), override.key, override.to_bytes(), actor=actor)

    configure_logs("critical")
    override, before = asyncio.run(write())
    return override, _readable(before)


def take_back(
    subject: Subject | Everything, reason: str, actor: str | None, settings: Settings, *, as_json: bool
) -> None:
    """Write the tombstone of an override, if there is one, and say what it was."""
    configure_logs("critical")
    by = actor_or_login(actor)
    before = asyncio.run(
        tell(settings, settings.topic(OVERRIDES), subject.key, None, actor=by, reason=checked_reason(reason))
    )
    old = _readable(before)
    if as_json:
        print(json.dumps({"subject": subject.key, "cleared": None if old is None else _plain(old)}))
    elif before is None:
        print(f"{subject.key}: there was no override")
    else:
        print(f"{subject.key}: cleared by {by}" + (f"; it was: {described(old)}" if old else ""))


def checked_reason(reason: str) -> str:
    """A reason that can be kept. Raises ``UsageError``."""
    if not reason.strip() or not 0 < text_bytes(reason) <= 4096:
        raise UsageError("--reason: say why, in 1 to 4096 bytes of UTF-8")
    return reason


def told(override: Override, before: Override | None, *, as_json: bool) -> None:
    """Print an override that was written, and what it replaces."""
    if as_json:
        print(json.dumps({**_plain(override), "replaced": None if before is None else _plain(before)}))
        return
    print(f"{override.key}: {described(override)}")
    if before is not None:
        print(f"  instead of: {described(before)}")


def described(override: Override) -> str:
    """An override in words."""
    until = "until it is cleared" if override.expires_at is None else f"until {shown(override.expires_at)}"
    action = f" ({override.action})" if override.action else ""
    return f"{override.effect}{action} {until}, by {override.actor}: {override.reason}"


def _decide(
    effect: Effect,
    subject: Subject,
    lasts: str,
    reason: str,
    actor: str | None,
    settings: Settings,
    *,
    as_json: bool,
    action: Literal["verify", "suspend"] | None = None,
) -> None:
    lasts_ms = duration_ms(lasts)
    if lasts_ms <= 0:
        raise UsageError("--for must be above 0")
    by, why = actor_or_login(actor), checked_reason(reason)
    told(*decide(effect, subject, lasts_ms, why, by, settings, action=action), as_json=as_json)


def _readable(value: bytes | None) -> Override | None:
    found = None if value is None else read(Override, value)
    return found if isinstance(found, Override) else None


def _plain(override: Override) -> dict[str, object]:
    return override.model_dump(mode="json", exclude_none=True)
