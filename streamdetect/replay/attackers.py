"""Campaigns that answer refusals: they notice, try again, hand over to siblings, buy fresh accounts, change templates.

What a refused exchange goes through is told in ``messages/reaction.py``; a refusal is any answer but service, a limit
too. Stated here: a campaign reacts between rounds, so nothing is sent again before the next one. A sibling is an
account of the same campaign and cohort that has sent a planned exchange and not been given up; it sends under its own
name and from its own exit. Eight are drawn; if all have taken over what they may that day, the exchange is not sent. A
fresh account has its predecessor's exit and standing, is as old as it is in use, and shares a card with seven other
fresh ones. Whose template is lost: the one of the refusal that ended an account. Without a list of templates a campaign
has one. Everything is drawn from hashes of ids, so the same traffic plays the same way.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.messages.reaction import Reaction
from streamdetect.pipeline.accept.columns import RequestColumns
from streamdetect.replay.attack import NO_TEMPLATE, Attack
from streamdetect.replay.disguise import Exit, Identity, identity_of, impersonated, prompted, reworded
from streamdetect.replay.evaluate import UNSENT
from streamdetect.replay.pools import NOBODY, Pools
from streamdetect.replay.reorder import gather
from streamdetect.replay.senders import (
    AGAIN,
    ATTACKER,
    DAY_MS,
    FAIL_OVER_DELAY,
    IN_USE,
    LOST,
    MOVES,
    NEVER_MS,
    REACTION_FIELDS,
    RETRY_DELAY,
    find_senders,
    see_refusals,
)
from streamdetect.replay.truth import CAMPAIGN, Truth, hashes_of
from streamdetect.replay.waves import Later, Wave

ACCOUNTS_PER_CARD = 8
_TEMPLATE = np.dtype(
    [
        ("changes_at", "i8"),
        ("version", "i8"),  # how often it has been replaced
        ("spare", "i8"),  # the prompts it is sent in: -1 none of the spare ones
        ("next_spare", "i8"),  # the same, from changes_at on
        ("losses", "i8"),
    ]
)


@dataclass(slots=True)
class Attackers:
    """All campaigns of a truth. Labels grow by the fresh accounts they buy."""

    truth: Truth
    attack: Attack
    round_ms: int
    later: Later = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    _state: NDArray[np.void] = field(init=False)
    _reactions: list[Reaction] = field(init=False)
    _numbers: NDArray[np.int64] = field(init=False)
    _pools: Pools = field(init=False)
    _templates: NDArray[np.void] = field(init=False)
    _spares: list[list[bytes]] = field(default_factory=list)
    _first_spare: dict[str, int] = field(default_factory=dict)
    _spares_used: Counter[str] = field(default_factory=Counter)
    _identities: dict[int, Identity] = field(default_factory=dict)
    _roots: dict[int, int] = field(default_factory=dict)
    _generations: Counter[int] = field(default_factory=Counter)
    _bought: Counter[int] = field(default_factory=Counter)
    _bought_on: Counter[tuple[int, int]] = field(default_factory=Counter)
    _arriving: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = self.truth.accounts.live
        self.later = Later(self.round_ms)
        self._reactions = [self.attack.of(name) for name in self.truth.campaigns]
        self._numbers = np.array(
            [[getattr(one, name) for name in REACTION_FIELDS] for one in self._reactions]
            or [[0] * len(REACTION_FIELDS)],
            np.int64,
        )
        self._state = np.zeros(0, ATTACKER)
        self._grow()
        groups = np.stack([rows["campaign"], rows["cohort"]], axis=1)
        _, pool, sizes = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
        self._state["pool"][: len(rows)] = pool.ravel()
        self._pools = Pools.of(sizes)
        self._templates = np.zeros(self.attack.templates + len(self._reactions), _TEMPLATE)
        self._templates["changes_at"] = NEVER_MS
        self._templates["spare"] = self._templates["next_spare"] = NO_TEMPLATE
        for name in self.truth.campaigns:
            self._first_spare[name] = len(self._spares)
            self._spares += self.attack.spares.get(name, [])

    def passes(self, sender: NDArray[np.int64]) -> NDArray[np.float64]:
        """The chance that each event's sender, a campaign's account, passes a verification."""
        chances = np.array([one.passes_verification_percent / 100 for one in self._reactions] or [0.0])
        chosen: NDArray[np.float64] = chances[self.truth.accounts.rows["campaign"][sender]]
        return chosen

    def planned(
        self,
        columns: RequestColumns,
        request: NDArray[np.uint64],
        planner: NDArray[np.int64],
        fate: NDArray[np.uint8],
        cover: NDArray[np.bool_],
    ) -> Wave:
        """Events of a round as they were planned."""
        template = self.attack.template_of(request)
        campaign = np.where(planner >= 0, self.truth.accounts.rows["campaign"][planner], np.int32(-1))
        if not self.attack.templates:
            template = campaign
        template = np.where(cover | (campaign < 0), np.int32(NO_TEMPLATE), template)
        none = np.zeros(len(columns), np.int64)
        return Wave(
            columns, request, planner, planner, np.zeros(len(columns), np.bool_), fate, ~cover, template, none, none
        )

    def send(self, wave: Wave, start_ms: int) -> tuple[Wave, RequestColumns]:
        """Decide who sends what: the wave with its senders, and its events as they go out."""
        while self._arriving and self._arriving[0][0] <= start_ms:
            row = heapq.heappop(self._arriving)[1]
            if self._state[row]["given_up_at"] == NEVER_MS:
                self._pools.join(int(self._state[row]["pool"]), row)
        sender, fate = wave.sender.copy(), wave.fate.copy()
        met, taken_up = np.zeros(len(wave), np.bool_), np.zeros(len(wave), np.bool_)
        columns = wave.columns
        find_senders(
            self.truth.accounts.rows, self._state, self._numbers,
            self._pools.members, self._pools.start, self._pools.length,
            wave.request, wave.planner, wave.sibling, wave.moves, columns.occurred_at,
            columns.address_family, columns.address_high, columns.address_low, wave.counts, sender, fate, met, taken_up,
        )  # fmt: skip
        for index in np.flatnonzero(met).tolist():
            self._identities[int(sender[index])] = identity_of(columns, index)
        for index in np.flatnonzero(taken_up).tolist():
            row = int(sender[index])
            self._pools.join(int(self._state[row]["pool"]), row)
        return replace(wave, sender=sender, fate=fate), self._disguised(wave, columns, sender, fate)

    def learn(self, wave: Wave, denied: NDArray[np.uint8], start_ms: int) -> None:
        """See what was refused of a wave that was sent, and plan what follows."""
        becomes, given_up = np.zeros(len(wave), np.uint8), np.zeros(len(wave), np.bool_)
        see_refusals(
            self.truth.accounts.rows, self._state, self._numbers, wave.sender, wave.columns.occurred_at, wave.fate,
            wave.tries, wave.moves, denied, becomes, given_up,
        )  # fmt: skip
        for index in np.flatnonzero(given_up).tolist():
            self._give_up(int(wave.sender[index]), int(wave.columns.occurred_at[index]), int(wave.template[index]))
        self.counts["refused"] += int(np.count_nonzero(becomes))
        self.counts["lost"] += int(np.count_nonzero(becomes == LOST))
        for outcome, delay, name in ((AGAIN, RETRY_DELAY, "tried_again"), (MOVES, FAIL_OVER_DELAY, "failed_over")):
            rows = np.flatnonzero(becomes == outcome)
            if not len(rows):
                continue
            self.counts[name] += len(rows)
            campaign = self.truth.accounts.rows["campaign"][wave.sender[rows]]
            due = np.maximum(wave.columns.occurred_at[rows] + self._numbers[campaign, delay], start_ms + self.round_ms)
            moves = wave.moves + (outcome == MOVES)
            sibling = np.full(len(wave), outcome == MOVES)
            self.later.put(replace(wave, sibling=sibling, tries=wave.tries + 1, moves=moves), rows, due)

    def _disguised(
        self, wave: Wave, columns: RequestColumns, sender: NDArray[np.int64], fate: NDArray[np.uint8]
    ) -> RequestColumns:
        version, spare = self._words(wave.template, columns.occurred_at)
        other = np.flatnonzero((sender != wave.planner) & (sender >= 0) & (fate != UNSENT))
        changed = np.flatnonzero(version > 0)
        if not len(other) and not len(changed):
            return columns
        columns = gather([columns], [np.arange(len(columns))])
        if len(changed):
            self.counts["reworded"] += len(changed)
            columns = reworded(columns, np.where(spare < 0, version, 0))
            rows = changed[(spare[changed] >= 0) & (columns.prompt.start[changed] >= 0)]
            texts = [self._spares[number] for number in spare[rows].tolist()]
            drawn = wave.request[rows].tolist()
            columns = prompted(columns, rows, [some[key % len(some)] for some, key in zip(texts, drawn, strict=True)])
        if not len(other):
            return columns
        exits = {
            row: Exit(int(one["address_family"]), int(one["address_high"]), int(one["address_low"]))
            for row in np.unique(sender[other]).tolist()
            if (one := self._state[row])["address_family"]
        }
        return impersonated(columns, other, sender[other], self._identities, exits)

    def _words(self, template: NDArray[np.int32], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How often each event's template has been replaced, and by which spare one (-1 none)."""
        if not self._templates["losses"].any():
            return np.zeros(len(template), np.int64), np.full(len(template), NO_TEMPLATE, np.int64)
        known = self._templates[np.maximum(template, 0)]
        changed = known["changes_at"] <= at
        version = np.where(template >= 0, known["version"] + changed, 0)
        return version, np.where(changed, known["next_spare"], known["spare"])

    def _give_up(self, row: int, at: int, template: int) -> None:
        campaign = int(self.truth.accounts.rows[row]["campaign"])
        reaction = self._reactions[campaign]
        self.counts["accounts_given_up"] += 1
        self._pools.leave(int(self._state[row]["pool"]), row)
        if reaction.respawn_delay_ms is not None:
            self._buy(row, at + reaction.respawn_delay_ms, reaction)
        if template != NO_TEMPLATE and reaction.template_losses:
            self._lose_template(template, at, self.truth.campaigns[campaign], reaction)

    def _lose_template(self, template: int, at: int, campaign: str, reaction: Reaction) -> None:
        one = self._templates[template]
        if int(one["changes_at"]) <= at:
            one["version"] += 1
            one["changes_at"], one["spare"] = NEVER_MS, one["next_spare"]
        one["losses"] += 1
        if one["changes_at"] == NEVER_MS and one["losses"] % reaction.template_losses == 0:
            one["changes_at"] = at + reaction.template_delay_ms
            used = self._spares_used[campaign]
            left = used < len(self.attack.spares.get(campaign, []))
            one["next_spare"] = self._first_spare[campaign] + used if left else NO_TEMPLATE
            self._spares_used[campaign] += 1
            self.counts["templates_replaced"] += 1

    def _buy(self, row: int, ready: int, reaction: Reaction) -> None:
        """Replace an account by a fresh one, on the first day that still has one to give."""
        campaign = int(self.truth.accounts.rows[row]["campaign"])
        if reaction.respawns_per_day:
            a_day, day = max(1, round(reaction.respawns_per_day * self.attack.scale)), ready // DAY_MS
            while self._bought_on[campaign, day] >= a_day:
                day += 1
            self._bought_on[campaign, day] += 1
            ready = max(ready, day * DAY_MS)
        root = self._roots.get(row, row)
        self._generations[root] += 1
        identity = self._fresh(self._identities[root], self._generations[root], campaign, ready)
        self._bought[campaign] += 1
        self.counts["accounts_bought"] += 1
        old = self.truth.accounts.rows[row]
        heir = self.truth.add(
            hashes_of([identity.account_id])[0], CAMPAIGN, int(old["campaign"]), int(old["cohort"])
        )  # fmt: skip
        self._grow()
        self._roots[heir], self._identities[heir] = root, identity
        self._state[heir]["pool"], self._state[heir]["met"] = self._state[row]["pool"], IN_USE
        self._state[row]["heir"], self._state[row]["heir_from"] = heir, ready
        heapq.heappush(self._arriving, (ready, heir))

    def _fresh(self, old: Identity, generation: int, campaign: int, ready: int) -> Identity:
        tail = b"~%d" % generation
        card = b"card~%d~%d" % (campaign, self._bought[campaign] // ACCOUNTS_PER_CARD)
        return Identity(
            old.account_id + tail,
            None if old.org_id is None else old.org_id + tail,
            None if old.api_key_id is None else old.api_key_id + tail,
            None if old.payment_id is None else card,
            old.created_at if old.created_at < 0 else ready,
            old.tier,
        )

    def _grow(self) -> None:
        count, before = len(self.truth.accounts.rows), len(self._state)
        if count > before:
            more = np.zeros(count - before, ATTACKER)
            more["given_up_at"] = more["heir_from"] = NEVER_MS
            more["heir"] = NOBODY
            self._state = np.concatenate([self._state, more])
