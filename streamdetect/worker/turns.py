"""First come, first served: whoever takes a place now has its turn before everybody who takes one later."""

import asyncio
from types import TracebackType
from typing import Self


class Turn:
    """A place in the line, taken when made. ``async with`` waits for it, and leaving lets the next one in."""

    __slots__ = ("_before", "_over")

    def __init__(self, before: "asyncio.Future[None] | None", over: "asyncio.Future[None]") -> None:
        self._before, self._over = before, over

    async def __aenter__(self) -> Self:
        try:
            if self._before is not None:
                await asyncio.shield(self._before)
        except BaseException:
            self.give_up()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()

    def give_up(self) -> None:
        """Leave the line; who comes after still waits for those before. Changes nothing once the turn is over."""
        if self._over.done():
            return
        if self._before is None or self._before.done():
            self._over.set_result(None)
        else:
            self._before.add_done_callback(lambda _: self.give_up())


class Turns:
    """A line. Places are taken in the order of calls, not in the order in which coroutines get to run."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: asyncio.Future[None] | None = None

    def take(self) -> Turn:
        """The next place."""
        before, self._last = self._last, asyncio.get_running_loop().create_future()
        return Turn(before, self._last)
