"""How a simulated campaign answers refusals: one model, stated as numbers, that a closed-loop replay plays.

``simulate`` writes one object per campaign into the manifest of its output; nothing else reads it. Delays are event
time in milliseconds. A count of 0 means never, a delay of ``None`` too. What happens to a refused exchange, in order:

1. Until ``notices_after_ms`` have passed since the account's first refusal, nothing: its exchanges come as planned and
   are lost. Software that reads the status of each answer has 0, a person who looks once a day 86,400,000.
2. The same account sends it again, ``retries`` times, ``retry_delay_ms`` apart.
3. A sibling account of the campaign that is still in use sends it ``fail_over_delay_ms`` later; refused there, it moves
   on, ``fail_overs`` times in all. After that it is lost. A sibling takes over ``taken_over_per_day`` exchanges a day
   at most: an account that suddenly sends a hundred times what it did is one that everybody sees.

After ``gives_up_after`` refusals in a row the account is given up. What it would have sent later is sent by a fresh
account from ``respawn_delay_ms`` on, if there is one (``respawns_per_day`` at most, at scale 1); by siblings if the
campaign fails over; by nobody otherwise. ``template_losses`` accounts given up after having sent a template make the
campaign replace it by another ``template_delay_ms`` later. A challenge is passed by ``passes_verification_percent`` of
the accounts, drawn once an account.
"""

from typing import Annotated

from pydantic import Field

from streamdetect.messages.base import Count, Message

_Percent = Annotated[int, Field(ge=0, le=100)]


class Reaction(Message):
    """What one campaign does when it is refused. The default does nothing: it sends on and loses what is refused."""

    notices_after_ms: Count = Field(default=0, description="From an account's first refusal until anybody reacts.")
    retries: Count = Field(default=0, description="Times a refused exchange is sent again by the same account.")
    retry_delay_ms: Count = Field(default=0, description="Before each of these.")
    fail_overs: Count = Field(default=0, description="Siblings that try a refused exchange, one after another.")
    fail_over_delay_ms: Count = Field(default=0, description="Before each of these.")
    taken_over_per_day: Count = Field(
        default=0, description="Exchanges of others that an account takes over in a UTC day; 0: any number."
    )
    gives_up_after: Count = Field(default=0, description="Refusals in a row that end the use of an account; 0: never.")
    respawn_delay_ms: Count | None = Field(
        default=None, description="From giving an account up to its replacement by a fresh one; absent: not replaced."
    )
    respawns_per_day: Count = Field(default=0, description="Fresh accounts a day at scale 1; 0: any number.")
    template_losses: Count = Field(
        default=0, description="Accounts given up after sending a template that end its use; 0: any number."
    )
    template_delay_ms: Count = Field(default=0, description="From then to the first use of its replacement.")
    passes_verification_percent: _Percent = Field(default=5, description="Accounts that pass a challenge.")
