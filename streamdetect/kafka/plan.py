"""Which topics there are and how each must look, read from ``topics.toml`` beside this module.

Pure: the plan of given settings, the settings of a topic at creation, and what is wrong with topics as a broker shows
them. Talking to a broker is ``kafka.topics``.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

from streamdetect.settings import Settings

REQUESTS: Final = "requests.v1"
ACCOUNTS: Final = "accounts.v1"
ENFORCEMENT: Final = "enforcement.v1"
DECISIONS: Final = "decisions.v1"
OVERRIDES: Final = "overrides.v1"
POLICY: Final = "policy.v1"
CAMPAIGNS: Final = "campaigns.v1"
FEEDBACK: Final = "feedback.v1"
DEAD_LETTERS: Final = "dead-letters.v1"
LINKS: Final = "links.v1"
EVIDENCE: Final = "evidence.v1"
CHANGELOG: Final = "{group}-state-changelog"

REPLICATION_MAX: Final = 3
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it must be. ``ours`` is false for request topics of other names: those are checked, never made."""

    name: str
    key: str
    about: str
    cleanup: str
    partitions: int
    equal: bool
    writer: tuple[str, ...]
    reader: tuple[str, ...]
    retention_ms: int | None = None
    internal: bool = False
    ours: bool = True
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """One topic as a broker describes it. ``cleanup`` is ``None`` when the broker does not let us see it."""

    partitions: int
    cleanup: str | None = None


def plan(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic of these settings, the request topics first."""
    data = tomllib.loads(files(__package__).joinpath("topics.toml").read_text(encoding="utf-8"))
    specs: list[TopicSpec] = []
    for row in data["topics"]:
        if row["name"] == REQUESTS:
            own = settings.topic(REQUESTS)
            specs += [_spec(row, settings, name=name, ours=name == own) for name in settings.request_topics]
        else:
            specs.append(_spec(row, settings, name=full_name(row["name"], settings)))
    return tuple(specs)


def full_name(name: str, settings: Settings) -> str:
    """The name on the broker of a topic of the plan.

    >>> full_name(LINKS, Settings()), full_name(CHANGELOG, Settings())
    ('streamdetect.links.v1', 'streamdetect-state-changelog')
    """
    return name.format(group=settings.group_id) if "{group}" in name else settings.topic(name)


def creation_config(spec: TopicSpec, replication: int) -> dict[str, str]:
    """The topic settings to create ``spec`` with, for so many copies."""
    config = {"cleanup.policy": spec.cleanup, "min.insync.replicas": str(min(2, max(1, replication - 1)))}
    if spec.retention_ms is not None:
        config["retention.ms"] = str(spec.retention_ms)
    return config | dict(spec.config)


def problems(specs: Iterable[TopicSpec], seen: Mapping[str, TopicSeen]) -> list[str]:
    """What is wrong, one sentence each; empty when the topics fit the plan."""
    specs = list(specs)
    found = [f"topic {spec.name} is missing" for spec in specs if spec.name not in seen]
    counts = {spec.name: seen[spec.name].partitions for spec in specs if spec.equal and spec.name in seen}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        found.append(f"these topics must have the same number of partitions: {listed}")
    for spec in specs:
        cleanup = seen[spec.name].cleanup if spec.name in seen else None
        if spec.ours and cleanup is not None and cleanup != spec.cleanup:
            found.append(f"topic {spec.name} must have cleanup.policy={spec.cleanup}, not {cleanup}")
    return found


def _spec(row: Mapping[str, Any], settings: Settings, *, name: str, ours: bool = True) -> TopicSpec:
    partitions = row["partitions"]
    return TopicSpec(
        name=name,
        key=row["key"],
        about=row["about"],
        cleanup=row["cleanup"],
        partitions=partitions if isinstance(partitions, int) else settings.topic_partitions,
        equal=partitions == "equal",
        writer=tuple(row["writer"]),
        reader=tuple(row["reader"]),
        retention_ms=row["retention_h"] * HOUR_MS if "retention_h" in row else None,
        internal=row.get("internal", False),
        ours=ours,
        config=row.get("config", {}),
    )
