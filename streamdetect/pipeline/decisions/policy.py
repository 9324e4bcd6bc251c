"""From the text of a policy to what the decision stage runs: checked values, a hash, and compiled rules by scope.

Everything that is wrong is told with line and column: TOML itself, keys and values, and the conditions of rules. Done
once a policy, never per event. Reading files is the caller's; only the shipped policy is read here.
"""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from types import UnionType
from typing import Any, Final, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streamdetect.errors import PolicyError
from streamdetect.messages.policy import DAY_MS, Policy, Rule, Scope, duration_ms
from streamdetect.pipeline.accounts.tiers import TIER_NAMES, YOUNG_TIERS, TrustTier
from streamdetect.pipeline.decisions.expressions import Expression, compile_expression
from streamdetect.pipeline.decisions.features import SCOPES
from streamdetect.pipeline.decisions.positions import Path, Positions

TEXT_MAX: Final = 1 << 17  # characters of one policy
# No key of a policy has more than three parts; what parsers do with a key grows with the square of them.
KEY_PARTS_MAX: Final = 8
# The closing quotes are optional, so that a string that never ends is read once.
_STRING_OR_COMMENT: Final = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|' r"'''.*?(?:'''|\Z)|" r'"(?:\\[^\n]|[^"\\\n])*"?|' r"'[^'\n]*'?|#[^\n]*", re.DOTALL
)
_LONG_KEY: Final = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{KEY_PARTS_MAX}}}")

_Places = Callable[[int], Callable[[int], tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule that can be run.

    ``tiers`` is whom it may hit, ``None`` for everybody. For accounts ``expression`` has it built in; for a shared
    subject it narrows whom a decision applies to, not when it is taken.
    """

    rule: Rule
    expression: Expression
    ttl_ms: int
    tiers: frozenset[TrustTier] | None


@dataclass(frozen=True, slots=True)
class TierBounds:
    """Ages at which tiers begin, in ms, in the order ``trust_tier`` takes them."""

    t0_ms: int
    t1_ms: int
    t3_ms: int


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy that can be run. ``hash`` is of its values: comments and layout do not change it.

    ``text`` is the TOML it was read from, empty if it was compiled from a value.
    """

    model: Policy
    hash: str
    rules: tuple[CompiledRule, ...]
    tier_bounds: TierBounds
    held_log_interval_ms: int
    text: str = field(default="", repr=False, compare=False)

    def rules_of(self, scope: str) -> tuple[CompiledRule, ...]:
        """The rules of a scope that are not off, in the order of the file."""
        return tuple(rule for rule in self.rules if rule.rule.scope == scope and rule.rule.status != "off")


def default_policy() -> CompiledPolicy:
    """The policy that ships with the package."""
    return load_policy(default_text(), "default.toml")


def default_text() -> str:
    """Text of the shipped policy, with its comments."""
    return (resources.files("streamdetect") / "policies" / "default.toml").read_text(encoding="utf-8")


def policy_text(data: bytes, source: str = "policy") -> str:
    """The text in bytes. Raises ``PolicyError`` with line and column of the first that is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
        raise PolicyError("not UTF-8 from here on", line=line, column=column, source=source) from None


def load_policy(text: str, source: str = "policy") -> CompiledPolicy:
    """Parse, check and compile one policy. Raises ``PolicyError`` with line and column inside ``source``."""
    text = text.replace("\r\n", "\n")
    if len(text) > TEXT_MAX:
        raise PolicyError(f"longer than {TEXT_MAX} characters", source=source)
    _refuse_long_keys(text, source)
    values, positions = _parsed(text, source)
    try:
        model = Policy.model_validate(values)
    except ValidationError as error:
        _refuse(error, positions, source)
    return compile_policy(model, source=source, places=partial(_place_in_when, positions), text=text)


def compile_policy(
    model: Policy, *, source: str = "policy", places: _Places | None = None, text: str = ""
) -> CompiledPolicy:
    """Compile a policy that is a value already; ``text`` is what it was read from.

    ``places`` gives, for the index of a rule, line and column of an offset in its condition. Without it a wrong
    condition is told by the rule's id and the column in the condition.
    """
    rules = []
    for index, rule in enumerate(model.rules):
        tiers = _tiers_of(rule)
        within = tiers if rule.scope == "account" else None
        if places is not None:
            expression = compile_expression(rule.when, rule.scope, tiers=within, place=places(index), source=source)
        else:
            expression = compile_expression(rule.when, rule.scope, tiers=within, source=f"{source} rule {rule.id}")
        rules.append(CompiledRule(rule, expression, rule.ttl_ms, tiers))
    bounds = TierBounds(model.tiers.t0_days * DAY_MS, model.tiers.t1_days * DAY_MS, model.tiers.t3_days * DAY_MS)
    held_ms = duration_ms(model.ladder.held_log_interval)
    return CompiledPolicy(model, policy_hash(model), tuple(rules), bounds, held_ms, text)


def policy_hash(model: Policy) -> str:
    """128-bit BLAKE2b of the values as canonical JSON (defaults filled in, keys sorted), in hexadecimal."""
    canonical = json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(canonical.encode("ascii"), digest_size=16).hexdigest()


def _tiers_of(rule: Rule) -> frozenset[TrustTier] | None:
    if rule.applies_to_tiers is not None:
        return frozenset(TIER_NAMES[name] for name in rule.applies_to_tiers)
    return None if rule.scope == "account" else frozenset(YOUNG_TIERS)


def _place_in_when(positions: Positions, index: int) -> Callable[[int], tuple[int, int]]:
    places = positions.in_string(("rules", index, "when"))
    return lambda offset: places[min(offset, len(places) - 1)]


def _refuse_long_keys(text: str, source: str) -> None:
    found = _LONG_KEY.search(_STRING_OR_COMMENT.sub(lambda match: "s" * len(match[0]), text))
    if found is not None:
        line, column = text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
        raise PolicyError(f"a key of more than {KEY_PARTS_MAX} parts", line=line, column=column, source=source)


def _parsed(text: str, source: str) -> tuple[dict[str, Any], Positions]:
    try:
        return tomllib.loads(text), Positions(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
        if place is None:
            raise PolicyError(message, source=source) from None
        lines = text.split("\n")
        line, column = (int(place[1]), int(place[2])) if place[1] else (len(lines), len(lines[-1]) + 1)
        raise PolicyError(message[: place.start()], line=line, column=column, source=source) from None
    except ValueError:  # what int() raises
        raise PolicyError("a number of more digits than anything here can have", source=source) from None
    except RecursionError:
        raise PolicyError("too deeply nested", source=source) from None


def _refuse(error: ValidationError, positions: Positions, source: str) -> NoReturn:
    """Tell the first of what is wrong, in the order of the text, and how much more there is."""
    details = error.errors(include_url=False, include_input=False)
    placed = sorted(((_place(detail, positions), index) for index, detail in enumerate(details)))
    (line, column), index = placed[0]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    message = _message(details[index]) + more
    raise PolicyError(message, line=line, column=column, source=source) from None


def _path(detail: ErrorDetails) -> Path:
    return (*detail["loc"], *detail.get("ctx", {}).get("at", ()))


def _place(detail: ErrorDetails, positions: Positions) -> tuple[int, int]:
    path = _path(detail)
    return positions.of_key(path) if detail["type"] == "extra_forbidden" else positions.of(path)


def _message(detail: ErrorDetails) -> str:
    path = _path(detail)
    name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if detail["type"] == "missing":
        return f"{name} is missing"
    if detail["type"] == "extra_forbidden":
        known = _keys_at(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {name}; {hint}"
    return f"{name}: {detail['msg']}" if name else detail["msg"]


def _keys_at(path: Path) -> list[str]:
    """The keys the policy model knows at a path."""
    model: type[BaseModel] = Policy
    for name in path:
        if isinstance(name, str):
            model = _model_in(model.model_fields[name].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as ``tuple[Rule, ...]`` or ``RuleParams | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, UnionType):
        found = (_model_in(argument) for argument in get_args(annotation))
        return next((model for model in found if model is not None), None)
    return None


assert set(get_args(Scope)) == set(SCOPES), "the catalogue and the policy name the same scopes"
