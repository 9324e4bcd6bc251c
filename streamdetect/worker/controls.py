"""What people tell a running worker: policies and overrides, read to their ends before the first chunk, then followed.

The worker obeys the policy id it was started with. A record of that id on ``policy.v1`` goes before the file it was
started with; one that is wrong is refused, with line and column, and the policy in effect stays. Nothing on these
topics can stop the worker.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Self

from streamdetect.errors import PolicyError
from streamdetect.kafka.fold import Record
from streamdetect.kafka.follower import Follower, stop_all
from streamdetect.kafka.plan import OVERRIDES, POLICY
from streamdetect.messages.decision import Decision
from streamdetect.messages.override import Override
from streamdetect.messages.reading import read
from streamdetect.pipeline.decisions.policy import CompiledPolicy, load_policy, policy_text
from streamdetect.pipeline.enforcement.overrides import KILL_KEY, unless_over
from streamdetect.settings import Settings
from streamdetect.telemetry.catalogue import Metrics
from streamdetect.telemetry.logs import log
from streamdetect.worker.detector import Detector

_log = log(__name__)

Lifted = Callable[[int, Sequence[Decision]], None]


class Controls:
    """``async with Controls(...)``: inside, everything told before is known to the detector.

    ``lifted`` is called with the decisions that an override led to, by partition.
    """

    def __init__(self, settings: Settings, start: CompiledPolicy, detector: Detector, metrics: Metrics) -> None:
        self._settings, self._id, self._detector, self._metrics = settings, start.model.id, detector, metrics
        self._kill: Override | None = None
        self.lifted: Lifted = lambda _partition, _decisions: None
        self._followers = (
            Follower(settings, settings.topic(POLICY), self.take_policy, metrics=metrics),
            Follower(settings, settings.topic(OVERRIDES), self.take_override, metrics=metrics),
        )

    async def __aenter__(self) -> Self:
        for follower in self._followers:
            follower.start()
        try:
            await asyncio.gather(*(follower.until_ready() for follower in self._followers))
        except BaseException:
            await stop_all(self._followers)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_all(self._followers)

    def check(self) -> None:
        """Raise what ended the following, if anything did: a worker that hears nobody must not go on."""
        for follower in self._followers:
            follower.check()

    def killed(self, now_ms: int | None = None) -> bool:
        """Whether the kill switch is on at a time; by wall clock without one."""
        return unless_over(self._kill, time.time_ns() // 1_000_000 if now_ms is None else now_ms) is not None

    def take_policy(self, record: Record) -> None:
        """Take one record of the policy topic."""
        if record.key != self._id.encode():
            return
        if record.value is None:
            self._detector.withdraw()
            self._metrics.counter("policies").labels("withdrawn").inc()
            _log.info("policy withdrawn", policy=self._id)
            return
        source = f"{self._settings.topic(POLICY)} offset {record.offset}"
        try:
            policy = _policy_in(record.value, self._id, source)
        except Exception as error:  # noqa: BLE001  what somebody wrote there must not end the worker, however odd
            self._detector.refuse()
            self._metrics.counter("policies").labels("refused").inc()
            told = error if isinstance(error, PolicyError) else PolicyError(type(error).__name__, source=source)
            _log.warning("policy refused", policy=self._id, line=told.line, column=told.column, problem=str(told))
            return
        self._detector.schedule(policy)
        self._metrics.counter("policies").labels("taken").inc()
        model = policy.model
        _log.info(
            "policy taken", policy=model.id, version=model.version, policy_hash=policy.hash,
            effective_at=model.effective_at,
        )  # fmt: skip

    def take_override(self, record: Record) -> None:
        """Take one record of the overrides topic."""
        key = record.key.decode(errors="replace")
        override = None if record.value is None else read(Override, record.value)
        if override is not None and (not isinstance(override, Override) or override.key != key):
            self._metrics.counter("overrides").labels("unreadable").inc()
            _log.warning("override cannot be read", topic=self._settings.topic(OVERRIDES), offset=record.offset)
            return
        if key == KILL_KEY:
            self._kill = override
            _log.warning("kill switch", on=override is not None)
        self._metrics.counter("overrides").labels("cleared" if override is None else override.effect).inc()
        for partition, decisions in self._detector.heed(key, override).items():
            self.lifted(partition, decisions)


def _policy_in(value: bytes, policy_id: str, source: str) -> CompiledPolicy:
    """The policy in a record. Raises ``PolicyError``."""
    policy = load_policy(policy_text(value, source), source)
    if policy.model.id != policy_id:
        raise PolicyError(f"its id is {policy.model.id}, but its key is {policy_id}", source=source)
    return policy
