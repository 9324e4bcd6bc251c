"""The request event: what a gateway says of one exchange. Topic ``requests.v1``, or one JSON object per line in files.

Everything not required is evidence: absent means unknown, never zero. This model decides what is accepted; the hot
decoder of the pipeline is generated from it and hands it every record that is in any way unusual.
"""

import re
import socket
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from streamdetect.messages.base import (
    INSTANT_MAX_MS,
    Count,
    EventId,
    Identifier,
    Instant,
    Message,
    Text,
    parse_address,
    parse_instant,
)

KINDS: Final = ("request", "completion")
OUTCOMES: Final = ("served", "rate_limited", "challenged", "blocked", "failed")
TIERS: Final = ("unpaid", "paid", "verified", "enterprise")

# Known values of the fields whose unknown values are counted and treated as absent.
OPEN_ENUMS: Final[Mapping[str, tuple[str, ...]]] = {"kind": KINDS, "outcome": OUTCOMES, "account_tier": TIERS}

# Other names of a field, the first present one counts, and only where the field itself is absent. The dotted ones are
# the OpenTelemetry GenAI and HTTP names.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "max_output_tokens": ("max_tokens", "gen_ai.request.max_tokens"),
    "input_tokens": ("tokens_in", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("tokens_out", "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cached_input_tokens": ("gen_ai.usage.cache_read.input_tokens",),
    "operation": ("gen_ai.operation.name",),
    "model": ("gen_ai.request.model", "gen_ai.response.model"),
    "conversation_id": ("gen_ai.conversation.id",),
    "finish_reason": ("gen_ai.response.finish_reasons",),
    "client_ip": ("client.address",),
    "user_agent": ("user_agent.original",),
    "http_status": ("http.response.status_code",),
}
REQUIRED: Final = ("event_id", "occurred_at", "account_id")
_MAY_BE_EMPTY: Final = frozenset({*REQUIRED, "prompt", "system_prompt"})
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)


def _read_instant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    instant = parse_instant(value)
    if instant is None:
        raise PydanticCustomError("invalid_value", "neither integer milliseconds nor RFC 3339 with a zone")
    return instant


def _read_address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    packed = parse_address(value)
    if packed is None:
        raise PydanticCustomError("invalid_value", "neither an IPv4 nor an IPv6 address")
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _read_country(value: Any) -> Any:
    return value if not isinstance(value, str) else value.upper() if _COUNTRY.fullmatch(value) else None


def known(values: tuple[str, ...], default: str | None) -> BeforeValidator:
    """Validator of an open enum: an unknown string gives ``default``, what is no string is of the wrong type."""

    def check(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value if value in values else default
        raise PydanticCustomError("string_type", "not a string")

    return BeforeValidator(check)


Country = Annotated[str | None, BeforeValidator(_read_country)]


class RequestEvent(Message):
    """One exchange, reported at admission; a ``completion`` with the same ``event_id`` may follow.

    An optional string that is empty means absent, except the prompts.
    """

    event_id: EventId = Field(description="Unique per exchange and account, 1 to 128 bytes; a repeat changes nothing.")
    occurred_at: Annotated[int, Field(ge=1, le=INSTANT_MAX_MS), BeforeValidator(_read_instant)] = Field(
        description="When the gateway received the request (a completion: when it ended). Integer milliseconds since "
        "the epoch, or RFC 3339 with a zone."
    )
    account_id: Identifier = Field(description="Opaque, 1 to 256 bytes; may be a pseudonym.")
    kind: Annotated[Literal["request", "completion"], known(KINDS, "request")] = Field(
        default="request", description="A completion adds only outcome and usage to the request of the same event_id."
    )
    outcome: Annotated[
        Literal["served", "rate_limited", "challenged", "blocked", "failed"], known(OUTCOMES, "served")
    ] = Field(default="served", description="What the gateway did. Refused requests never raise a score.")
    decision_id: Identifier | None = Field(default=None, description="The decision by which the gateway refused.")
    client_ip: Annotated[str, BeforeValidator(_read_address)] | None = Field(
        default=None,
        description="IPv4 or IPv6 text, after the gateway's own rule of trusted hops; IPv4 mapped into IPv6 is IPv4.",
    )
    prompt: str | None = Field(
        default=None, description="Newest user turn. Read up to 64 KiB, never refused for length; leaves as a sketch."
    )
    system_prompt: str | None = Field(default=None, description="System prompt. Same limits as the prompt.")
    org_id: Identifier | None = Field(default=None, description="The payer above the account.")
    api_key_id: Identifier | None = Field(default=None, description="The key used, never the secret.")
    end_user_id: Identifier | None = Field(default=None, description="The user behind the account.")
    payment_id: Identifier | None = Field(default=None, description="Fingerprint of the payment instrument.")
    account_created_at: Instant | None = Field(
        default=None, description="When the account was made, integer milliseconds, if the gateway has it at hand."
    )
    account_tier: Annotated[Literal["unpaid", "paid", "verified", "enterprise"] | None, known(TIERS, None)] = Field(
        default=None, description="The account's standing with the provider."
    )
    client_country: Country = Field(default=None, description="ISO 3166 alpha-2; anything else counts as absent.")
    payment_country: Country = Field(default=None, description="ISO 3166 alpha-2; anything else counts as absent.")
    client_asn: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = Field(
        default=None, description="Origin AS of the client address."
    )
    user_agent: Text | None = Field(default=None, description="SDK and version.")
    client_fingerprint: Text | None = Field(default=None, description="Fingerprint of TLS or of the header order.")
    model: Text | None = Field(default=None, description="The model asked for.")
    operation: Text | None = Field(default=None, description="Such as chat or embeddings.")
    conversation_id: Text | None = Field(default=None, description="The conversation this exchange belongs to.")
    turn: Count | None = Field(default=None, description="Position in the conversation, from 0.")
    history_digest: Text | None = Field(default=None, description="Digest of the turns before the last exchange.")
    reply_digest: Text | None = Field(default=None, description="Digest of the reply served.")
    previous_reply_digest: Text | None = Field(
        default=None, description="Digest of the assistant turn the client sent back."
    )
    input_tokens: Count | None = Field(default=None, description="Tokens of the input, cached ones included.")
    output_tokens: Count | None = Field(default=None, description="Tokens of the reply.")
    cached_input_tokens: Count | None = Field(default=None, description="Input tokens served from a prompt cache.")
    max_output_tokens: Count | None = Field(default=None, description="The limit the client asked for.")
    duration_ms: Count | None = Field(default=None, description="From admission to the end of the reply.")
    http_status: Annotated[int, Field(ge=0, le=999)] | None = Field(default=None, description="Status answered.")
    finish_reason: Text | None = Field(default=None, description="Why the reply ended.")
    traceparent: Text | None = Field(default=None, description="W3C trace context of the request.")

    @model_validator(mode="before")
    @classmethod
    def _resolve_names(cls, data: Any) -> Any:
        """Give each alias its field's name and drop empty optional strings."""
        if not isinstance(data, dict):
            return data
        resolved = {
            name: value for name, value in data.items() if value is not None and (value != "" or name in _MAY_BE_EMPTY)
        }
        for name, aliases in ALIASES.items():
            if name in resolved:
                continue
            found = next((data[alias] for alias in aliases if data.get(alias) not in (None, "", [])), None)
            if found is not None:
                # The only plural among the aliases: the reasons of all choices, of which the first is ours.
                resolved[name] = found[0] if name == "finish_reason" and isinstance(found, list) else found
        return resolved


def unwrapped(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event inside a structured CloudEvent; anything else as it is. An ``event_id`` outside marks a plain event."""
    inner = data.get("data")
    if data.get("event_id") is None and isinstance(data.get("specversion"), str) and isinstance(inner, dict):
        return inner
    return data


def unknown_values(data: Mapping[str, Any]) -> list[str]:
    """Names of the fields of a raw event whose value is a string no version of this model knows."""
    return [
        name
        for name, known in OPEN_ENUMS.items()
        if isinstance(data.get(name), str) and data[name] and data[name] not in known
    ]
