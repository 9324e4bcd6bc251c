"""Overrides: what people decide. Topic ``overrides.v1``, compacted by ``scope:value``; a null value means gone.

Gateways read this topic themselves, so an override works with no detector alive. Their order: kill switch, allow, deny,
then what the detector decided.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from streamdetect.messages.base import EventId, Identifier, Instant, Message, Text
from streamdetect.messages.decision import Rung, Subject


class Everything(Message):
    """The subject of the kill switch: enforcement as a whole."""

    scope: Literal["global"] = Field(default="global", description="Always global.")
    value: Literal["enforcement"] = Field(default="enforcement", description="Always enforcement.")

    @property
    def key(self) -> str:
        """The record key, ``global:enforcement``."""
        return f"{self.scope}:{self.value}"


class Override(Message):
    """One decision of a person. Without ``expires_at`` it holds until its tombstone."""

    override_id: EventId = Field(description="Unique; the key is the subject, so a later override replaces it.")
    subject: Annotated[Subject | Everything, Field(discriminator="scope")] = Field(description="Whom it is about.")
    effect: Literal["allow", "deny", "kill"] = Field(
        description="allow: never act on the subject; deny: act now; kill: enforce nothing on anybody."
    )
    action: Rung | None = Field(default=None, description="With deny: what to do; absent means suspend.")
    actor: Identifier = Field(description="Who decided.")
    reason: Text = Field(description="Why, for the record.")
    created_at: Instant = Field(description="When it was made.")
    expires_at: Instant | None = Field(default=None, description="Half-open end.")

    @model_validator(mode="after")
    def _effect_fits_the_subject(self) -> Self:
        if (self.effect == "kill") != isinstance(self.subject, Everything):
            raise PydanticCustomError("invalid_value", "kill, and only kill, is about global:enforcement")
        if self.action is not None and self.effect != "deny":
            raise PydanticCustomError("invalid_value", "an action stands only with deny")
        return self

    @property
    def key(self) -> str:
        """The record key, ``scope:value``."""
        return self.subject.key
