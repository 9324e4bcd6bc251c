"""The catalogue: every number a rule may read, in the order of the columns that hold them.

One catalogue a kind of subject: what is known of one account, and what is known of one shared thing (a subnet, an
organisation, an API key). Kernels fill an int64 matrix [n, len(catalogue)] in this order; expressions read it by index.
Windows are half-open and end at the event; refused requests count in none of them. Appending is safe, reordering is
not: positions are what compiled policies and the kernels agree on.
"""

from dataclasses import dataclass
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

_WINDOWS: Final = (("1m", MINUTE_MS, "minute"), ("1h", HOUR_MS, "hour"), ("1d", DAY_MS, "day"))

SHARED_SCOPES: Final = ("subnet", "org", "api_key")
SCOPES: Final = ("account", *SHARED_SCOPES)

# What accounts can share, with the evidence family a hit belongs to.
KEY_FAMILIES: Final = {
    "subnet": "network",
    "org": "identity",
    "api_key": "identity",
    "payment": "payment",
    "template": "content",
    "system": "content",
}
_KEY_WORDS: Final = {
    "subnet": "client subnet",
    "org": "organisation",
    "api_key": "API key",
    "payment": "payment instrument",
    "template": "prompt template",
    "system": "system prompt",
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One column, or one name derived from a column.

    ``scope`` is ``account``, ``shared`` (subnet, org and api_key) or ``subnet``. ``window_ms`` is ``None`` for what has
    no window. Where ``unknowable``, -1 in the column means unknown, and no comparison with it holds.
    """

    name: str
    scope: str
    unit: str
    meaning: str
    window_ms: int | None
    family: str
    unknowable: bool = False


def _usage() -> list[Feature]:
    counted = (
        ("requests", "requests", "requests of the account"),
        ("input_tokens", "tokens", "tokens the account sent"),
        ("output_tokens", "tokens", "tokens the account received"),
    )
    return [
        Feature(f"{name}_{suffix}", "account", unit, f"{meaning} in the last {word}", window_ms, "behaviour")
        for name, unit, meaning in counted
        for suffix, window_ms, word in _WINDOWS
    ]


def _subnets() -> list[Feature]:
    return [
        Feature(f"subnets_{suffix}", "account", "subnets", f"distinct subnets in the last {word}", window_ms, "network")
        for suffix, window_ms, word in _WINDOWS[1:]
    ]


def _sharing() -> list[Feature]:
    """How many others use what the account shares most; of several keys of a family the strongest one speaks."""
    counted = (
        ("young", "accounts", "distinct young accounts (T0, T1)"),
        ("trusted", "organisations", "distinct trusted organisations (T2, T3)"),
        ("accounts", "accounts", "distinct accounts of any tier"),
    )
    return [
        Feature(
            f"{key}_{name}_1d",
            "account",
            unit,
            f"{who} that used the account's most suspect {_KEY_WORDS[key]} in the last day",
            DAY_MS,
            family,
        )
        for key, family in KEY_FAMILIES.items()
        for name, unit, who in counted
    ]


def _shared() -> list[Feature]:
    requests = [
        Feature(f"requests_{suffix}", "shared", "requests", f"requests in the last {word}", window_ms, "behaviour")
        for suffix, window_ms, word in _WINDOWS
    ]
    counted = (
        ("accounts", "accounts", "distinct accounts of any tier"),
        ("young_accounts", "accounts", "distinct young accounts (T0, T1)"),
        ("trusted_accounts", "organisations", "distinct trusted organisations (T2, T3)"),
    )
    people = [
        Feature(f"{name}_{suffix}", "shared", unit, f"{who} in the last {word}", window_ms, "population")
        for suffix, window_ms, word in _WINDOWS[1:]
        for name, unit, who in counted
    ]
    return requests + people


ACCOUNT_FEATURES: Final[tuple[Feature, ...]] = (
    *_usage(),
    *_subnets(),
    *_sharing(),
    Feature("tier_code", "account", "code", "trust tier as a code; rules write tier", None, "identity"),
    Feature("age_days", "account", "days", "whole days since the account was created", None, "identity", True),
)

SHARED_FEATURES: Final[tuple[Feature, ...]] = (
    *_shared(),
    Feature("prefix_length", "subnet", "bits", "length of the prefix: 24, or 64, 56, 48", None, "network", True),
)

# Names a rule on accounts may write that are read off ``tier_code``.
TIER: Final = Feature("tier", "account", "tier", 'trust tier: "T0" to "T3" or "unknown"', None, "identity")
FLAGS: Final[tuple[Feature, ...]] = (
    Feature("young", "account", "boolean", "tier is T0 or T1", None, "identity"),
    Feature("trusted", "account", "boolean", "tier is T2 or T3", None, "identity"),
    Feature("unknown_tier", "account", "boolean", "neither age nor standing is known", None, "identity"),
)

_ACCOUNT_INDEX: Final = {feature.name: index for index, feature in enumerate(ACCOUNT_FEATURES)}
_SHARED_INDEX: Final = {feature.name: index for index, feature in enumerate(SHARED_FEATURES)}


def catalogue_of(scope: str) -> tuple[Feature, ...]:
    """The columns of a scope, in order."""
    return ACCOUNT_FEATURES if scope == "account" else SHARED_FEATURES


def index_of(name: str, scope: str = "account") -> int:
    """Column of a feature. Raises ``KeyError`` for a name the catalogue of that scope does not have."""
    return (_ACCOUNT_INDEX if scope == "account" else _SHARED_INDEX)[name]


def names_of(scope: str) -> tuple[Feature, ...]:
    """Everything an expression of this scope may name, catalogue order first."""
    if scope == "account":
        return (*(feature for feature in ACCOUNT_FEATURES if feature.name != "tier_code"), TIER, *FLAGS)
    return tuple(feature for feature in SHARED_FEATURES if feature.scope in ("shared", scope))
