"""The broker every test shares: started on first use, by the strongest tier present, ended with the run.

A run may have several processes (``-n``), each with a broker of its own; a file is never divided between them.

``STREAMDETECT_REQUIRE_TIER`` (external, jars, mock) makes a weaker or missing tier a failure instead of a skip.
"""

import os
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from said import SAID

from streamdetect.errors import UnreachableError
from streamdetect.sandbox.cluster import EXTERNAL_VARIABLE, Cluster, Tier, start_cluster

REQUIRE_VARIABLE = "STREAMDETECT_REQUIRE_TIER"
# Laws hold on a busy machine too; how fast is a question for benchmarks.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")


def pytest_configure(config: pytest.Config) -> None:
    """Begin the report."""
    config.stash[SAID] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put stories first: they mostly wait, and what waits last is waited for by all."""
    items.sort(key=lambda item: item.get_closest_marker("story") is None)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this process has to say to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["said"] = session.config.stash[SAID]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it in there; a process that crashed said nothing."""
    node.config.stash[SAID] += getattr(node, "workeroutput", {}).get("said", [])


def _tier_to_start() -> Tier | None:
    """Return the tier to insist on; None takes the strongest, when any would do."""
    required = Tier(os.environ[REQUIRE_VARIABLE]) if os.environ.get(REQUIRE_VARIABLE) else Tier.MOCK
    any_will_do = required is Tier.MOCK or bool(os.environ.get(EXTERNAL_VARIABLE))
    return None if any_will_do else required


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Give the run's Kafka; its ``abilities`` say what the tier can do."""
    try:
        cluster = start_cluster(tier=_tier_to_start())
    except UnreachableError as error:
        pytestconfig.stash[SAID].append(f"broker tier: none ({error})")
        if os.environ.get(REQUIRE_VARIABLE):
            pytest.fail(f"{REQUIRE_VARIABLE} is set and there is no broker: {error}", pytrace=False)
        pytest.skip(str(error))
    with cluster:
        pytestconfig.stash[SAID].append(f"broker tier: {cluster.describe()}")
        yield cluster


@pytest.fixture(autouse=True)
def _needed_abilities(request: pytest.FixtureRequest) -> None:
    """Skip a test marked ``needs`` when the broker's tier lacks an ability; unmarked tests start no broker."""
    needed = {ability for marker in request.node.iter_markers("needs") for ability in marker.args}
    if not needed:
        return
    cluster: Cluster = request.getfixturevalue("broker")
    if lacking := needed - cluster.abilities:
        pytest.skip(f"broker tier {cluster.tier} lacks {', '.join(sorted(lacking))}")


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """Give a prefix for topic and group names that no other test and no other run uses."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    return f"{name}.{uuid4().hex[:8]}."


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was measured on the way, and which broker the run had."""
    said = dict.fromkeys(config.stash[SAID])
    for line in said if any("broker tier" in line for line in said) else [*said, "broker tier: not used"]:
        terminalreporter.write_line(line)
