"""What the commands share by which people tell gateways and workers something: who, whom about, and one record."""

import getpass
import ipaddress
from typing import Final, get_args

from pydantic import ValidationError

from streamdetect.errors import UnreachableError, UsageError
from streamdetect.kafka.follower import read_all
from streamdetect.kafka.outbox import Outbox
from streamdetect.kafka.plan import ENFORCEMENT
from streamdetect.kafka.topics import demand_topic
from streamdetect.messages.decision import SUBNET_PREFIXES, Heartbeat, Scope, Subject
from streamdetect.messages.reading import read
from streamdetect.settings import Settings

_PREFIXES: Final = "/24 for IPv4, /64, /56 or /48 for IPv6"


def subject_of(text: str) -> Subject:
    """Read a subject such as ``account:a-1``. Raises ``UsageError`` that says how to write it."""
    scope, colon, value = text.partition(":")
    if not colon or scope not in get_args(Scope):
        raise UsageError(f"{text!r} is no subject; write account:ID, org:ID, api_key:ID, subnet:CIDR or asn:NUMBER")
    try:
        return Subject.from_key(text)
    except ValidationError:
        pass
    if scope == "subnet":
        raise UsageError(f"{text!r}: {_subnet_advice(value)}")
    raise UsageError(f"{text!r}: " + ("an AS is a number" if scope == "asn" else "an id has 1 to 256 bytes"))


def _subnet_advice(value: str) -> str:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"not a network; write it as CIDR: {_PREFIXES}"
    if network.prefixlen not in SUBNET_PREFIXES[network.version]:
        return f"decisions are about networks of {_PREFIXES}"
    return f"did you mean subnet:{network}?"


def actor_or_login(actor: str | None) -> str:
    """Who decides: as told, or the login name. Raises ``UsageError`` where there is none."""
    try:
        name = actor if actor is not None else getpass.getuser()
    except OSError:
        name = ""
    if not 0 < text_bytes(name) <= 256:
        raise UsageError("nobody knows who decides this: give --actor NAME, of 1 to 256 bytes of UTF-8")
    return name


def text_bytes(text: str) -> int:
    """Length of a text in UTF-8; 0 for one that has none, as the shell makes it of bytes that are no text."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


async def now_ms(settings: Settings, wall_ms: int) -> int:
    """When it is now for overrides: by the wall clock, or on the event clock the newest event time of a detector."""
    if settings.clock == "wall":
        return wall_ms
    records = await read_all(settings, settings.topic(ENFORCEMENT))
    beats = [read(Heartbeat, value) for key, value in records.items() if key.startswith(b"heartbeat:")]
    newest = [beat.watermark for beat in beats if isinstance(beat, Heartbeat) and beat.watermark is not None]
    if not newest:
        raise UnreachableError(
            f"{settings.topic(ENFORCEMENT)} has no heartbeat that tells the event time; is a worker running? "
            "(Without STREAMDETECT_CLOCK=event overrides last by the wall clock.)"
        )
    return max(newest)


async def tell(settings: Settings, topic: str, key: str, value: bytes | None, **headers: str) -> bytes | None:
    """Write one record, wait for its delivery, and give back what its key held before.

    A tombstone where there is nothing is not written. ``headers`` say of a tombstone what its value cannot. Raises
    ``UnreachableError`` when the topic is missing, or the broker cannot be reached or refuses us.
    """
    await demand_topic(settings, topic)
    before = (await read_all(settings, topic)).get(key.encode())
    if value is not None or before is not None:
        async with Outbox(settings) as outbox:
            named = [(name, text.encode()) for name, text in headers.items()]
            await outbox.send(topic, value, key=key.encode(), headers=named)
    return before
