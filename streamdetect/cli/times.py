"""Times and durations as people write them on the command line, and as they are shown."""

from datetime import UTC, datetime

from streamdetect.errors import UsageError
from streamdetect.messages.base import INSTANT_MAX_MS, parse_instant

_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION_MAX_MS = 36_500 * _UNITS_MS["d"]


def instant(text: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time, or of such milliseconds in digits. Raises ``UsageError``."""
    if text.isascii() and text.isdigit():
        if len(text) > len(str(INSTANT_MAX_MS)) or int(text) > INSTANT_MAX_MS:
            raise UsageError(f"{text[:20]!r} is after the year 9999; write milliseconds since 1970")
        return int(text)
    found = parse_instant(text)
    if found is not None:
        return found
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"{text!r} is no time; write 2026-01-05T00:00:00Z or milliseconds since 1970")
    return int(moment.timestamp() * 1000)


def duration_ms(text: str) -> int:
    """Milliseconds of a duration such as ``6h``. Raises ``UsageError``."""
    if len(text) < 2 or text[-1] not in _UNITS_MS or not (text[:-1].isascii() and text[:-1].isdigit()):
        raise UsageError(f"{text!r} is no duration; write 90s, 15m, 6h or 7d")
    unit_ms = _UNITS_MS[text[-1]]
    if len(text) > 20 or int(text[:-1]) * unit_ms > _DURATION_MAX_MS:
        raise UsageError(f"{text[:20]!r} is longer than 100 years")
    return int(text[:-1]) * unit_ms


def shown(at_ms: int) -> str:
    """A time for people, in UTC.

    >>> shown(1_767_571_200_000)
    '2026-01-05T00:00:00Z'
    """
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
