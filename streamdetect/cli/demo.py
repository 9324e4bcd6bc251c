"""``streamdetect demo``: a hidden campaign, found and stopped on an embedded Kafka, in one command."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import orjson
from cyclopts import Parameter

from streamdetect.errors import GateError
from streamdetect.telemetry.logs import configure_logs


def demo(
    *,
    seed: Annotated[int, Parameter(help="Another seed, another campaign among other people.")] = 1,
    once: Annotated[bool, Parameter(negative="", help="End after the verdict; so it does without a terminal.")] = False,
    tier: Annotated[Literal["mock", "jars"], Parameter(help="jars: Apache Kafka itself, needs Java.")] = "mock",
    policy: Annotated[Path | None, Parameter(help="Policy file; the shipped one without it.")] = None,
    hours: Annotated[float, Parameter(help="Hours of traffic until the verdict.")] = 24.0,
    speed: Annotated[float, Parameter(help="Times life.")] = 2400.0,
    json: Annotated[
        bool, Parameter(negative="", help="Print the sum as JSON; the story goes to standard error.")
    ] = False,
) -> None:
    """Watch a distillation campaign be found and stopped: broker, detector, traffic and gateway in one command.

    Exit code 0: the campaign was caught, the gateway obeyed and no honest account was suspended; 1: not so.
    """
    # Late: broker and simulator take a second to load, and --help should not.
    from streamdetect.cli.policy import read_policy  # noqa: PLC0415
    from streamdetect.sandbox.demo.run import DemoOptions, run_demo  # noqa: PLC0415
    from streamdetect.sandbox.demo.story import Story  # noqa: PLC0415

    read_policy(policy)  # what is wrong with it should not be told by a detector that ends
    configure_logs("critical")
    story = sys.stderr if json else sys.stdout
    options = DemoOptions(
        seed=seed, tier=tier, policy=policy, hours=hours, speed=speed, stay=not once and story.isatty()
    )
    result = run_demo(options, Story(story))
    if json:
        figures = asdict(result.figures)
        print(
            orjson.dumps(
                {
                    "passed": not result.failures,
                    "reasons": result.failures,
                    "seed": seed,
                    "broker": result.broker,
                    "speed": speed,
                    "event_seconds": hours * 3600,
                    "start_seconds": round(result.start_s, 2),
                    "wall_seconds": round(result.wall_s, 2),
                    "events_per_second": round(result.figures.events / result.wall_s, 1),
                    **figures,
                }
            ).decode()
        )
    if result.failures:
        raise GateError("; ".join(result.failures))
