"""The enforcement topic as its writers see it: what is in force, and late records of stale owners put right.

Compaction keeps the last record of a subject, whoever wrote it. A stale owner can be late by what it had handed to its
client library before it stood still; so what we wrote lately is compared with what appears after it, and an older
revision (or a tombstone that is not ours) is overwritten again, as long as the subject is ours. A higher revision of
somebody else is news to us. Two that both believe they own a subject would go on like that for ever: who has written
one again so often that no late record explains it ends, and starts again as a member of the group.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from streamdetect.errors import UnreachableError
from streamdetect.kafka.fold import Record
from streamdetect.messages.decision import Decision
from streamdetect.messages.reading import read
from streamdetect.pipeline.enforcement.rulings import SubjectKey, SubjectRecord, adopted_from
from streamdetect.ports import Sender, Stored
from streamdetect.telemetry.logs import log

WRITTEN_MAX: Final = 100_000
AGAIN_MAX: Final = 16  # twice what an owner can have on its way about one subject
_HEARTBEAT: Final = b"heartbeat:"
_log = log(__name__)


@dataclass(frozen=True, slots=True)
class _Written:
    revision: int
    value: bytes | None
    landed: "asyncio.Future[Stored]"
    again: int = 0  # how often in a row somebody else's record was overwritten


def _is_stale(record: Record, revision: int, written: _Written) -> bool:
    """Whether a record must not stand after what we wrote, if it came later."""
    if record.value is None:
        return written.value is not None
    return revision < written.revision or (revision == written.revision and record.value != written.value)


def _subject(key: str) -> SubjectKey:
    scope, _, value = key.partition(":")
    return scope, value  # type: ignore[return-value]  # whatever stands there, it is only looked up


async def _unless_it_ends(work: Coroutine[None, None, None]) -> None:
    """Whoever waits for our other records is told of a failure; this process ends."""
    with contextlib.suppress(UnreachableError):
        await work


class InForce:
    """Fold of the topic, kept current by ``seen`` (a follower's callback) and ``wrote`` (every record of ours).

    ``records`` is what the topic says is in force, for shards that begin. ``news`` is called with decisions of others,
    ``ours`` tells whether we decide on a subject now, ``guard`` raises when this process may not write any more.
    """

    def __init__(
        self,
        topic: str,
        sender: Sender,
        news: Callable[[Decision], None] = lambda _decision: None,
        *,
        ours: Callable[[SubjectKey], bool] = lambda _subject: True,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self.records: dict[SubjectKey, SubjectRecord] = {}
        self.unreadable = 0
        self.rewritten = 0
        self._contested = False
        self._topic, self._sender, self._news, self._ours, self._guard = topic, sender, news, ours, guard
        self._written: OrderedDict[bytes, _Written] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def stands(self, decision: Decision) -> bool:
        """Whether the topic has what a decision renews."""
        record = self.records.get(_subject(decision.subject.key))
        standing = None if record is None else record.tracks[0]
        return standing is not None and standing.decision_id == decision.decision_id

    def wrote(self, key: bytes, revision: int, value: bytes | None, landed: "asyncio.Future[Stored]") -> None:
        """Remember what we sent; the newest of a subject counts."""
        self._written[key] = _Written(revision, value, landed)
        self._written.move_to_end(key)
        if len(self._written) > WRITTEN_MAX:
            self._written.popitem(last=False)

    def seen(self, record: Record) -> None:
        """Take in a record of the topic."""
        if record.key.startswith(_HEARTBEAT):
            return
        decision = None if record.value is None else read(Decision, record.value)
        if decision is not None and not isinstance(decision, Decision):
            self.unreadable += 1
            return
        revision = self._fold(record.key, decision)
        written = self._written.get(record.key)
        if written is not None and not self._ours(_subject(record.key.decode(errors="replace"))):
            written = None  # it went to another owner, whose records are right
        if written is not None and _is_stale(record, revision, written):
            self._start(self._put_right(record, written))
        elif decision is not None and (written is None or revision > written.revision):
            self._news(decision)
            if written is not None:
                self._start(self._put_back(record, revision, written))

    def check(self) -> None:
        """Raise ``UnreachableError`` if somebody else decides on subjects of ours as if they were its own."""
        if self._contested:
            raise UnreachableError(
                f"{self._topic}: another process keeps writing about a subject that this one decides on, so it ends; "
                "start it again, and see that no worker of another group writes to the topic"
            )

    async def settle(self) -> None:
        """Wait until everything that had to be put right is."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _fold(self, key: bytes, decision: Decision | None) -> int:
        """Keep the newest record; returns its revision, 0 for a tombstone."""
        if decision is None:
            self.records.pop(_subject(key.decode(errors="replace")), None)
            return 0
        self.records |= adopted_from([decision])
        return decision.revision

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(_unless_it_ends(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put_back(self, record: Record, revision: int, written: _Written) -> None:
        """Write a newer record of somebody else again, if ours came after it."""
        landed = await written.landed
        if self._written.get(record.key) is written and landed.offset > record.offset:
            await self._write(record.key, revision, record.value, written)

    async def _put_right(self, record: Record, written: _Written) -> None:
        landed = await written.landed
        if self._written.get(record.key) is not written or record.offset < landed.offset:
            return  # it came before ours, or ours has been replaced
        await self._write(record.key, written.revision, written.value, written)

    async def _write(self, key: bytes, revision: int, value: bytes | None, before: _Written) -> None:
        self._guard()
        if before.again >= AGAIN_MAX:
            self._contested = True
            return
        _log.warning("a stale record is overwritten", topic=self._topic, revision=revision)
        self.rewritten += 1
        sent = await self._sender.send(self._topic, value, key=key)
        self.wrote(key, revision, value, sent)
        self._written[key] = _Written(revision, value, sent, before.again + 1)
        await sent
