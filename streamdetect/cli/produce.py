"""``streamdetect produce``: send recorded events to the request topic, keyed by account.

Lines travel as they are; only ``--rebase`` writes them anew, with every instant shifted by one amount, so that the ages
of accounts stay what they were. A line that is no event is sent too: the detector is what judges it.
"""

import asyncio
import contextlib
import gzip
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import orjson
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamdetect.errors import BadDataError, UsageError
from streamdetect.kafka.outbox import Outbox
from streamdetect.kafka.plan import ACCOUNTS
from streamdetect.kafka.topics import create_and_check
from streamdetect.messages.base import INSTANT_MAX_MS, parse_instant
from streamdetect.messages.request import unwrapped
from streamdetect.settings import load_settings
from streamdetect.telemetry.logs import configure_logs

# Stock brokers refuse records above 1 MiB; a longer line is counted and left out.
LINE_BYTES_MAX: Final = 1_000_000
STANDARD_INPUT: Final = "-"
INSTANTS: Final = ("occurred_at", "account_created_at")
ACCOUNT_INSTANTS: Final = ("created_at", "verified_at", "deleted_at")
# Sleeping costs more than being this early.
PACE_SLACK_S: Final = 0.002

_Advance = Callable[[int], None]


@dataclass(slots=True)
class Sent:
    """What one run sent. ``unreadable`` lines were sent with a null key, ``too_long`` ones were not."""

    events: int = 0
    bytes: int = 0
    unreadable: int = 0
    too_long: int = 0
    accounts: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """When an event may go: evenly at ``rate`` a second, at ``speed`` times life, or at once."""

    rate: float | None
    speed: float | None
    began: float

    async def wait(self, count: int, since_first_ms: int) -> None:
        """Wait for the turn of event number ``count``, which occurred so long after the first."""
        due = self.began
        if self.rate is not None:
            due += count / self.rate
        elif self.speed is not None:
            due += since_first_ms / 1000 / self.speed
        if (early := due - time.monotonic()) > PACE_SLACK_S:
            await asyncio.sleep(early)


def produce(
    *files: Annotated[str, Parameter(allow_leading_hyphen=True, help="Files of events, or -.")],
    rate: Annotated[float | None, Parameter(help="Events per second.")] = None,
    speed: Annotated[float | None, Parameter(help="Times life: 1 keeps the pace of the recording.")] = None,
    rebase: Annotated[bool, Parameter(negative="", help="Shift all times to now.")] = False,
    accounts: Annotated[Path | None, Parameter(help="Account records to send first, one JSON object a line.")] = None,
    topic: Annotated[str | None, Parameter(help="Full name; the first request topic unless told.")] = None,
    config: Annotated[Path | None, Parameter(help="Settings file, TOML.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print the figures as JSON.")] = False,
) -> None:
    """Send files of events (.jsonl, .jsonl.gz, or - for standard input) to the request topic.

    With --rebase the newest event gets the time of now, so that none lies ahead; with --speed up to 1 the first does.
    """
    _check(files, rate, speed, rebase=rebase)
    if accounts is not None and not accounts.is_file():
        raise BadDataError(f"{accounts}: no such file")
    configure_logs("critical")
    settings = load_settings(config)
    total = sum(Path(name).stat().st_size for name in files if name != STANDARD_INPUT)
    shift_ms = _shift_ms(files, from_first=speed is not None and speed <= 1) if rebase else 0

    async def run(advance: _Advance) -> Sent:
        await create_and_check(settings, create=False)
        began, sent = time.monotonic(), Sent()
        async with Outbox(settings) as outbox:
            if accounts is not None:
                await _send_accounts(outbox, settings.topic(ACCOUNTS), accounts, shift_ms, sent)
            pace = Pace(rate, speed, time.monotonic())
            await _send_events(
                outbox, topic or settings.request_topics[0], _lines(files, advance), shift_ms, pace, sent
            )
        sent.seconds = time.monotonic() - began
        return sent

    with _progress(total) as advance:
        sent = asyncio.run(run(advance))
    _tell(sent, json=json)


def _check(files: tuple[str, ...], rate: float | None, speed: float | None, *, rebase: bool) -> None:
    if not files:
        raise UsageError("produce needs at least one file, or - for standard input")
    if rate is not None and speed is not None:
        raise UsageError("--rate and --speed exclude each other")
    if any(pace is not None and pace <= 0 for pace in (rate, speed)):
        raise UsageError("--rate and --speed must be above 0")
    if rebase and STANDARD_INPUT in files:
        raise UsageError("--rebase reads the input twice, which standard input cannot do")
    for name in files:
        if name != STANDARD_INPUT and not Path(name).is_file():
            raise BadDataError(f"{name}: no such file")


async def _send_events(
    outbox: Outbox, topic: str, lines: Iterator[bytes], shift_ms: int, pace: Pace, sent: Sent
) -> None:
    first_ms: int | None = None
    for line in lines:
        if len(line) > LINE_BYTES_MAX:
            sent.too_long += 1
            continue
        event = _event(line)
        account, occurred_ms = (event.get("account_id"), _instant(event.get("occurred_at"))) if event else (None, None)
        key = account.encode("utf-8", "surrogatepass") if isinstance(account, str) and account else None
        sent.unreadable += key is None or occurred_ms is None
        if first_ms is None:
            first_ms = occurred_ms
        await pace.wait(sent.events, max(0, (occurred_ms or 0) - (first_ms or 0)) if occurred_ms is not None else 0)
        value = _shifted(line, INSTANTS, shift_ms) if shift_ms and key is not None else line
        await outbox.send(topic, value, key=key)
        sent.events += 1
        sent.bytes += len(value)


async def _send_accounts(outbox: Outbox, topic: str, path: Path, shift_ms: int, sent: Sent) -> None:
    for line in _lines((str(path),), lambda _count: None):
        record = _object(line)
        account = record.get("account_id") if record else None
        if not isinstance(account, str) or not account:
            raise BadDataError(f"{path}: account record {sent.accounts + 1} is no object with an account_id")
        value = _shifted(line, ACCOUNT_INSTANTS, shift_ms) if shift_ms else line
        await outbox.send(topic, value, key=account.encode())
        sent.accounts += 1


def _lines(files: tuple[str, ...], advance: _Advance) -> Iterator[bytes]:
    """Lines without their ends, empty ones left out. Reads at most one over-long line's worth at a time."""
    for name in files:
        try:
            with _opened(name) as (raw, file):
                told = 0
                while line := file.readline(LINE_BYTES_MAX + 2):
                    text = line.rstrip(b"\r\n")
                    if text:
                        yield text
                    if len(text) > LINE_BYTES_MAX:
                        _skip_rest(file, line)
                    place = raw.tell() if raw is not None else 0
                    advance(place - told)
                    told = place
        except (OSError, EOFError) as error:
            raise BadDataError(f"{name}: {error}") from None


@contextlib.contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO | None, BinaryIO]]:
    if name == STANDARD_INPUT:
        yield None, sys.stdin.buffer
        return
    with Path(name).open("rb") as raw:
        if name.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as file:
                yield raw, file  # type: ignore[misc]  # GzipFile reads like any binary file
        else:
            yield raw, raw


def _skip_rest(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(LINE_BYTES_MAX)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _event(line: bytes) -> dict[str, Any] | None:
    """The event in a line, out of its structured CloudEvent if it lies in one."""
    record = _object(line)
    return dict(unwrapped(record)) if record is not None else None


def _instant(value: object) -> int | None:
    if isinstance(value, str):
        return parse_instant(value)
    # Not every number that orjson reads can be written again after a shift.
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INSTANT_MAX_MS else None


def _shifted(line: bytes, names: tuple[str, ...], shift_ms: int) -> bytes:
    """The line with its instants moved; fields keep their order and other values."""
    record = orjson.loads(line)
    inner = unwrapped(record)
    assert isinstance(inner, dict)
    for name in names:
        instant = _instant(inner.get(name))
        if instant is not None:
            inner[name] = instant + shift_ms
    return orjson.dumps(record)


def _shift_ms(files: tuple[str, ...], *, from_first: bool) -> int:
    """How far to move all events so that the newest, or the first one, occurs now."""
    anchor: int | None = None
    for line in _lines(files, lambda _count: None):
        event = _event(line) if len(line) <= LINE_BYTES_MAX else None
        occurred_ms = _instant(event.get("occurred_at")) if event else None
        if occurred_ms is not None:
            anchor = occurred_ms if anchor is None else max(anchor, occurred_ms)
            if from_first:
                break
    if anchor is None:
        raise BadDataError("--rebase: no line has an occurred_at")
    return time.time_ns() // 1_000_000 - anchor


@contextlib.contextmanager
def _progress(total: int) -> Iterator[_Advance]:
    """A bar on standard error when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    columns = (TextColumn("produce"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("produce", total=total or None)
        yield lambda count: bar.advance(task, count)


def _tell(sent: Sent, *, json: bool) -> None:
    if json:
        print(orjson.dumps(sent).decode())
        return
    print(f"{sent.events:,} events sent in {sent.seconds:.1f} s ({sent.events / max(sent.seconds, 1e-9):,.0f}/s)")
    if sent.accounts:
        print(f"{sent.accounts:,} account records sent first")
    if sent.unreadable:
        print(f"{sent.unreadable:,} of them are no readable events; the detector will put them aside")
    if sent.too_long:
        print(f"{sent.too_long:,} lines are longer than {LINE_BYTES_MAX:,} bytes and were left out")
