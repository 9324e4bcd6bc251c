"""Two workers of one group: one joins under load, both are replaced one after the other, one is killed."""

import time

import pytest
from crowd import Crowd
from live import until
from load import MEASURED, Kept, Load, faulty_world, records_of
from verdict import judged

pytestmark = pytest.mark.needs("admin")
ALL = "0123"


def until_shared(*workers):
    """Wait until the workers own all partitions between them, each of them some, and all are at work."""

    def shared():
        owned = [worker.partitions for worker in workers]
        return all(owned) and "".join(sorted("".join(owned))) == ALL

    try:
        until(shared, "the partitions to be shared")
    except AssertionError:
        told = "\n\n".join(f"{worker.partitions!r}:\n{worker.worker.log[-3000:]}" for worker in workers)
        pytest.fail(f"the partitions are not shared\n{told}")
    for worker in workers:
        worker.until_working()


def handovers(broker, folder):
    crowd = Crowd(900, 4)
    with faulty_world(broker.bootstrap_servers, folder) as place, Load(place, records_of(crowd), 150) as load:
        with Kept(place) as first, Kept(place) as second:
            first.until_working()
            until_shared(first, second)
            first.stop()
            second.until_working()
            with Kept(place) as third:
                until_shared(second, third)
                second.stop()
                with Kept(place) as fourth:
                    until_shared(third, fourth)
                    killed = fourth.let_go()
                    killed.kill()
                    at = time.monotonic()
                    until(lambda: third.partitions == ALL, "one worker for all partitions")
                    MEASURED.append(f"{time.monotonic() - at:5.1f} s from a SIGKILL until the other owns everything")
                    third.until_working()
                    load.finish()
                    place.settled(third)
                    third.stop()
        return judged(place, crowd.lines)


@pytest.mark.story("handovers")
def test_workers_that_join_leave_and_die_lose_nothing_and_count_nothing_twice(told):
    told.check()
