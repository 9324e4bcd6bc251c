"""Events that keep coming while something goes wrong, and whoever starts a worker again when it ends."""

import re
import signal
import threading
import time

from crowd import POLICY, Crowd
from live import until, world

from streamdetect.errors import UnreachableError

SLICE_S = 0.1
MEASURED = []  # lines for the end of the run


class Background(threading.Thread):
    """A thread whose failure is told to whoever leaves its ``with``."""

    def __init__(self, name):
        super().__init__(name=name)
        self.ending, self.failure = threading.Event(), None

    def run(self):
        try:
            self.work()
        except Exception as error:  # noqa: BLE001  # told when it is joined
            self.failure = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.ending.set()
        self.join()
        if self.failure is not None and kind is None:
            raise self.failure


class Load(Background):
    """Sends (key, value) records at a steady pace, over and over: a repeat changes nothing. ``landed`` is where.

    When it is told to finish, it sends at once what was not sent yet.
    """

    def __init__(self, place, records, per_s):
        super().__init__(f"load {place.name}")
        self.place, self.records, self.per_s, self.landed = place, records, per_s, []

    def work(self):
        began = time.monotonic()
        while not self.ending.wait(SLICE_S):
            self._send_until(int((time.monotonic() - began) * self.per_s))
        self._send_until(len(self.records))

    def _send_until(self, count):
        numbers = range(len(self.landed), count)
        self.landed += self.place.send([self.records[number % len(self.records)] for number in numbers])

    def finish(self):
        """Send what is left and wait for it."""
        self.__exit__(None)


class Kept(Background):
    """A worker that is started again whenever it ends, as an orchestrator does.

    It may end with 4 and nothing else: when a fault, or a machine with too much else to do, kept it from its broker or
    its loop for too long.
    """

    def __init__(self, place, **environment):
        super().__init__(f"keeper {place.name}")
        self.place, self.environment, self.ends = place, environment, []
        self.worker = place.start(**environment)

    def work(self):
        while not self.ending.wait(0.05):
            if self.worker.process.poll() is not None:
                self._again()

    def _again(self):
        code = self.worker.process.returncode
        self.ends.append(code)
        if code != -signal.SIGKILL:
            assert code == UnreachableError.exit_code, self.worker.log[-4000:]
        self.worker = self.place.start(**self.environment)

    def alive(self):
        """True, or what went wrong with keeping it."""
        if self.failure is not None:
            raise self.failure
        return True

    def kill(self):
        """End it with SIGKILL; gives the moment. It is started again."""
        self.worker.process.kill()
        self.worker.process.wait()
        return time.monotonic()

    def let_go(self):
        """Keep it no more, and give the worker there is."""
        self.__exit__(None)
        return self.worker

    def stop(self):
        """End it in order."""
        assert self.let_go().stop() == 0, self.worker.log[-4000:]

    def metric(self, name, **labels):
        """A metric of the worker there is; 0 while there is none."""
        return self._see(lambda worker: worker.metric(name, **labels)) or 0

    @property
    def processed(self):
        """How many request records the worker there is was handed since it started."""
        return self.metric("events_total", topic=self.place.requests)

    @property
    def partitions(self):
        """The request partitions it speaks for, as one text; empty while it is not ready."""
        page = self._see(lambda worker: worker.page() if worker._get("/ready") == 200 else "") or ""
        shown = re.findall(r'^streamdetect_watermark_seconds\{[^}]*partition="(\d)"', page, re.MULTILINE)
        return "".join(sorted(set(shown)))

    def until_working(self, what="after the start"):
        """Wait until it is handed request records; what is sent goes on while it does."""
        worker, began = self.worker, time.monotonic()
        start = self.processed if worker.process.poll() is None else 0

        def moved():
            nonlocal worker, start
            if self.worker is not worker:
                worker, start = self.worker, 0
            return self.processed > start

        until(moved, f"records to be processed {what}")
        return time.monotonic() - began

    def _see(self, look):
        worker = self.worker
        try:
            return look(worker)
        except AssertionError:
            if worker.process.poll() is None:
                raise
            return None


def faulty_world(bootstrap, folder, policy=POLICY, **environment):
    """A world with the policy of the crowd, on the event clock."""
    (folder / "policy.toml").write_text(policy)
    settings = {"POLICY_FILE": str(folder / "policy.toml"), "MODE": "live", "CLOCK": "event", **environment}
    return world(bootstrap, folder, **settings)


def records_of(crowd: Crowd):
    return [(event["account_id"].encode(), line) for event, line in zip(crowd.events, crowd.lines, strict=True)]
