"""The plan of topics as text: a table for people, Strimzi resources, or the commands that grant the rights."""

import shlex
from collections.abc import Iterable
from typing import Final

from streamdetect.kafka.plan import TopicSpec, creation_config
from streamdetect.settings import Settings

STRIMZI_VERSION: Final = "kafka.strimzi.io/v1"
PRINCIPAL: Final = "User:streamdetect-"


def as_text(specs: Iterable[TopicSpec]) -> str:
    """A table."""
    rows = [("topic", "partitions", "cleanup", "kept", "key", "about")]
    rows += [
        (
            spec.name,
            f"{spec.partitions}{' (equal)' if spec.equal else ''}",
            spec.cleanup,
            f"{spec.retention_ms // 3_600_000} h" if spec.retention_ms is not None else "newest",
            spec.key,
            spec.about,
        )
        for spec in specs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def as_strimzi(specs: Iterable[TopicSpec], replication: int) -> str:
    """One ``KafkaTopic`` resource per topic that is ours to create; set the cluster label to yours."""
    return "---\n".join(_strimzi(spec, replication) for spec in specs if spec.ours)


def as_acls(specs: Iterable[TopicSpec], settings: Settings) -> str:
    """Commands of Kafka's own ``kafka-acls.sh``, one principal per role; rename the principals to yours."""
    base = ["kafka-acls.sh", "--bootstrap-server", settings.bootstrap_servers, "--add", "--allow-principal"]
    lines = []
    for spec in specs:
        for roles, operations in ((spec.writer, ("Write", "Describe")), (spec.reader, ("Read", "Describe"))):
            for role in roles:
                granted = [word for operation in operations for word in ("--operation", operation)]
                lines.append(shlex.join([*base, PRINCIPAL + role, *granted, "--topic", spec.name]))
        if "detector" in (*spec.writer, *spec.reader):
            lines.append(
                shlex.join([*base, PRINCIPAL + "detector", "--operation", "DescribeConfigs", "--topic", spec.name])
            )
    lines.append(shlex.join([*base, PRINCIPAL + "detector", "--operation", "Read", "--group", settings.group_id]))
    return "\n".join(dict.fromkeys(lines))


def _strimzi(spec: TopicSpec, replication: int) -> str:
    config = "".join(f'    {name}: "{value}"\n' for name, value in creation_config(spec, replication).items())
    return (
        f"apiVersion: {STRIMZI_VERSION}\n"
        "kind: KafkaTopic\n"
        "metadata:\n"
        f"  name: {spec.name.lower().replace('_', '-')}\n"
        "  labels:\n"
        "    strimzi.io/cluster: kafka\n"
        "spec:\n"
        f"  topicName: {spec.name}\n"
        f"  partitions: {spec.partitions}\n"
        f"  replicas: {replication}\n"
        f"  config:\n{config}"
    )
