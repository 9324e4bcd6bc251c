"""The attackers' reactions to refusals, as scenarios use them. The open loop never plays them; see ``Reaction``."""

from typing import Final

from streamdetect.messages.reaction import Reaction

_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_TAKEN_OVER: Final = 100  # a day; the accounts of most scenarios send 26 of their own

# A script that knows one account: it tries again and stops.
SCRIPT: Final = Reaction(retries=3, retry_delay_ms=2 * _SECOND_MS, gives_up_after=20, passes_verification_percent=0)
# A relay with a pool: status 403 cools the account down, the exchange goes to the next one that has not had four times
# its usual day.
POOL: Final = Reaction(
    retries=1,
    retry_delay_ms=5 * _SECOND_MS,
    fail_overs=3,
    fail_over_delay_ms=_SECOND_MS,
    taken_over_per_day=_TAKEN_OVER,
    gives_up_after=5,
)
# The same with people behind it who buy accounts once a day.
HYDRA: Final = Reaction(
    retries=1,
    retry_delay_ms=5 * _SECOND_MS,
    fail_overs=2,
    fail_over_delay_ms=_SECOND_MS,
    taken_over_per_day=_TAKEN_OVER,
    gives_up_after=5,
    respawn_delay_ms=24 * _HOUR_MS,
    respawns_per_day=556,
)
# Watches every refusal, replaces accounts within hours and words within a day.
ADAPTIVE: Final = Reaction(
    notices_after_ms=10 * _MINUTE_MS,
    retries=1,
    retry_delay_ms=30 * _SECOND_MS,
    fail_overs=1,
    fail_over_delay_ms=_MINUTE_MS,
    taken_over_per_day=_TAKEN_OVER,
    gives_up_after=2,
    respawn_delay_ms=_HOUR_MS,
    respawns_per_day=2_000,
    template_losses=3,
    template_delay_ms=6 * _HOUR_MS,
)
# Accounts made by the thousand: one refusal, next account.
FARM: Final = Reaction(
    gives_up_after=1,
    respawn_delay_ms=5 * _MINUTE_MS,
    respawns_per_day=5_000,
    passes_verification_percent=0,
)
# Stolen access: nobody can pass a challenge for its owner, and there is no replacement.
STOLEN: Final = Reaction(
    retries=2, retry_delay_ms=10 * _SECOND_MS, fail_overs=2, fail_over_delay_ms=5 * _SECOND_MS,
    taken_over_per_day=_TAKEN_OVER, gives_up_after=3, passes_verification_percent=0,
)  # fmt: skip
