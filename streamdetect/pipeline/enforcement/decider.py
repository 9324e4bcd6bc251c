"""Decisions and enforcement of one stage: from a rule that holds to what is said about it, or to nothing.

In this order: what a person decided, what the subject was pardoned for, what is in force, the caps. While a subject is
allowed, or the kill switch is on, decisions are taken and logged as simulated, and nothing is put in force.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamdetect.kernels.index import KeyedRows
from streamdetect.messages.decision import Decision, Mode
from streamdetect.messages.override import Override
from streamdetect.messages.policy import Scope
from streamdetect.pipeline.accounts.features import TIER_COLUMN
from streamdetect.pipeline.accounts.tiers import TrustTier
from streamdetect.pipeline.decisions.judge import LIVE, SIMULATED, Hit, Judge
from streamdetect.pipeline.decisions.policy import CompiledPolicy
from streamdetect.pipeline.enforcement.overrides import Overrides, unless_over
from streamdetect.pipeline.enforcement.pardons import Pardon, facts_in
from streamdetect.pipeline.enforcement.records import Newest, word
from streamdetect.pipeline.enforcement.rulings import Ruling, Standing, SubjectKey, SubjectRecord, level_max_of
from streamdetect.pipeline.enforcement.standing import Standings


@dataclass(frozen=True, slots=True)
class Case:
    """A subject at one moment, event time ``at`` (ms): its row of the table of state, its features, its newest event.

    Windows are read at ``windows_at``, the subject's own newest time. ``ledger`` holds the facts about an account;
    ``None`` where there are none, and for shared subjects.
    """

    subject: SubjectKey
    table: KeyedRows
    row: int
    features: NDArray[np.int64]
    at: int
    windows_at: int
    newest: Newest
    ledger: NDArray[np.void] | None = None


class Decider:
    """Judges, standings and overrides of the subjects of some scopes. ``policy`` and ``mode`` are those in effect."""

    def __init__(
        self,
        scopes: tuple[Scope, ...],
        policy: CompiledPolicy,
        mode: Mode,
        partitions: int,
        adopted: Mapping[SubjectKey, SubjectRecord],
    ) -> None:
        self._scopes = scopes
        self.standings = Standings(policy, partitions, adopted=adopted)
        self.people = Overrides(frozenset(scopes))
        self._go_by(policy, mode)

    def obey(
        self, policy: CompiledPolicy, mode: Mode, table: KeyedRows, subject_of: Callable[[int], SubjectKey]
    ) -> None:
        """Go by a policy from now on; what is in force, pardoned or counted by caps stays.

        ``table`` has the rows of state of the subjects, ``subject_of`` names the subject of one: when something is
        renewed is kept there as well.
        """
        renewal = self.policy.model.ladder.renew_fraction
        self._go_by(policy, mode)
        changed = np.flatnonzero(
            (table.live["quiet_until_s"] > 0).any(axis=1) & (policy.model.ladder.renew_fraction != renewal)
        )
        for row in changed.tolist():
            self.standings.note_quiet(table, row, subject_of(row))

    def _go_by(self, policy: CompiledPolicy, mode: Mode) -> None:
        self.policy, self.mode = policy, mode
        self.standings.obey(policy)
        self.judges = {scope: Judge(policy, scope, mode) for scope in self._scopes}

    def decide(self, hit: Hit, case: Case, trigger: int) -> list[Decision]:
        """Decide on a hit; ``trigger`` is the hash of the event that completed it."""
        remaining, said = hit, list[Decision]()
        allow = self.people.allow(case.subject, case.at)
        if allow is not None and hit.track == LIVE:
            # Of a subject that was not known when the allow came, something may be in force from before.
            said = self._lift(case, allow)
            self.pardon(case)
        elif allow is None and (pardon := self.standings.pardon_of(case.subject)) is not None:
            left = pardon.left_of(case.features, case.ledger, case.subject[0], at=case.at, windows_at=case.windows_at)
            again = self.judges[case.subject[0]].again(hit, case.features, left)
            if again is None:
                return []
            remaining, case = again, replace(case, features=left)
        by = self.people.stopping(case.subject, case.at) if hit.track == LIVE else None
        if by is not None:
            level, until = self.standings.quiet(case.subject, LIVE)
            if remaining.level <= level and case.at < until:
                return said  # what is in force already covers it: there is nothing to decide, enforced or not
            remaining = replace(remaining, track=SIMULATED)
        unknown = case.subject[0] == "account" and case.features[TIER_COLUMN] == TrustTier.UNKNOWN
        ruling = self.standings.hit(
            case.subject, remaining, at=case.at, trigger=trigger, level_max=level_max_of(bool(unknown), self.policy)
        )
        return said + self._say(ruling, case, case.features, by)

    def clear(self, case: Case) -> list[Decision]:
        """Trust spoke for something an account shares: lift what rested on it once its rule holds no longer."""
        judge = self.judges[case.subject[0]]
        decisions: list[Decision] = []
        ended = []
        for track in (LIVE, SIMULATED):
            standing = self.standings.in_force(case.subject, track, case.at)
            if standing is not None and self._is_void(judge, standing, case):
                decisions += self._say(self.standings.release(case.subject, track, case.at), case)
                ended.append(standing)
        lifted = self.standings.lifted_before(case.subject)
        if lifted is not None and self._is_void(judge, lifted, case):
            ended.append(lifted)
        for standing in ended:
            voided = judge.families_trust_voids(standing.rule_id)
            self._pardon_facts(case.subject, [] if case.ledger is None else facts_in(case.ledger, voided))
        return decisions

    @staticmethod
    def _is_void(judge: Judge, standing: Standing, case: Case) -> bool:
        return judge.rests_on_evidence(standing.rule_id) and not judge.still_holds(standing.rule_id, case.features)

    def heed(self, case: Case, before: Override | None) -> list[Decision]:
        """An allow of the subject begins, changes or ends: pardon what is known by now, lift what is in force.

        One that was over by the time of the subject is none: it is read again at every restart.
        """
        allow = self.people.allow(case.subject, case.at)
        if allow is None and unless_over(before, case.at) is None:
            return []
        self.pardon(case)
        return self._lift(case, allow) if allow is not None else []

    def _lift(self, case: Case, by: Override) -> list[Decision]:
        return self._say(self.standings.release(case.subject, LIVE, case.at), case, by=by)

    def pardon(self, case: Case) -> None:
        """Do not hit a subject again for what is known of it by now."""
        pardon = self.standings.pardon_of(case.subject) or Pardon()
        self.standings.pardon(case.subject, pardon.with_counts(case.features, case.windows_at, case.subject[0]))
        if case.ledger is not None:
            self._pardon_facts(case.subject, facts_in(case.ledger))

    def _pardon_facts(self, subject: SubjectKey, facts: list[tuple[int, int, int]]) -> None:
        if facts:
            self.standings.pardon(subject, (self.standings.pardon_of(subject) or Pardon()).with_facts(facts))

    def _say(
        self,
        ruling: Ruling | None,
        case: Case,
        features: NDArray[np.int64] | None = None,
        by: Override | None = None,
    ) -> list[Decision]:
        if ruling is None:
            return []
        self.standings.note_quiet(case.table, case.row, ruling.subject)
        return [word(ruling, features, case.newest, self.policy, self.mode, by)]
