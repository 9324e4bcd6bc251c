"""How far the request partitions of this process were read, and which may go on.

No partition runs further ahead of the others, in event time, than the policy says (``max_skew_ms``), while the others
have something to read: what is counted per shared key then comes in the order in which it happened, also after an
outage. A watermark moves when a chunk has been processed, so of one partition only one chunk is on its way while others
are busy; a chunk spans ``ChunkLimits.span_ms`` of broker time at most.
"""

import math
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from faust.types import TP

from streamdetect.worker.detector import Detector, Place

# A partition whose end the broker has not told yet may hold the oldest records of all. It is waited for so long after
# an assignment, not for ever: one without a leader must not stop the others.
HEARD_WITHIN_S: Final = 10.0
# One that has records and gives none for so long has no leader, or is unwell. The order between partitions is worth
# less than to go on with the others.
SILENT_MAX_S: Final = 30.0


class Pace:
    """``consumer`` gives the app's consumer. ``processed`` is to be told of every chunk."""

    def __init__(
        self,
        detector: Detector,
        consumer: Callable[[], Any],
        request_topics: Collection[str],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._detector, self._consumer, self._now_s = detector, consumer, now_s
        self._topics = frozenset(request_topics)
        self._assigned_at_s = 0.0
        self._silent: dict[TP, tuple[int, float]] = {}  # what was passed, and since when nothing has come after it
        self.partitions: list[TP] = []

    def assigned(self, partitions: Collection[TP]) -> None:
        """Go by the request partitions among these from now on."""
        self.partitions = sorted(tp for tp in partitions if tp.topic in self._topics)
        self._assigned_at_s = self._now_s()
        self._silent = {}

    def processed(self) -> None:
        """A chunk was processed."""
        self._consumer().look_again()

    def lag_records(self, tp: TP) -> int:
        """Records of a partition not processed yet; 0 while the broker has not told its end."""
        return max(0, (self._consumer().highwater(tp) or 0) - self.passed((tp.topic, tp.partition)))

    def passed(self, place: Place) -> int:
        """Offset before which all of a partition was processed or, while nothing is under way, holds no record."""
        consumer, tp = self._consumer(), TP(*place)
        position = self._detector.position(place)
        return position + 1 if consumer.delivered(tp) > position else max(position + 1, consumer.reached(tp))

    def watermark_ms(self, tp: TP) -> int:
        """Newest believed event time of a partition, 0 before the first."""
        return self._detector.watermark_ms(tp.partition)

    def behind_ms(self, tp: TP) -> int:
        """How much older than now the newest processed record is, by broker time; 0 when nothing waits.

        Of a partition that came with a state that is the newest in it, from the beginning.
        """
        if not self._busy(tp):
            return 0
        stamp_ms = self._detector.stamp_ms((tp.topic, tp.partition))
        return max(0, int(time.time() * 1000) - stamp_ms) if stamp_ms >= 0 else 0

    def behind_s(self) -> float:
        """The same of the partition that is furthest behind, in seconds; without end while none is ours."""
        return max(map(self.behind_ms, self.partitions), default=math.inf) / 1000

    def may_go_on(self, tp: TP) -> bool:
        """Whether the next chunk of a partition may be handed out; always for what is no request topic."""
        if tp.topic not in self._topics:
            return True
        watermark_ms = self._detector.watermark_ms(tp.partition)
        floor_ms = watermark_ms - self._detector.max_skew_ms(tp.partition)
        on_its_way = self._consumer().delivered(tp) > self._detector.position((tp.topic, tp.partition))
        others = (other for other in self.partitions if other.partition != tp.partition and self._is_waited_for(other))
        return all(not on_its_way and self._detector.watermark_ms(other.partition) >= floor_ms for other in others)

    def _busy(self, tp: TP) -> bool:
        if self._consumer().highwater(tp) is None:
            return self._now_s() < self._assigned_at_s + HEARD_WITHIN_S
        return self.lag_records(tp) > 0

    def _is_waited_for(self, tp: TP) -> bool:
        """Whether the others wait for a partition: it has something to read, and gives it."""
        if not self._busy(tp):
            self._silent.pop(tp, None)  # it gives nothing because it has nothing
            return False
        place = (tp.topic, tp.partition)
        passed, consumer = self.passed(place), self._consumer()
        gives = consumer.has_more(tp) or consumer.delivered(tp) > self._detector.position(place)
        before, since_s = self._silent.get(tp, (-1, 0.0))
        if gives or passed != before:
            self._silent[tp] = passed, self._now_s()
            return True
        return self._now_s() - since_s < SILENT_MAX_S
