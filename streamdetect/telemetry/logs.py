"""Logs as one JSON object a line (or for eyes, on a terminal), with what users wrote or are masked before rendering.

Two guards: a processor masks the values of keys that may hold user content or secrets, at any depth, and caps the
length of every text; and client libraries that print record bytes at debug level are kept above it. Event names and
keys are ours; never format user content into the event text itself. Of foreign exceptions only type and place are
logged: their messages may quote what they choked on.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from itertools import islice
from typing import Any, Final, TextIO

import orjson
import structlog

from streamdetect.errors import StreamdetectError

MASK: Final = "[redacted]"
TEXT_CHARS_MAX: Final = 2000
DEPTH_MAX: Final = 6
ITEMS_MAX: Final = 100
REDACTED: Final = frozenset(
    {
        *("prompt", "system_prompt", "text", "body", "value", "content", "messages", "completion", "raw", "payload"),
        *("client_ip", "user_agent", "client_fingerprint", "payment_id", "end_user_id", "api_key_id"),
        *("password", "sasl_password", "ssl_key_password", "secret", "token", "authorization", "cookie"),
    }
)
# What logging and structlog themselves pass along for the formatter.
MACHINERY: Final = frozenset({"exc_info", "stack_info", "_record", "_from_structlog"})
# These print keys and values of records at debug level.
CHATTY: Final = ("aiokafka", "kafka", "faust", "mode", "asyncio")


def configure_logs(level: str = "info", *, stream: TextIO | None = None, json: bool | None = None) -> None:
    """Send our logs and those of libraries to ``stream`` (standard error); JSON unless it is a terminal."""
    target = sys.stderr if stream is None else stream
    as_json = not target.isatty() if json is None else json
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(as_json=as_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        library = logging.getLogger(name)
        library.setLevel(max(logging.WARNING, root.level))
        library.handlers.clear()
        library.propagate = True


def log(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: ``log(__name__).info("topics checked", created=3)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask what may be user content or a secret; cap texts, depths and lengths.

    >>> redact(None, "info", {"event": "bad record", "prompt": "...", "origin": {"offset": 7, "value": b"..."}})
    {'event': 'bad record', 'prompt': '[redacted]', 'origin': {'offset': 7, 'value': '[redacted]'}}
    """
    return {key: _shown(key, value, DEPTH_MAX) for key, value in event.items()}


def _shown(key: str, value: Any, depth: int) -> Any:
    if key in MACHINERY:
        return value
    return MASK if key.lower() in REDACTED else _plain(value, depth)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= TEXT_CHARS_MAX else value[:TEXT_CHARS_MAX] + "..."
    if depth == 0 or isinstance(value, bytes | bytearray | memoryview):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): _shown(str(key), item, depth - 1) for key, item in islice(value.items(), ITEMS_MAX)}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in islice(value, ITEMS_MAX)]
    if isinstance(value, BaseException):
        return type(value).__name__
    return _plain(str(value), 0)


def _rendering(*, as_json: bool) -> list[Any]:
    last = (
        structlog.processors.JSONRenderer(serializer=_dump) if as_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    return [_short_exception, last]


def _short_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Type and places of an exception; its message only when it is one of ours."""
    info = event.pop("exc_info", None)
    if info:
        kind, error, trace = sys.exc_info() if info is True else _as_triple(info)
        frames = []
        while trace is not None:
            frames.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}")
            trace = trace.tb_next
        event["failure"] = {"type": getattr(kind, "__name__", "?"), "frames": frames[-ITEMS_MAX:]}
        if isinstance(error, StreamdetectError):
            event["failure"]["message"] = str(error)
    return event


def _as_triple(info: Any) -> Any:
    return (type(info), info, info.__traceback__) if isinstance(info, BaseException) else info


def _dump(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


SHARED: Final[list[Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    redact,
]
# On import, so that a line logged before configure_logs() is redacted too and never reaches standard output.
structlog.configure(
    processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
