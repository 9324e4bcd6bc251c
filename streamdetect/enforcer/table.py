"""What is in force, in memory, answering one request in about a microsecond. Pure: no clock, no Kafka.

Order of an answer: kill switch, allow, human deny, the strongest matching record; of nested subnets only the longest
prefix whose ``applies_to`` fits; limits of several subjects all apply. An attribute the gateway does not know never
fits an ``applies_to``: a neighbour about whom nothing is known is not hit. A record that matches content falls back to
its ``fallback`` params here, and to nothing when it has none.
"""

import heapq
import ipaddress
from dataclasses import replace
from typing import Final

from streamdetect.enforcer.requests import (
    PASS,
    PASS_ALLOWED,
    PASS_KILLED,
    GatewayRequest,
    InForce,
    Outcome,
    Verdict,
)
from streamdetect.messages.base import parse_address
from streamdetect.messages.decision import Decision, Params, RateLimit, Subject, Verify
from streamdetect.messages.override import Override

OUTCOMES: Final[dict[str, Outcome]] = {"rate_limit": "rate_limit", "verify": "verify", "suspend": "suspend"}
RANK: Final[dict[str, int]] = {"pass": 0, "rate_limit": 1, "verify": 2, "suspend": 3}
# What people can have done. An override has no params, so it cannot say how much a limit lets through: taken for a
# restriction, it would only hide what the detector decided.
DENIALS: Final = (None, "verify", "suspend")
FOREVER_MS: Final = 2**62
# A dead record is remembered this long, so that a stale owner's late write with a lower revision stays ignored.
GRACE_MS: Final = 3_600_000
SUBJECTS_MAX: Final = 1_000_000
ENDS_SPARE: Final = 1000  # ends that were brought forward, before the list of all ends is made anew

_Key = tuple[str, str | bytes]


class EnforcementTable:
    """Decisions and overrides by subject. Not thread-safe; at the bound the record that ends first is dropped."""

    def __init__(self, subjects_max: int = SUBJECTS_MAX) -> None:
        self._subjects_max = subjects_max
        self._decisions: dict[_Key, InForce] = {}
        self._verdicts: dict[_Key, Verdict] = {}
        self._allows: dict[_Key, int] = {}
        self._denies: dict[_Key, InForce] = {}
        self._killed_until: dict[str, int] = {}
        self._ends: list[tuple[int, str, str | bytes]] = []
        # Prefix lengths in bytes that are present, longest first: no record about subnets, no parsing of addresses.
        self._subnets: dict[int, int] = {}
        self._prefixes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self._decisions)

    def apply_decision(self, decision: Decision, now_ms: int) -> bool:
        """Take one record of ``enforcement.v1``; false when it was ignored (lower revision, not to be enforced)."""
        self._sweep(now_ms)
        key = _key(decision.subject)
        before = self._decisions.get(key)
        if before is not None and decision.revision < before.revision:
            return False
        alive = not decision.simulated and decision.status in ("issued", "renewed")
        action, params = _enforceable(decision) if alive else ("pass", None)
        applies = decision.applies_to
        tiers = applies.account_tiers if applies is not None else None
        self._put(
            key,
            InForce(
                scope=decision.subject.scope,
                value=decision.subject.value,
                decision_id=decision.decision_id,
                revision=decision.revision,
                action=action,
                params=params,
                expires_at=decision.expires_at,
                since_ms=_since(before, decision),
                tiers=frozenset(tiers) if tiers is not None else None,
                created_after=applies.created_after if applies is not None else None,
                reason_code=decision.reason_code,
                subject_text=decision.subject_text,
                appeal_ref=decision.appeal_ref,
            ),
        )
        self._sweep(now_ms)
        return action != "pass"

    def clear_decision(self, subject: Subject, now_ms: int, *, forget: bool = False) -> None:
        """Take a tombstone. The revision is remembered for a while, unless the topic itself has been replaced."""
        key = _key(subject)
        before = self._decisions.get(key)
        if before is None:
            return
        if forget:
            self._drop(key)
        else:
            self._put(key, replace(before, action="pass", expires_at=min(before.expires_at, now_ms)))

    def apply_override(self, override: Override) -> None:
        """Take one record of ``overrides.v1``; it replaces an earlier one on the same subject."""
        ends = FOREVER_MS if override.expires_at is None else override.expires_at
        if not isinstance(override.subject, Subject):
            self._killed_until["kill"] = ends
            return
        key = _key(override.subject)
        self.clear_override(override.subject)
        if override.effect == "allow":
            self._allows[key] = ends
            self._count(key, 1)
        elif override.effect == "deny" and override.action in DENIALS:
            self._denies[key] = _human(override, ends)
            self._count(key, 1)

    def clear_override(self, subject: Subject | None) -> None:
        """Take the tombstone of an override; ``None`` is the kill switch."""
        if subject is None:
            self._killed_until.clear()
            return
        key = _key(subject)
        if self._allows.pop(key, None) is not None:
            self._count(key, -1)
        if self._denies.pop(key, None) is not None:
            self._count(key, -1)

    def check(self, request: GatewayRequest, now_ms: int) -> Verdict:
        """What applies to a request now. Counts nothing: limits come back in the verdict."""
        if self._killed_until and self._killed_until["kill"] > now_ms:
            return PASS_KILLED
        keys = self._keys(request)
        if self._allows:
            for key in keys:
                if self._allows.get(key, 0) > now_ms:
                    return PASS_ALLOWED
        if self._denies:
            denies = [found for key in keys if (found := self._denies.get(key)) is not None]
            denies = [found for found in denies if found.expires_at > now_ms]
            if denies:
                return _verdict(denies, human=True)
        decisions = self._decisions
        matching: list[InForce] = []
        matched: _Key | None = None
        in_subnet = False
        for key in keys:
            found = decisions.get(key)
            if found is None or found.expires_at <= now_ms or found.action == "pass" or not _fits(found, request):
                continue
            if found.scope == "subnet":
                if in_subnet:
                    continue
                in_subnet = True
            matching.append(found)
            matched = key
        if matched is None:
            return PASS
        # Nearly always there is one record, whose verdict is ready: building one costs more than all look-ups.
        return self._verdicts[matched] if len(matching) == 1 else _verdict(matching, human=False)

    def _keys(self, request: GatewayRequest) -> list[_Key]:
        """Subjects of a request; subnets longest prefix first."""
        keys: list[_Key] = [("account", request.account_id)]
        if request.org_id is not None:
            keys.append(("org", request.org_id))
        if request.api_key_id is not None:
            keys.append(("api_key", request.api_key_id))
        if request.client_asn is not None:
            keys.append(("asn", str(request.client_asn)))
        if self._prefixes and request.client_ip is not None:
            packed = parse_address(request.client_ip)
            if packed is not None:
                keys += [
                    ("subnet", _prefix(packed, size)) for size in self._prefixes if (size == 3) == (len(packed) == 4)
                ]
        return keys

    def _put(self, key: _Key, record: InForce) -> None:
        before = self._decisions.get(key)
        if before is None:
            self._count(key, 1)
        self._decisions[key] = record
        self._verdicts[key] = _verdict([record], human=False)
        # A later end is put in when the earlier one comes up, so that renewals leave nothing behind.
        if before is None or record.expires_at < before.expires_at:
            heapq.heappush(self._ends, (record.expires_at, *key))
        if len(self._ends) > 2 * len(self._decisions) + ENDS_SPARE:
            self._ends = [(held.expires_at, *key) for key, held in self._decisions.items()]
            heapq.heapify(self._ends)

    def _drop(self, key: _Key) -> None:
        if self._decisions.pop(key, None) is not None:
            self._verdicts.pop(key, None)
            self._count(key, -1)

    def _count(self, key: _Key, change: int) -> None:
        if key[0] == "subnet":
            size = len(key[1]) - 1
            self._subnets[size] = self._subnets.get(size, 0) + change
            self._prefixes = tuple(sorted((size for size, count in self._subnets.items() if count > 0), reverse=True))

    def _sweep(self, now_ms: int) -> None:
        """Drop what ended long ago, and what ends first while there are too many."""
        while self._ends and (self._ends[0][0] + GRACE_MS <= now_ms or len(self._decisions) > self._subjects_max):
            ends, scope, value = heapq.heappop(self._ends)
            record = self._decisions.get((scope, value))
            if record is not None and record.expires_at > ends:
                heapq.heappush(self._ends, (record.expires_at, scope, value))
            elif record is not None:
                self._drop((scope, value))


def _prefix(packed: bytes, size: int) -> bytes:
    # The length stands in front: /48 of one network and /56 of another may share their first bytes.
    return bytes((size,)) + packed[:size]


def _key(subject: Subject) -> _Key:
    if subject.scope != "subnet":
        return subject.scope, subject.value
    network = ipaddress.ip_network(subject.value)
    return "subnet", _prefix(network.network_address.packed, network.prefixlen // 8)


def _enforceable(decision: Decision) -> tuple[Outcome, Params | None]:
    """What this gateway can do about a decision, without looking at content."""
    action = OUTCOMES.get(decision.action, "pass")
    if decision.match is None or action == "pass":
        return action, decision.params
    fallback = decision.match.fallback
    if isinstance(fallback, RateLimit):
        return "rate_limit", fallback
    return ("verify", fallback) if isinstance(fallback, Verify) else ("pass", None)


def _since(before: InForce | None, decision: Decision) -> int:
    """Start of the unbroken stretch: a renewal or a replacement that leaves no gap keeps it, so it does not refill."""
    if before is not None and before.action != "pass" and before.expires_at > decision.issued_at:
        return before.since_ms
    return decision.issued_at


def _human(override: Override, ends: int) -> InForce:
    action = OUTCOMES[override.action or "suspend"]
    return InForce(
        override.subject.scope, override.subject.value, override.override_id, 0, action, None, ends, override.created_at
    )


def _fits(record: InForce, request: GatewayRequest) -> bool:
    if record.tiers is not None and request.account_tier not in record.tiers:
        return False
    if record.created_after is None:
        return True
    return request.account_created_at is not None and request.account_created_at > record.created_after


def _verdict(matching: list[InForce], *, human: bool) -> Verdict:
    top = max(matching, key=lambda record: RANK[record.action])
    return Verdict(
        action=top.action,
        cause="deny" if human else "decision",
        denied=top.action != "rate_limit",
        decision_id=top.decision_id,
        scope=top.scope,
        params=top.params,
        limits=() if top.action != "rate_limit" else tuple(found for found in matching if found.limit is not None),
        expires_at=top.expires_at if top.expires_at < FOREVER_MS else None,
        reason_code=top.reason_code,
        subject_text=top.subject_text,
        appeal_ref=top.appeal_ref,
    )
