"""When a broker is ready: every node in the metadata, a controller, and a probe topic made and deleted.

An open port says little: a broker listens before it can serve. Needs the ``confluent-kafka`` wheel.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from streamdetect.errors import UnreachableError

POLL_S = 0.05
_ASK_S = 2.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the moment ``seconds`` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - time.monotonic())


def wait_until(done: Callable[[], bool], *, deadline: Deadline, what: str) -> None:
    """Poll ``done`` until it holds; raise ``UnreachableError`` naming ``what`` when the deadline passes."""
    while not done():
        if not deadline.left_s:
            raise UnreachableError(f"{what}: not within the time limit")
        time.sleep(POLL_S)


def port_open(address: str) -> bool:
    """Return whether something accepts connections at ``host:port``."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def broker_ids(bootstrap_servers: str) -> frozenset[int]:
    """Return the nodes in the metadata; empty while the cluster has no controller or does not answer."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra, not a dependency

    try:
        metadata = admin_client(bootstrap_servers).list_topics(timeout=_ASK_S)
    except KafkaException:
        return frozenset()
    return frozenset(metadata.brokers) if metadata.controller_id >= 0 else frozenset()


def probe_topic(bootstrap_servers: str, *, copies: int) -> bool:
    """Make and delete a topic of ``copies`` replicas; True when both worked."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra, not a dependency
    from confluent_kafka.admin import NewTopic  # noqa: PLC0415 - an extra, not a dependency

    admin, name = admin_client(bootstrap_servers), f"probe-{uuid4().hex}"
    topic = NewTopic(name, num_partitions=1, replication_factor=copies)
    try:
        admin.create_topics([topic], request_timeout=_ASK_S * 2)[name].result()
        admin.delete_topics([name], request_timeout=_ASK_S * 2)[name].result()
    except KafkaException:
        return False
    return True


def admin_client(bootstrap_servers: str) -> Any:
    """Return a confluent-kafka admin client that does not talk to standard error."""
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - an extra, not a dependency

    # Refused connections are expected here; librdkafka would print each to standard error.
    quiet = {"log_level": 0, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200}
    return AdminClient({"bootstrap.servers": bootstrap_servers, **quiet})
