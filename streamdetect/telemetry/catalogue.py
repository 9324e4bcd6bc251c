"""Every metric as data, and the registry they live in.

Names are ``streamdetect_`` + name (+ ``_total`` on counters), in base units. No label may hold an id, an address or a
text: labels are topics, partitions, stages and members of closed sets, so the deployment bounds the number of series.
``Metrics`` owns its registry: two of them in one process do not meet.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from streamdetect import __version__

PREFIX: Final = "streamdetect_"
IMAGE_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CHUNK_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
DECISION_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

_Wrapper = TypeVar("_Wrapper", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: what it counts, and what to do when it moves."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    action: str
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name on the metrics page."""
        return PREFIX + self.name + ("_total" if self.kind == "counter" else "")


def _counter(name: str, meaning: str, action: str, *labels: str, unit: str = "") -> MetricSpec:
    return MetricSpec(name, "counter", unit, labels, meaning, action)


def _gauge(name: str, meaning: str, action: str, *labels: str, unit: str = "") -> MetricSpec:
    return MetricSpec(name, "gauge", unit, labels, meaning, action)


def _histogram(name: str, meaning: str, action: str, *labels: str, buckets: tuple[float, ...]) -> MetricSpec:
    return MetricSpec(name, "histogram", "seconds", labels, meaning, action, buckets)


CATALOGUE: Final = (
    _gauge("build_info", "Always 1; the version is a label.", "-", "version"),
    _counter("events", "Records read.", "Zero while gateways serve: check the request topic and the group.", "topic"),
    _counter("bytes", "Bytes of records read.", "Grows faster than events: prompts got longer.", "topic", unit="bytes"),
    _gauge(
        "lag_seconds",
        "Age, by broker time, of the newest record processed while others wait; 0 when none does.",
        "Above the brake's bound no new restriction is issued: add workers or find the slow stage.",
        *("topic", "partition"),
        unit="seconds",
    ),
    _gauge("lag_records", "Records not read yet.", "Grows steadily: add workers.", "topic", "partition"),
    _gauge(
        "watermark_seconds",
        "Newest event time of the partition, since the epoch.",
        "One partition stands still: its gateway or its key is broken.",
        *("topic", "partition"),
        unit="seconds",
    ),
    _histogram(
        "chunk_seconds",
        "Time to process one chunk.",
        "p99 rises: a stage became slow; compare stages.",
        "stage",
        buckets=CHUNK_BUCKETS_S,
    ),
    _histogram(
        "decision_seconds",
        "From the newest record of a chunk being appended to the decisions it led to being delivered, by stage.",
        "p99 rises: look at lag, then at queue waits.",
        "stage",
        buckets=DECISION_BUCKETS_S,
    ),
    _counter("dead_letters", "Records that could not be read.", "Read the dead-letter topic: code and field.", "code"),
    _counter("late", "Events older than what is kept of their key; counted only.", "A gateway delivers late."),
    _counter("duplicates", "Events seen before; they change nothing.", "Rises after restarts; else a gateway repeats."),
    _counter("refused", "Events of requests the gateway refused.", "Follows enforcement."),
    _counter(
        "misplaced_keys",
        "Events with a null key, or on a partition their key does not hash to.",
        "Set the producer's partitioner to murmur2 and key by account.",
        "kind",
    ),
    _counter(
        "events_without",
        "Events that lack a kind of evidence.",
        "Evidence families that need it are off: fill the field at the gateway.",
        "what",
    ),
    _counter(
        "decisions", "Decisions.", "A jump: look at campaigns, then at the brake.", "action", "status", "simulated"
    ),
    _counter(
        "held", "Restrictions the brake or a cap held back.", "Find out why so many; raise the bound only then.", "by"
    ),
    _gauge("queue_records", "Records in a queue now.", "Near its bound: the far side is slow.", "queue"),
    _counter("queue_waits", "Times somebody waited because a queue was full.", "The far side is slow.", "queue"),
    _counter("links_rows", "Rows sent about shared things.", "Compare with events."),
    _counter("evidence_rows", "Rows of evidence sent back.", "A jump: a shared thing became hot."),
    _gauge("tracked_accounts", "Accounts in memory.", "Near capacity: evictions follow."),
    _gauge("tracked_keys", "Shared things in memory.", "Near capacity: evictions follow."),
    _counter(
        "evictions", "Entries dropped because a bound was reached.", "Raise the capacity: evidence is lost.", "kind"
    ),
    _counter("images", "Images of state delivered to the changelog.", "Zero under load: nothing is acked any more."),
    _counter(
        "image_bytes",
        "Bytes of those images.",
        "Compare with events: a stage changes more than it should.",
        unit="bytes",
    ),
    _histogram(
        "image_seconds",
        "From capturing an image to its delivery.",
        "p99 near the interval: the changelog is slow, and acks with it.",
        buckets=IMAGE_BUCKETS_S,
    ),
    _histogram(
        "restore_seconds",
        "Time to restore the partitions that came to this worker.",
        "Rises with the state: more workers, or a smaller interval of images.",
        buckets=IMAGE_BUCKETS_S,
    ),
    _gauge("queued_chunks", "Chunks delivered and not begun.", "At 16 for long: the worker is at its limit.", "topic"),
    _gauge("unsaved_chunks", "Chunks processed whose image is not delivered yet.", "Grows: the changelog is slow."),
    _counter(
        "stale_records", "Late records of a stale owner that were overwritten.", "Some worker stands still at times."
    ),
    _counter(
        "recreated",
        "Partitions found, when restored, to be of a topic that was deleted and made again.",
        "Who deleted it? What it held and was not read is lost.",
        "topic",
    ),
    _counter(
        "lost_records",
        "Records, or holes, that a topic no longer kept when a worker came to read them.",
        "Workers were away for longer than the topic keeps records: raise its retention.",
        "topic",
    ),
    _counter(
        "policies", "Records of the policy obeyed: taken, refused, withdrawn.", "Refused: read the log.", "status"
    ),
    _gauge("policy_waiting", "1 while a policy was told and is not in effect everywhere.", "It waits for event time."),
    _counter(
        "overrides",
        "Records of overrides read, by effect; cleared, unreadable.",
        "Unreadable: see who writes.",
        "kind",
    ),
    _gauge("kill_switch", "1 while nothing new is put in force because people said so.", "Ask who set it, and why."),
    _counter("restarts", "Times a follower lost its broker and started again.", "The broker is unwell.", "topic"),
)


class Metrics:
    """The metrics of one process, by the names of the catalogue."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._by_name = {spec.name: _make(spec, self.registry) for spec in CATALOGUE}
        self.gauge("build_info").labels(__version__).set(1)

    def counter(self, name: str) -> Counter:
        """A counter of the catalogue; hold the labelled child where it is used often."""
        return self._typed(name, Counter)

    def gauge(self, name: str) -> Gauge:
        """A gauge of the catalogue."""
        return self._typed(name, Gauge)

    def histogram(self, name: str) -> Histogram:
        """A histogram of the catalogue."""
        return self._typed(name, Histogram)

    def page(self) -> bytes:
        """The text a Prometheus server scrapes."""
        return generate_latest(self.registry)

    def _typed(self, name: str, kind: type[_Wrapper]) -> _Wrapper:
        metric = self._by_name[name]
        assert isinstance(metric, kind), f"{name} is not a {kind.__name__}"
        return metric


def _make(spec: MetricSpec, registry: CollectorRegistry) -> MetricWrapperBase:
    name = PREFIX + spec.name
    if spec.kind == "counter":
        return Counter(name, spec.meaning, spec.labels, registry=registry)
    if spec.kind == "gauge":
        return Gauge(name, spec.meaning, spec.labels, registry=registry)
    return Histogram(name, spec.meaning, spec.labels, registry=registry, buckets=spec.buckets)
