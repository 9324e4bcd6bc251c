"""JSON Schema of every message, by name. The models are the source; nothing is kept twice."""

from typing import Any, Final

from streamdetect.messages.account import AccountRecord
from streamdetect.messages.base import Message
from streamdetect.messages.dead_letter import DeadLetter
from streamdetect.messages.decision import Decision, Heartbeat
from streamdetect.messages.label import Label
from streamdetect.messages.override import Override
from streamdetect.messages.request import RequestEvent

MODELS: Final[dict[str, type[Message]]] = {
    "request": RequestEvent,
    "account": AccountRecord,
    "decision": Decision,
    "heartbeat": Heartbeat,
    "override": Override,
    "dead-letter": DeadLetter,
    "label": Label,
}


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (2020-12) of each message, by name."""
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        for name, model in MODELS.items()
    }
