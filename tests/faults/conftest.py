"""Stories: what is done to a cluster and its workers, told once and judged by the tests that ask for it.

A story mostly waits (for a session to run out, for a broker to come back), so those of a file run side by side, each in
topics and a group of its own. Those of the chosen tests begin, in order, when the first test asks.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from load import MEASURED
from said import SAID

pytest.register_assert_rewrite("verdict")

SIDE_BY_SIDE = 3


@pytest.fixture(scope="module")
def stories(request, broker, tmp_path_factory):
    """The outcome of each story that the chosen tests of a file need, by its function."""
    items = [item for item in request.session.items if item.path == request.path]
    chosen = [story_of(item) for item in items if item.get_closest_marker("story")]
    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="story") as pool:
        yield {
            story: pool.submit(story, broker, tmp_path_factory.mktemp(story.__name__.strip("_")))
            for story in dict.fromkeys(chosen)
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def told(request, stories):
    """What the test's story came to; a story that failed fails each of its tests."""
    return stories[story_of(request.node)].result()


def story_of(item):
    """The function that a test names: pytest takes a marker's only argument for what is marked if it is a function."""
    (name,) = item.get_closest_marker("story").args
    return getattr(item.module, name)


def pytest_sessionfinish(session):
    """Say what was measured on the way."""
    session.config.stash[SAID] += MEASURED
