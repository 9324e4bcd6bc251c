"""Charts as inline SVG: lines over time, and counts with intervals. No script, no font, no network.

A chart is one question; series differ by colour and by name in the legend, values stay readable in the table beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

_WIDTH: Final = 760
_HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 10, 34
_POINTS_MAX: Final = 400
_ROW: Final = 26


@dataclass(frozen=True, slots=True)
class Series:
    """A named line; ``None`` is a gap. ``colour`` as in CSS."""

    name: str
    values: Sequence[float | None]
    colour: str


def lines(times_ms: Sequence[int], series: Sequence[Series], *, percent: bool = False) -> str:
    """Lines over event time; the value axis begins at zero. Empty without times."""
    if not times_ms:
        return ""
    known = [value for one in series for value in one.values if value is not None]
    top = 1.0 if percent else nice_top(max(known, default=0.0))
    first, last = times_ms[0], max(times_ms[-1], times_ms[0] + 1)

    def x(at: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (at - first) / (last - first)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top

    parts = [_open(_HEIGHT, ", ".join(one.name for one in series))]
    for step in range(5):
        value = top * step / 4
        label = f"{value:.0%}" if percent else f"{value:,.4g}"
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
    for step in range(5):
        at = first + (last - first) * step // 4
        anchor = ("start", "middle", "middle", "middle", "end")[step]
        parts.append(f'<text x="{x(at):.1f}" y="{_HEIGHT - 12}" text-anchor="{anchor}">{moment(at)}</text>')
    for one in series:
        for run in _runs(times_ms, one.values):
            points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in run)
            parts.append(f'<polyline points="{points}" stroke="{one.colour}"/>')
    return "".join([*parts, "</svg>", _legend(series)])


def whiskers(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Values with their intervals, one row each: (name, value, low, high). Empty without rows."""
    if not rows:
        return ""
    left, height = 220, _TOP + _ROW * len(rows) + _BOTTOM
    top = nice_top(max(high for *_, high in rows))

    def x(value: float) -> float:
        return left + (_WIDTH - left - 40) * value / top

    parts = [_open(height, "value and 95 % interval of each row")]
    for step in range(5):
        value = top * step / 4
        parts.append(
            f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>'
            f'<text x="{x(value):.1f}" y="{height - 12}" text-anchor="middle">{value:,.4g}</text>'
        )
    for place, (name, value, low, high) in enumerate(rows):
        middle = _TOP + _ROW * place + _ROW / 2
        parts.append(
            f'<text x="{left - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<line class="reach" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
            f'<circle cx="{x(value):.1f}" cy="{middle:.1f}" r="4"/>'
        )
    return "".join([*parts, "</svg>"])


def binned(times_ms: Sequence[int], columns: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Sums over neighbouring times, so that a long run has no more points than a screen can show."""
    step = -(-len(times_ms) // _POINTS_MAX) or 1
    starts = range(0, len(times_ms), step)
    return [times_ms[at] for at in starts], [[sum(one[at : at + step]) for at in starts] for one in columns]


def nice_top(value: float) -> float:
    """The end of an axis that holds ``value``: 1, 2 or 5 times a power of ten.

    >>> nice_top(3.2), nice_top(0), nice_top(120)
    (5.0, 1.0, 200.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{int(value)}") - 1) if value >= 1 else 10.0 ** -(len(f"{int(1 / value)}"))
    return next(step * power for step in (1, 2, 5, 10, 20, 50, 100) if step * power >= value)


def moment(at_ms: int) -> str:
    """Event time for people, UTC.

    >>> moment(1_767_571_200_000)
    '2026-01-05 00:00'
    """
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _open(height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'


def _legend(series: Sequence[Series]) -> str:
    items = (f'<span><i style="background:{one.colour}"></i>{escape(one.name)}</span>' for one in series)
    return f'<p class="legend">{"".join(items)}</p>'


def _runs(times_ms: Sequence[int], values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The unbroken pieces of a line; a piece of one point gets a second, so that it shows."""
    runs: list[list[tuple[int, float]]] = [[]]
    for at, value in zip(times_ms, values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run if len(run) > 1 else [*run, (run[0][0] + 1, run[0][1])] for run in runs if run]
