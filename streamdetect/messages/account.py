"""The account record: what the provider knows of an account. Topic ``accounts.v1``, compacted; a null value deletes it.

Optional as a whole: without it age and tier come from the request events, or stay unknown, which is a tier of its own.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from streamdetect.messages.base import Identifier, Instant, Message
from streamdetect.messages.request import TIERS, Country, known


class AccountRecord(Message):
    """Times are integer milliseconds since the epoch. An optional string that is empty means absent."""

    account_id: Identifier = Field(description="The same opaque id as in request events; also the record's key.")
    created_at: Instant | None = Field(default=None, description="When the account was made.")
    tier: Annotated[Literal["unpaid", "paid", "verified", "enterprise"] | None, known(TIERS, None)] = Field(
        default=None, description="The account's standing; an unknown value counts as absent."
    )
    org_id: Identifier | None = Field(default=None, description="The payer above the account.")
    payment_id: Identifier | None = Field(default=None, description="Fingerprint of the payment instrument.")
    payment_country: Country = Field(default=None, description="ISO 3166 alpha-2; anything else counts as absent.")
    verified_at: Instant | None = Field(default=None, description="When the provider verified who is behind it.")
    deleted_at: Instant | None = Field(default=None, description="When the account was closed.")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value != "" or name == "account_id"}
