"""What a worker shows of itself once a second: gauges, counters that are kept elsewhere, the policies in effect."""

from streamdetect.telemetry.catalogue import Metrics
from streamdetect.telemetry.logs import log
from streamdetect.worker.detector import Detector
from streamdetect.worker.pace import Pace


class Gauges:
    """Remembers what was shown last, where a metric counts or a line is logged when something changes."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted: dict[tuple[str, ...], int] = {}
        self._in_effect: set[str] = set()

    def show_partitions(self, pace: Pace) -> None:
        """How far each request partition is; one that went to another worker is not ours to report."""
        metrics = self._metrics
        for name in ("lag_records", "watermark_seconds", "lag_seconds"):
            metrics.gauge(name).clear()
        for tp in pace.partitions:
            labels = (tp.topic, str(tp.partition))
            metrics.gauge("lag_records").labels(*labels).set(pace.lag_records(tp))
            metrics.gauge("watermark_seconds").labels(*labels).set(pace.watermark_ms(tp) / 1000)
            metrics.gauge("lag_seconds").labels(*labels).set(pace.behind_ms(tp) / 1000)

    def show_state(self, detector: Detector, unsaved_chunks: int, rewritten: int) -> None:
        """What is remembered, what was forgotten, what waits to be saved, what was put right."""
        self._metrics.gauge("tracked_accounts").set(detector.tracked_accounts)
        self._metrics.gauge("tracked_keys").set(detector.tracked_keys)
        self._metrics.gauge("unsaved_chunks").set(unsaved_chunks)
        self._count(detector.evicted, "evictions", "state")
        self._count(detector.dropped_facts, "evictions", "facts")
        self._count(rewritten, "stale_records")

    def show_policies(self, detector: Detector, *, killed: bool) -> None:
        """Which policies are in effect, whether one waits, and whether people have stopped enforcement."""
        self._metrics.gauge("policy_waiting").set(detector.waits)
        self._metrics.gauge("kill_switch").set(killed)
        in_effect = detector.in_effect
        if (hashes := set(in_effect)) != self._in_effect:
            self._in_effect = hashes
            told = [{"version": one.model.version, "policy_hash": one.hash} for one in in_effect.values()]
            log(__name__).info("policies in effect", policy=detector.policy.model.id, in_effect=told)

    def _count(self, so_far: int, name: str, *labels: str) -> None:
        """Add to a counter what came since the last time; less than then is a shard that went."""
        counter = self._metrics.counter(name)
        before = self._counted.get((name, *labels), 0)
        (counter.labels(*labels) if labels else counter).inc(max(0, so_far - before))
        self._counted[name, *labels] = so_far
