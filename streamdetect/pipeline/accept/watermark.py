"""Event time of one stream: how far it has come, and which events claim to be from the future.

An event more than ``max_ahead_ms`` beyond the watermark does not move it and is rejected, unless three accounts agree
about the later time (a topic that was silent for long starts again). The first event of a stream is believed.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

_CLAIMS = 16
_AGREEING_ACCOUNTS = 3


@njit(cache=True, nogil=True)
def _agreed(times: NDArray[np.int64], accounts: NDArray[np.uint64], occurred_at: int, within_ms: int) -> bool:
    distinct = 0
    for slot in range(_CLAIMS):
        if accounts[slot] == np.uint64(0) or abs(times[slot] - occurred_at) > within_ms:
            continue
        repeated = False
        for other in range(slot):
            if accounts[other] == accounts[slot] and abs(times[other] - occurred_at) <= within_ms:
                repeated = True
        distinct += 0 if repeated else 1
    return distinct >= _AGREEING_ACCOUNTS


@njit(cache=True, nogil=True)
def _advance(
    state: NDArray[np.int64],
    times: NDArray[np.int64],
    accounts: NDArray[np.uint64],
    occurred: NDArray[np.int64],
    account: NDArray[np.uint64],
    max_ahead_ms: int,
    future: NDArray[np.bool_],
) -> None:
    for index in range(len(occurred)):
        now = occurred[index]
        if state[0] == 0 or now <= state[0] + max_ahead_ms:
            state[0] = max(state[0], now)
            continue
        slot = state[1] % _CLAIMS
        state[1] += 1
        times[slot], accounts[slot] = now, account[index]
        if _agreed(times, accounts, now, max_ahead_ms):
            state[0] = now
            accounts[:] = np.uint64(0)
        else:
            future[index] = True


@dataclass(slots=True)
class Watermark:
    """Newest believed event time of one stream in ms (0 before the first), and the latest claims beyond it."""

    max_ahead_ms: int
    _state: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    _times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_CLAIMS, np.int64))
    _accounts: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(_CLAIMS, np.uint64))

    @property
    def time_ms(self) -> int:
        """The watermark."""
        return int(self._state[0])

    def copy(self) -> "Watermark":
        """Another one that has come as far."""
        return Watermark(self.max_ahead_ms, self._state.copy(), self._times.copy(), self._accounts.copy())

    def capture(self) -> dict[str, list[int]]:
        """All of it, for an image."""
        return {"state": self._state.tolist(), "times": self._times.tolist(), "accounts": self._accounts.tolist()}

    def restore(self, image: dict[str, list[int]]) -> None:
        """Become what an image says."""
        self._state[:], self._times[:], self._accounts[:] = image["state"], image["times"], image["accounts"]

    def judge(self, occurred_at: NDArray[np.int64], account: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Move on over a batch, event by event; true where an event is from the future and must be rejected."""
        future = np.zeros(len(occurred_at), np.bool_)
        _advance(self._state, self._times, self._accounts, occurred_at, account, self.max_ahead_ms, future)
        return future
