"""Topics on a sandbox cluster: made through the admin API, or on the mock by asking for them.

Needs the ``confluent-kafka`` wheel. The product's own topics are the business of ``streamdetect.kafka``.
"""

from collections.abc import Mapping, Sequence

from streamdetect.errors import UnreachableError
from streamdetect.sandbox.ready import Deadline, admin_client, wait_until

_LIMIT_S = 20.0


def make_topics(bootstrap_servers: str, names: Sequence[str], *, partitions: int, settings: Mapping[str, str]) -> None:
    """Make topics with the cluster's default replication and wait until each has its leaders."""
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 - an extra, not a dependency
    from confluent_kafka.admin import NewTopic  # noqa: PLC0415 - an extra, not a dependency

    if not names:
        return
    admin = admin_client(bootstrap_servers)
    wanted = [NewTopic(name, num_partitions=partitions, config=dict(settings)) for name in names]
    for name, made in admin.create_topics(wanted, request_timeout=_LIMIT_S).items():
        try:
            made.result()
        except KafkaException as refused:
            if refused.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise UnreachableError(f"cannot make the topic {name}: {refused.args[0].str()}") from refused
    touch_topics(bootstrap_servers, names)


def touch_topics(bootstrap_servers: str, names: Sequence[str]) -> None:
    """Ask for each topic until all its partitions have a leader; the mock makes a topic when first asked for."""
    from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra, not a dependency

    admin = admin_client(bootstrap_servers)

    def led(name: str) -> bool:
        try:
            topic = admin.list_topics(name, timeout=_LIMIT_S).topics[name]
        except KafkaException as refused:
            raise UnreachableError(f"cannot ask for the topic {name}: {refused.args[0].str()}") from refused
        return topic.error is None and bool(topic.partitions) and all(p.leader >= 0 for p in topic.partitions.values())

    deadline = Deadline.after(_LIMIT_S)
    for name in names:
        wait_until(lambda name=name: led(name), deadline=deadline, what=f"the leaders of topic {name}")  # type: ignore[misc]
