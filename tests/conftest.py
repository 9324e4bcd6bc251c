"""The broker every test shares: started on first use, by the strongest tier present, ended with the run.

``STREAMDETECT_REQUIRE_TIER`` (external, jars, mock) makes a weaker or missing tier a failure instead of a skip.
"""

import os
import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import settings

from streamdetect.errors import UnreachableError
from streamdetect.sandbox.cluster import EXTERNAL_VARIABLE, Cluster, Tier, start_cluster

REQUIRE_VARIABLE = "STREAMDETECT_REQUIRE_TIER"
# Laws hold on a busy machine too; how fast is a question for benchmarks.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")
_summary = pytest.StashKey[str]()

# A busy machine makes every example slow; how long a test may take is not what properties are about.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


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
        pytestconfig.stash[_summary] = f"none ({error})"
        if os.environ.get(REQUIRE_VARIABLE):
            pytest.fail(f"{REQUIRE_VARIABLE} is set and there is no broker: {error}", pytrace=False)
        pytest.skip(str(error))
    with cluster:
        pytestconfig.stash[_summary] = cluster.describe()
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
    """Say which broker the run had."""
    terminalreporter.write_line(f"broker tier: {config.stash.get(_summary, 'not used')}")
