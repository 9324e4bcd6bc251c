"""``streamdetect topics``: create and check the topics, or print what they must be."""

import asyncio
from pathlib import Path
from typing import Annotated, Final, Literal

import orjson
from cyclopts import Parameter

from streamdetect.kafka.plan import plan
from streamdetect.kafka.render import as_acls, as_strimzi, as_text
from streamdetect.kafka.topics import TopicsReport, create_and_check
from streamdetect.settings import Settings, load_settings
from streamdetect.telemetry.logs import configure_logs

STRIMZI_REPLICAS: Final = 3


def topics(
    *,
    print_: Annotated[
        Literal["text", "strimzi", "acls"] | None,
        Parameter(name="--print", help="Print the plan instead of touching a broker."),
    ] = None,
    partitions: Annotated[int | None, Parameter(help="Of topics to create; 4 unless told.")] = None,
    replication: Annotated[int | None, Parameter(help="Copies of topics to create; at most 3 unless told.")] = None,
    config: Annotated[Path | None, Parameter(help="Settings file, TOML.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print the result as JSON.")] = False,
) -> None:
    """Create the topics that are missing and check the others; nothing that exists is changed."""
    configure_logs("critical")
    settings = load_settings(config, topic_partitions=partitions, topic_replication=replication)
    if print_ is not None:
        print(_printed(print_, settings))
        return
    report = asyncio.run(create_and_check(settings))
    print(_json(report) if json else _told(report))


def _printed(kind: Literal["text", "strimzi", "acls"], settings: Settings) -> str:
    specs = plan(settings)
    if kind == "strimzi":
        return as_strimzi(specs, settings.topic_replication or STRIMZI_REPLICAS)
    return as_acls(specs, settings) if kind == "acls" else as_text(specs)


def _json(report: TopicsReport) -> str:
    shown = {
        "cluster_id": report.cluster_id,
        "topics": report.partitions,
        "created": report.created,
        "unchecked": report.unchecked,
    }
    return orjson.dumps(shown).decode()


def _told(report: TopicsReport) -> str:
    lines = [f"cluster  {report.cluster_id}"]
    lines += [
        f"{'created' if name in report.created else 'checked'}  {name}  {count} partitions"
        for name, count in report.partitions.items()
    ]
    if report.unchecked:
        lines.append("settings not readable, only partitions checked: " + ", ".join(report.unchecked))
    return "\n".join(lines)
