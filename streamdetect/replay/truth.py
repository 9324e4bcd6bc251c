"""What is known of accounts afterwards, read from files: labels, and which exchanges of a campaign are cover traffic.

Labels cost about 250 bytes an account, with room for what is counted; cover costs 8 bytes an exchange. Nothing of this
ever reaches a detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from numba import njit
from numpy.typing import NDArray

from streamdetect.errors import BadDataError
from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.hashing import hash_spans
from streamdetect.kernels.index import NO_ROW, KeyedRows, find, find_or_add
from streamdetect.messages.label import Label
from streamdetect.messages.reading import Fault, read
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.pipeline.accounts.observe import event_hashes
from streamdetect.replay.sources import read_chunks

UNLABELLED, LEGIT, CAMPAIGN, OTHER_ABUSE = 0, 1, 2, 3
LABELS = ("unlabelled", "legit", "campaign", "other_abuse")
UNNAMED = "unnamed"
RUNGS = 4

ACCOUNT = np.dtype(
    [
        ("key", "u8"),
        ("label", "u1"),
        ("own_level", "u1"),  # of the account's own decision, observe 1 ... suspend 4; 0 none
        ("campaign", "i4"),
        ("cohort", "i4"),
        ("days", "i4"),  # UTC days with traffic
        ("last_day", "i4"),
        ("last_hour", "i4"),  # newest hour counted as active ...
        ("last_hit_hour", "i4"),  # ... and as restricted
        ("episodes", "i4", (RUNGS,)),  # unbroken stretches at exactly each rung
        ("first_at", "i8"),  # first request, of a campaign's account the first that is no cover; ms, 0 for never
        ("first_action_at", "i8", (RUNGS,)),  # the same, at each rung or a stronger one
        ("sent", "i8"),  # requests that reached the gateway
        ("denied", "i8"),
        ("planned", "i8"),  # exchanges that this account was to have
        ("leaked", "i8"),  # those of them that were served, to whichever account
        ("planned_tokens", "i8"),
        ("leaked_tokens", "i8"),
        ("gained", "i8"),  # planned exchanges, of whichever account, that this one was served
        ("gained_after", "i8"),  # those since its campaign was first restricted ...
        ("gained_hit", "i8"),  # ... and since it was itself
        ("own_until", "i8"),
        ("shared_at", "i8", (RUNGS,)),  # newest request that a shared subject's decision reached
        ("shared_until", "i8", (RUNGS,)),
    ],
    align=True,
)
_ID_SEED, _EVENT_SEED = np.uint64(0), np.uint64(1)


@dataclass(slots=True)
class Truth:
    """Labelled accounts as rows of ``ACCOUNT``, and the names their numbers stand for."""

    accounts: KeyedRows = field(default_factory=lambda: KeyedRows(ACCOUNT))
    campaigns: list[str] = field(default_factory=list)
    cohorts: list[str] = field(default_factory=list)
    cover: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def rows_of(self, account: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each account hash: ``int64[n]``, -1 where there is no label."""
        rows: NDArray[np.int64] = _find_all(self.accounts.slots, self.accounts.rows, account)
        return rows

    def is_cover(self, events: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which events (``event_hashes`` of requests) are cover traffic: ``bool[n]``."""
        if not len(self.cover):
            return np.zeros(len(events), np.bool_)
        places = np.minimum(np.searchsorted(self.cover, events), len(self.cover) - 1)
        return np.asarray(self.cover[places] == events)

    def add(self, key: np.uint64, label: int, campaign: int = NO_ROW, cohort: int = NO_ROW) -> int:
        """Label an account and return its row. Raises ``ValueError`` if it has a label already."""
        table = self.accounts
        table.reserve(1)
        row = int(find_or_add(table.slots, table.rows, table.count, key))
        if row < table.count:
            raise ValueError("this account has a label already")
        table.count += 1
        table.rows[row]["label"], table.rows[row]["campaign"], table.rows[row]["cohort"] = label, campaign, cohort
        return row


def read_truth(labels: Path, cover: Path | None = None) -> Truth:
    """Read labels and, if there is one, a list of cover traffic (objects with ``event_id`` and ``account_id``).

    Raises ``BadDataError`` for a file that cannot be read, a line that is no label, or an account labelled twice.
    """
    truth = truth_of(_read_labels(labels), str(labels))
    if cover is not None:
        truth.cover = _read_cover(cover)
    return truth


def truth_of(labels: Sequence[Label], source: str = "labels") -> Truth:
    """Labels as rows. Raises ``BadDataError`` for an account labelled twice."""
    truth = Truth()
    truth.accounts.reserve(len(labels))
    campaigns, cohorts = _Names(), _Names()
    keys = hashes_of([label.account_id.encode() for label in labels], _ID_SEED)
    for place, (key, label) in enumerate(zip(keys, labels, strict=True), 1):
        campaign = campaigns[label.campaign_id or UNNAMED] if label.label == "campaign" else NO_ROW
        try:
            truth.add(
                key, LABELS.index(label.label), campaign, NO_ROW if label.cohort is None else cohorts[label.cohort]
            )
        except ValueError as error:
            raise BadDataError(f"{source}:{place}: {error}") from error
    truth.campaigns, truth.cohorts = list(campaigns), list(cohorts)
    return truth


class _Names(dict[str, int]):
    """Numbers names in order of first sight."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


@njit(cache=True, nogil=True)
def _find_all(slots: NDArray[np.int32], rows: NDArray[np.void], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    found = np.empty(len(keys), np.int64)
    for index in range(len(keys)):
        found[index] = find(slots, rows, keys[index])
    return found


def _read_labels(path: Path) -> list[Label]:
    found: list[Label] = []
    for chunk in read_chunks([str(path)]):
        for record in range(len(chunk)):
            label = read(Label, chunk.value(record))
            if isinstance(label, Fault):
                raise BadDataError(f"{path}:{int(chunk.offsets[record]) + 1}: {label.message}")
            found.append(label)
    return found


def _read_cover(path: Path) -> NDArray[np.uint64]:
    parts: list[NDArray[np.uint64]] = []
    for chunk in read_chunks([str(path)]):
        try:
            lines = [orjson.loads(chunk.value(record) or b"") for record in range(len(chunk))]
            names = [(line["account_id"].encode(), line["event_id"].encode()) for line in lines]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadDataError(f"{path}: a line has no event_id and account_id ({type(error).__name__})") from error
        parts.append(request_hashes(names))
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)


def request_hashes(names: Sequence[tuple[bytes, bytes]]) -> NDArray[np.uint64]:
    """Hash requests given by (account id, event id): ``uint64[n]``, as ``hashes_of_requests`` does from columns."""
    accounts = hashes_of([account for account, _ in names], _ID_SEED)
    events = hashes_of([event for _, event in names], _EVENT_SEED)
    hashes: NDArray[np.uint64] = event_hashes(accounts, events, np.zeros(len(names), np.uint8))
    return hashes


def hashes_of_requests(columns: RequestColumns, account: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash for (account, event id), the same for a request and its completion: ``uint64[n]``."""
    ids = columns.event_id
    named = hash_spans(columns.identifiers, ids.start, ids.end, _EVENT_SEED)
    hashes: NDArray[np.uint64] = event_hashes(account, named, np.zeros(len(columns), np.uint8))
    return hashes


def hashes_of_accounts(columns: RequestColumns) -> NDArray[np.uint64]:
    """The hash that stands for each event's account: ``uint64[n]``."""
    ids = columns.account_id
    hashes: NDArray[np.uint64] = hash_spans(columns.identifiers, ids.start, ids.end, _ID_SEED)
    return hashes


def hashes_of(names: Sequence[bytes], seed: np.uint64 = _ID_SEED) -> NDArray[np.uint64]:
    """Hash names: ``uint64[n]``."""
    buffer, spans = spans_of(names)
    hashes: NDArray[np.uint64] = hash_spans(np.frombuffer(buffer, np.uint8), spans.start, spans.end, seed)
    return hashes
