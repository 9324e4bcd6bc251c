"""Replay from inputs to files: read, accept, order, rounds, results. The same input and policy give the same bytes."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from streamdetect import __version__
from streamdetect.errors import BadDataError
from streamdetect.kernels.chunk import Chunk, chunk_of
from streamdetect.messages.decision import Decision, Mode
from streamdetect.pipeline.accept.decode import decode_accounts
from streamdetect.pipeline.accounts.records import account_hash
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.replay.attack import Attack
from streamdetect.replay.detectors import Detector, Recorded
from streamdetect.replay.feed import Feed, FeedOptions
from streamdetect.replay.figures import figures
from streamdetect.replay.loop import ClosedLoop, OpenLoop, Passing
from streamdetect.replay.report import DecisionLog, page
from streamdetect.replay.rounds import Rounds
from streamdetect.replay.truth import Truth

ACTIONS = ("observe", "rate_limit", "verify", "suspend", "release")


@dataclass(frozen=True, slots=True)
class Options:
    """How to replay. Times are event time in ms; ``from_ms`` and ``to_ms`` bound the events taken, half-open."""

    mode: Mode = "live"
    partitions: int = 1
    batch_events: int = 2_000
    lateness_ms: int = 3_600_000
    hold_events: int = 100_000
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Grading:
    """Grade a replay against labels; ``closed``: what is denied never reaches the detector, and attackers answer."""

    truth: Truth
    closed: bool = False
    attack: Attack = field(default_factory=Attack)
    passing: Passing = field(default_factory=Passing)
    seed: int = 0


@dataclass(slots=True)
class Replay:
    """One replay: push chunks, take decisions.

    ``recorded`` are decisions made before, by whatever detector, to be graded instead of deciding.
    """

    policy: CompiledPolicy
    options: Options = field(default_factory=Options)
    grading: Grading | None = None
    recorded: list[Decision] | None = None
    rounds: Rounds = field(init=False)
    feed: Feed = field(init=False)
    loop: OpenLoop | ClosedLoop | None = field(init=False)

    def __post_init__(self) -> None:
        options, model, grading = self.options, self.policy.model, self.grading
        self.rounds = Rounds(self.policy, options.mode, options.partitions, options.batch_events)
        detector = self.rounds if self.recorded is None else Recorded(self.recorded, model.round_ms)
        if grading is None:
            self.loop = None
        elif grading.closed:
            self.loop = ClosedLoop(
                detector, grading.truth, model.round_ms, grading.attack, grading.passing, grading.seed
            )  # fmt: skip
        else:
            self.loop = OpenLoop(detector, grading.truth)
        self.feed = Feed(
            FeedOptions(
                model.round_ms, model.max_ahead_ms, options.lateness_ms, options.hold_events,
                options.from_ms, options.to_ms,
            )
        )  # fmt: skip

    @property
    def detector(self) -> Detector:
        """What takes the rounds."""
        return self.rounds if self.loop is None else self.loop

    def learn(self, lines: Chunk) -> None:
        """Take in what the provider says of accounts, before the first event."""
        entries, rejects = decode_accounts(lines)
        self.feed.dead_letters.update(reject.code for reject in rejects)
        known = [(entry.account_id, entry.account) for entry in entries]
        if self.loop is not None:
            self.loop.gateway.learn(known)
        homes = [int(account_hash(account_id)) % self.options.partitions for account_id, _ in known]
        for number, node in enumerate(self.rounds.accounts):
            node.records([record for record, home in zip(known, homes, strict=True) if home == number])

    def push(self, chunk: Chunk) -> Iterator[list[Decision]]:
        """Take in a chunk of lines; yields the decisions of every round it completes."""
        for columns, start_ms in self.feed.push(chunk):
            yield self.detector.round(columns, start_ms)

    def finish(self) -> Iterator[list[Decision]]:
        """Process what still waits."""
        for columns, start_ms in self.feed.finish():
            yield self.detector.round(columns, start_ms)
        yield self.detector.finish()


def replay_files(
    chunks: Iterator[Chunk],
    output: Path,
    policy: CompiledPolicy,
    options: Options,
    *,
    accounts: Path | None = None,
    grading: Grading | None = None,
    recorded: list[Decision] | None = None,
    after_chunk: Callable[[int], None] = lambda _events: None,
) -> dict[str, Any]:
    """Replay ``chunks`` into ``output`` (made if missing).

    Writes ``decisions.jsonl``, ``summary.json`` and ``report.html``, and returns the summary. Raises ``BadDataError``
    if ``accounts`` is missing.
    """
    started, cpu = time.perf_counter(), time.process_time()
    replay = Replay(policy, options, grading, recorded)
    counts: Counter[str] = Counter()
    by_hour = DecisionLog()
    if accounts is not None:
        try:
            replay.learn(chunk_of(str(accounts), 0, accounts.read_bytes().splitlines()))
        except OSError as error:
            raise BadDataError(f"{accounts}: cannot be read: {error.strerror}") from None
    output.mkdir(parents=True, exist_ok=True)
    with (output / "decisions.jsonl").open("wb") as log:
        for chunk in chunks:
            for decisions in replay.push(chunk):
                _write(log, decisions, counts, by_hour)
            after_chunk(len(chunk))
        for decisions in replay.finish():
            _write(log, decisions, counts, by_hour)
    summary = _summary(replay, counts, time.perf_counter() - started, time.process_time() - cpu)
    (output / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    evaluation = None if replay.loop is None else replay.loop.evaluation
    (output / "report.html").write_text(page(summary, by_hour, evaluation), "utf-8")
    return summary


def _write(log: Any, decisions: list[Decision], counts: Counter[str], by_hour: DecisionLog) -> None:
    for decision in decisions:
        log.write(decision.to_bytes() + b"\n")
        counts[decision.action] += 1
        by_hour.add(decision.action, decision.issued_at)


def _summary(replay: Replay, counts: Counter[str], wall_s: float, cpu_s: float) -> dict[str, Any]:
    feed = replay.feed
    span_ms = 0 if feed.first_at is None or feed.last_at is None else feed.last_at - feed.first_at
    return {
        "events": feed.events,
        "dead_letters": sum(feed.dead_letters.values()),
        "dead_letters_by_code": dict(sorted(feed.dead_letters.items())),
        "out_of_order": feed.overtaken,
        **_counted(replay),
        "decisions": {action: counts[action] for action in ACTIONS},
        "campaigns": 0,
        "evidence_families_off": _missing_evidence(replay),
        "event_seconds": span_ms / 1000,
        "wall_seconds": round(wall_s, 3),
        "cpu_seconds": round(cpu_s, 3),
        "policy": {"id": replay.policy.model.id, "version": replay.policy.model.version, "hash": replay.policy.hash},
        "mode": replay.options.mode,
        "version": __version__,
        **_grades(replay),
    }


def _counted(replay: Replay) -> dict[str, int | None]:
    """What the detector has counted; ``None`` where decisions of another one are graded, for then it saw nothing."""
    counters, rounds = replay.rounds.counters, replay.rounds
    found: dict[str, int | None] = {
        "late": counters.late,
        "duplicates": counters.duplicates,
        "refused": counters.refused,
        "accounts": sum(node.state.table.count for node in rounds.accounts),
        "keys": sum(node.state.table.count for node in rounds.associations),
    }
    return found if replay.recorded is None else dict.fromkeys(found)


def _grades(replay: Replay) -> dict[str, Any]:
    """What labels make of it; nothing without them."""
    if replay.loop is None:
        return {}
    graded = figures(replay.loop.evaluation)
    return graded | {"evaluation": replay.loop.told() | graded["evaluation"]}


def _missing_evidence(replay: Replay) -> list[str]:
    """Families that no event had anything to say about."""
    counters = replay.rounds.counters
    missing = {
        "content": counters.without_content,
        "network": counters.without_address,
        "population": counters.without_age,
    }
    return [family for family, count in missing.items() if counters.events and count == counters.events]
