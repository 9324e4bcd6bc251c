"""``streamdetect policy``: check a policy before it runs, give it to workers, list what its rules can read."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from cyclopts import App

from streamdetect.cli.flags import AsJson
from streamdetect.errors import BadDataError
from streamdetect.pipeline.decisions.features import SCOPES, Feature, names_of
from streamdetect.pipeline.decisions.policy import TEXT_MAX, CompiledPolicy, default_policy, load_policy, policy_text

app = App(name="policy", help="Check policies, give them to running workers, and list what their rules can read.")

_BYTES_MAX: Final = 4 * TEXT_MAX
_WINDOWS: Final = {None: "-", 60_000: "1m", 3_600_000: "1h", 86_400_000: "1d"}


@app.command
def check(file: Path, *, as_json: AsJson = False) -> None:
    """Say whether a policy can run; name line and column of what is wrong.

    Parameters
    ----------
    file
        The policy, in TOML.
    as_json
        Print the summary as JSON.
    """
    policy = read_policy(file)
    if as_json:
        print(json.dumps(summary_of(policy)))
        return
    print(f"{file}: policy {policy.model.id} version {policy.model.version} can run")
    print(described(policy))


# In a module of its own: only this one needs a broker.
app.command(
    "streamdetect.cli.apply:apply",
    name="apply",
    help="Check a policy, then give it to the workers that obey its id; each goes over to it without a restart.",
)


@app.command
def features(*, as_json: AsJson = False) -> None:
    """List the names a rule can use, with scope, unit, window and meaning.

    Parameters
    ----------
    as_json
        Print the list as JSON.
    """
    listed = _listed()
    if as_json:
        print(json.dumps([asdict(feature) | {"scopes": scopes} for feature, scopes in listed]))
        return
    rows = [("NAME", "SCOPES", "UNIT", "WINDOW", "FAMILY", "MEANING")]
    for feature, scopes in listed:
        window = _WINDOWS[feature.window_ms]
        rows.append((feature.name, ",".join(scopes), feature.unit, window, feature.family, feature.meaning))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]))


def read_policy(file: Path | None) -> CompiledPolicy:
    """The policy of a file, or the shipped one. Raises ``BadDataError``; what is wrong in the text has a place."""
    return default_policy() if file is None else load_policy(_read(file), str(file))


def summary_of(policy: CompiledPolicy) -> dict[str, object]:
    """What a policy is, for JSON."""
    head = policy.model.model_dump(mode="json", include={"id", "version", "mode", "effective_at"})
    return {**head, "hash": policy.hash, "rules": _rule_counts(policy)}


def described(policy: CompiledPolicy) -> str:
    """What a policy is, for people: some lines."""
    rules = ", ".join(f"{count} {scope}" for scope, count in _rule_counts(policy).items()) or "none"
    return f"  mode   {policy.model.mode}\n  rules  {rules}\n  hash   {policy.hash}"


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_BYTES_MAX + 1)
    except OSError as error:
        raise BadDataError(f"{file}: cannot be read: {error.strerror}") from None
    if len(data) > _BYTES_MAX:
        raise BadDataError(f"{file}: larger than {_BYTES_MAX} bytes, which no policy is")
    return policy_text(data, str(file))


def _rule_counts(policy: CompiledPolicy) -> dict[str, int]:
    """Rules by scope, those that are off apart."""
    counts = {scope: len(policy.rules_of(scope)) for scope in SCOPES}
    counts["off"] = sum(rule.rule.status == "off" for rule in policy.rules)
    return {scope: count for scope, count in counts.items() if count}


def _listed() -> list[tuple[Feature, list[str]]]:
    """Each feature once, with every scope that has it."""
    scopes: dict[Feature, list[str]] = {}
    for scope in SCOPES:
        for feature in names_of(scope):
            scopes.setdefault(feature, []).append(scope)
    return list(scopes.items())
