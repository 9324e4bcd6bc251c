"""One Kafka for a test or a demonstration, by the strongest tier present: external, jars, mock.

A tier says what it can do (``abilities``), so a test asks for what it needs instead of for a tier. The automatic
choice may be weaker than hoped; ``Cluster.notes`` then says why. A named tier is that tier or an error.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from streamdetect.errors import UnreachableError, UsageError
from streamdetect.sandbox.jars import Node, start_jars
from streamdetect.sandbox.mock import start_mock
from streamdetect.sandbox.places import cache_root
from streamdetect.sandbox.properties import PARTITIONS
from streamdetect.sandbox.ready import Deadline, broker_ids, wait_until
from streamdetect.sandbox.resolve import kafka_version, missing_for_jars, resolve_jars
from streamdetect.sandbox.topics import make_topics, touch_topics

EXTERNAL_VARIABLE = "STREAMDETECT_TEST_BROKER"
_EXTERNAL_LIMIT_S = 10.0


class Tier(StrEnum):
    """The kinds of Kafka, strongest first."""

    EXTERNAL = "external"
    JARS = "jars"
    MOCK = "mock"


_REAL = frozenset({"admin", "compaction", "retention", "timeindex"})
# "multibroker" means: start_cluster(nodes=3) works, and its nodes can be killed, paused and restarted.
ABILITIES: Mapping[Tier, frozenset[str]] = {
    Tier.EXTERNAL: _REAL,
    Tier.JARS: _REAL | {"multibroker"},
    Tier.MOCK: frozenset(),
}


@dataclass(slots=True)
class Cluster:
    """A running Kafka. Closing ends what was started here and leaves an external one alone."""

    bootstrap_servers: str
    tier: Tier
    version: str
    nodes: tuple[Node, ...] = ()
    notes: str = ""
    _close: Callable[[], None] | None = field(default=None, repr=False)
    _owner: int = field(default_factory=os.getpid, repr=False)

    def __post_init__(self) -> None:
        atexit.register(self.close)

    @property
    def abilities(self) -> frozenset[str]:
        """What this tier can do, out of admin, compaction, retention, timeindex, multibroker."""
        return ABILITIES[self.tier]

    def describe(self) -> str:
        """Return one line for people: the tier, the version, and why it is not a stronger one."""
        return f"{self.tier} ({self.version})" + (f"; {self.notes}" if self.notes else "")

    def create_topics(
        self, names: Iterable[str], *, partitions: int = PARTITIONS, settings: Mapping[str, str] | None = None
    ) -> None:
        """Make sure that topics exist and can be written to; ones that exist stay as they are.

        The mock tier has 4 partitions and no topic settings: another number is a ``UsageError``, ``settings`` have no
        effect there. Raises ``UnreachableError`` when the cluster refuses.
        """
        if self.tier is not Tier.MOCK:
            make_topics(self.bootstrap_servers, tuple(names), partitions=partitions, settings=settings or {})
        elif partitions != PARTITIONS:
            raise UsageError(f"the mock tier has {PARTITIONS} partitions a topic, not {partitions}")
        else:
            touch_topics(self.bootstrap_servers, tuple(names))

    def close(self) -> None:
        """End the cluster. Harmless when repeated, and in a forked child."""
        atexit.unregister(self.close)
        close, self._close = self._close, None
        if close is not None and self._owner == os.getpid():
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_cluster(
    *,
    tier: Tier | str | None = None,
    nodes: int = 1,
    properties: Mapping[str, str] | None = None,
    port: int | None = None,
    root: Path | None = None,
) -> Cluster:
    """Start the named tier, or the strongest one present.

    ``nodes`` is 1 or 3 for jars; ``properties`` and ``port`` (of the first node) reach the jars tier only; ``root`` is
    the cache folder. Raises ``UnreachableError`` saying what is missing, ``UsageError`` for an unknown tier.
    """
    root = cache_root() if root is None else root
    chosen, notes = (_named(tier), "") if tier is not None else _strongest(root)
    if chosen is Tier.EXTERNAL:
        return _external()
    if chosen is Tier.JARS:
        _demand(missing_for_jars(root))
        real = start_jars(nodes=nodes, properties=properties, port=port, root=root)
        return Cluster(
            real.bootstrap_servers, chosen, f"Apache Kafka {kafka_version()}", nodes=real.nodes, _close=real.close
        )
    _demand(_missing_for_mock(), notes)
    mock = start_mock(nodes=nodes, root=root)
    return Cluster(mock.bootstrap_servers, chosen, _mock_version(), notes=notes, _close=mock.close)


def _named(tier: Tier | str) -> Tier:
    try:
        return Tier(tier)
    except ValueError:
        raise UsageError(f"no such broker tier: {tier!r}; there are {', '.join(Tier)}") from None


def _strongest(root: Path) -> tuple[Tier, str]:
    """Return the strongest tier and why no stronger one."""
    if os.environ.get(EXTERNAL_VARIABLE):
        return Tier.EXTERNAL, ""
    missing = missing_for_jars(root)
    if not missing:
        try:
            root.mkdir(parents=True, exist_ok=True)
            resolve_jars(root)
        except UnreachableError as unreachable:
            missing.append(str(unreachable).splitlines()[0].rstrip(":"))
    return (Tier.MOCK, f"no jars: {'; '.join(missing)}") if missing else (Tier.JARS, "")


def _demand(missing: list[str], notes: str = "") -> None:
    if missing:
        raise UnreachableError("no Kafka can be started here; missing: " + "; ".join(filter(None, [*missing, notes])))


def _missing_for_mock() -> list[str]:
    try:
        _mock_version()
    except ImportError:
        return ["the confluent-kafka wheel (pip install 'streamdetect[demo]')"]
    return []


def _mock_version() -> str:
    import confluent_kafka  # noqa: PLC0415 - an extra, not a dependency

    return f"librdkafka {confluent_kafka.libversion()[0]}"


def _external() -> Cluster:
    address = os.environ.get(EXTERNAL_VARIABLE, "")
    if not address:
        raise UnreachableError(f"the external tier needs the address of a broker in {EXTERNAL_VARIABLE}")
    wait_until(
        lambda: bool(broker_ids(address)),
        deadline=Deadline.after(_EXTERNAL_LIMIT_S),
        what=f"the broker of {EXTERNAL_VARIABLE}",
    )
    return Cluster(address, Tier.EXTERNAL, address)
