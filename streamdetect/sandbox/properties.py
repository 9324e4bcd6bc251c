"""The settings of sandbox brokers, as data and as a file.

Small threads and buffers, short time-outs: quick to start and to fail over, honest in behaviour. Not for production.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PARTITIONS = 4
MESSAGE_BYTES_MAX = 16 * 1024 * 1024

_COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": str(PARTITIONS),
    "message.max.bytes": str(MESSAGE_BYTES_MAX),
    "replica.fetch.max.bytes": str(MESSAGE_BYTES_MAX),
    # A node killed and started again may not register before the session of its former life has lapsed.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.dedupe.buffer.size": "4194304",
}
_SINGLE = {
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}
_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "replica.lag.time.max.ms": "3000",
}


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One node's number, its two ports on the loopback address, and its folder."""

    node_id: int
    broker_port: int
    controller_port: int
    folder: Path

    @property
    def address(self) -> str:
        """``host:port`` of the broker listener."""
        return f"127.0.0.1:{self.broker_port}"


def broker_properties(place: NodePlace, places: Sequence[NodePlace], extra: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of one node of a cluster of one or three; ``extra`` wins over every default."""
    settings = dict(_COMMON)
    controllers = [f"127.0.0.1:{node.controller_port}" for node in places]
    if len(places) == 1:
        # One node is formatted as its own quorum ("standalone") and finds itself by this address.
        settings |= _SINGLE | {"controller.quorum.bootstrap.servers": controllers[0]}
    else:
        voters = (f"{node.node_id}@{address}" for node, address in zip(places, controllers, strict=True))
        settings |= _THREE | {"controller.quorum.voters": ",".join(voters)}
    settings |= {
        "node.id": str(place.node_id),
        "listeners": f"PLAINTEXT://{place.address},CONTROLLER://127.0.0.1:{place.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{place.address}",
        "log.dirs": str(place.folder / "data"),
    }
    return settings | dict(extra)


def render_properties(settings: Mapping[str, str]) -> str:
    r"""Write settings as a Java properties file, sorted; backslashes, line breaks and non-ASCII are escaped.

    >>> render_properties({"b": "x=1", "a": "C:\\d"})
    'a=C:\\\\d\nb=x=1\n'
    """
    return "".join(f"{_escape(key, key=True)}={_escape(settings[key])}\n" for key in sorted(settings))


def _escape(text: str, *, key: bool = False) -> str:
    table = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}
    if key:
        table |= {mark: "\\" + mark for mark in "=: #!"}
    elif text.startswith(" "):
        text, lead = text[1:], "\\ "
        return lead + _escape(text)
    units = (table.get(mark) or (mark if " " <= mark <= "~" else _utf16(mark)) for mark in text)
    return "".join(units)


def _utf16(mark: str) -> str:
    """Escape as Java reads it: one four-digit escape a UTF-16 unit."""
    raw = mark.encode("utf-16-be")
    return "".join(f"\\u{raw[at]:02x}{raw[at + 1]:02x}" for at in range(0, len(raw), 2))
