"""Labels: what is known of accounts afterwards, to measure decisions against. One JSON object per line.

Accounts without a line are unlabelled and left out of every metric.
"""

from typing import Literal

from pydantic import Field

from streamdetect.messages.base import Identifier, Message


class Label(Message):
    """The truth about one account."""

    account_id: Identifier = Field(description="The same opaque id as in request events.")
    label: Literal["legit", "campaign", "other_abuse"] = Field(description="What the account was used for.")
    campaign_id: Identifier | None = Field(default=None, description="With campaign: which one.")
    cohort: Identifier | None = Field(default=None, description="Kind of traffic, such as C2 or L5.")
