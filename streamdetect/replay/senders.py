"""Who sends a campaign's exchange, and what becomes of one that is refused: compiled, event by event, in order.

The state of an account is an ``ATTACKER``, the reaction of a campaign a row of numbers, ``REACTION_FIELDS``.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import combine64
from streamdetect.replay.evaluate import IGNORED, SENT, UNSENT
from streamdetect.replay.pools import NOBODY, pick
from streamdetect.replay.truth import CAMPAIGN

NEVER_MS = np.iinfo(np.int64).max
DAY_MS = 86_400_000
_DRAWS = 8  # siblings looked at before an exchange is not sent
_UNMET, _MET, IN_USE = 0, 1, 2  # by the campaign: who only has cover traffic so far is met and not in use
LOST, AGAIN, MOVES = 1, 2, 3  # what becomes of a refused exchange

ATTACKER = np.dtype(
    [
        ("given_up_at", "i8"),
        ("heir_from", "i8"),
        ("refused_at", "i8"),  # first refusal; 0 none
        ("address_high", "u8"),
        ("address_low", "u8"),
        ("heir", "i4"),
        ("pool", "i4"),
        ("refusals", "i4"),  # in a row, since they were noticed
        ("taken_on", "i4"),  # the UTC day of
        ("taken", "i4"),  # exchanges taken over from others
        ("address_family", "u1"),
        ("met", "u1"),
    ],
    align=True,
)
REACTION_FIELDS = (
    "notices_after_ms", "retries", "retry_delay_ms", "fail_overs", "fail_over_delay_ms", "gives_up_after",
    "taken_over_per_day",
)  # fmt: skip
_NOTICES, _RETRIES, RETRY_DELAY, _FAIL_OVERS, FAIL_OVER_DELAY, _GIVES_UP, _TAKES_OVER = range(7)


@njit(cache=True, nogil=True)
def _sibling(
    state: NDArray[np.void],
    members: NDArray[np.int64],
    pool_start: NDArray[np.int64],
    pool_length: NDArray[np.int64],
    pool: int,
    key: np.uint64,
    but: int,
    limit: int,
    now: int,
) -> int:
    """A member of a pool other than ``but`` that may still take something over today, and does; -1 for none."""
    day = now // DAY_MS
    for draw in range(_DRAWS):
        found = pick(members, pool_start, pool_length, pool, combine64(key, np.uint64(draw)) if draw else key, but)
        if found < 0:
            break
        one = state[found]
        if one.taken_on != day:
            one.taken_on, one.taken = day, 0
        if limit == 0 or one.taken < limit:
            one.taken += 1
            return int(found)
    return NOBODY


@njit(cache=True, nogil=True)
def find_senders(
    rows: NDArray[np.void],
    state: NDArray[np.void],
    reactions: NDArray[np.int64],
    members: NDArray[np.int64],
    pool_start: NDArray[np.int64],
    pool_length: NDArray[np.int64],
    request: NDArray[np.uint64],
    planner: NDArray[np.int64],
    sibling: NDArray[np.bool_],
    moves: NDArray[np.int64],
    occurred: NDArray[np.int64],
    family: NDArray[np.uint8],
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    counts: NDArray[np.bool_],
    sender: NDArray[np.int64],
    fate: NDArray[np.uint8],
    met: NDArray[np.bool_],
    taken_up: NDArray[np.bool_],
) -> None:
    """Write who sends each event into ``sender``, -1 for nobody, and what is not sent into ``fate``.

    ``met`` and ``taken_up`` mark the first event of an account's own, and its first that is planned.
    """
    for index in range(len(planner)):
        who = planner[index]
        if who < 0 or rows[who].label != CAMPAIGN:
            continue
        now, pool = occurred[index], np.int64(state[who].pool)
        limit = reactions[rows[who].campaign, _TAKES_OVER]
        key = combine64(request[index], np.uint64(moves[index]))
        at = sender[index]
        if sibling[index]:
            at = _sibling(state, members, pool_start, pool_length, pool, key, at, limit, now)
        while at >= 0 and state[at].given_up_at <= now:
            if state[at].heir >= 0 and state[at].heir_from <= now:
                at = np.int64(state[at].heir)
            elif reactions[rows[who].campaign, _FAIL_OVERS] > 0:
                at = _sibling(state, members, pool_start, pool_length, pool, key, at, limit, now)
                break
            else:
                at = NOBODY
        sender[index] = at
        if at < 0:
            fate[index] = UNSENT if fate[index] != IGNORED else IGNORED
        elif at == who and not sibling[index]:
            state[at].address_family = family[index]
            state[at].address_high, state[at].address_low = high[index], low[index]
            if state[at].met == _UNMET:
                state[at].met, met[index] = _MET, True
            if state[at].met == _MET and counts[index]:
                state[at].met, taken_up[index] = IN_USE, True


@njit(cache=True, nogil=True)
def see_refusals(
    rows: NDArray[np.void],
    state: NDArray[np.void],
    reactions: NDArray[np.int64],
    sender: NDArray[np.int64],
    occurred: NDArray[np.int64],
    fate: NDArray[np.uint8],
    tries: NDArray[np.int64],
    moves: NDArray[np.int64],
    denied: NDArray[np.uint8],
    becomes: NDArray[np.uint8],
    given_up: NDArray[np.bool_],
) -> None:
    """Write what becomes of each refused event into ``becomes``, and mark those that end the use of their account."""
    for index in range(len(sender)):
        if fate[index] != SENT or sender[index] < 0 or rows[sender[index]].label != CAMPAIGN:
            continue
        one, now = state[sender[index]], occurred[index]
        reaction = reactions[rows[sender[index]].campaign]
        if denied[index] == 0:
            one.refusals = 0
            continue
        becomes[index] = LOST
        if one.refused_at == 0:
            one.refused_at = now
        if now - one.refused_at < reaction[_NOTICES]:
            continue
        one.refusals += 1
        if 0 < reaction[_GIVES_UP] <= one.refusals and one.given_up_at == NEVER_MS:
            one.given_up_at = now
            given_up[index] = True
        if moves[index] == 0 and tries[index] < reaction[_RETRIES] and one.given_up_at == NEVER_MS:
            becomes[index] = AGAIN
        elif moves[index] < reaction[_FAIL_OVERS]:
            becomes[index] = MOVES
