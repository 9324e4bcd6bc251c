"""How many different others each account has met of late, from the pairs that ``meeting`` tells."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Acquaintances:
    """The ``enough`` others whom each account met last; what counts is whether all of them are recent."""

    window_ms: int
    enough: int
    _met: dict[int, dict[int, int]] = field(default_factory=dict)  # other -> last meeting, the oldest meeting first

    def meet(self, first: int, second: int, at: int) -> list[int]:
        """Let two accounts meet, times never falling; returns which of them met enough others in the window."""
        return [one for one, other in ((first, second), (second, first)) if self._note(one, other, at)]

    def _note(self, one: int, other: int, at: int) -> bool:
        met = self._met.setdefault(one, {})
        met.pop(other, None)
        met[other] = at
        if len(met) > self.enough:
            del met[next(iter(met))]
        return len(met) == self.enough and met[next(iter(met))] > at - self.window_ms
