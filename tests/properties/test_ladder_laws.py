"""The ladder, as a machine that compares ``Standings`` with a plain model, and its corners one by one."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pipeline_reference import HOUR_MS, START, low_policy

from streamdetect.errors import PolicyError
from streamdetect.messages.policy import duration_ms
from streamdetect.pipeline.decisions.judge import LIVE, SIMULATED, Hit
from streamdetect.pipeline.decisions.policy import default_text, load_policy
from streamdetect.pipeline.enforcement.records import Newest, word
from streamdetect.pipeline.enforcement.rulings import level_max_of
from streamdetect.pipeline.enforcement.standing import Standings

OBSERVE, LIMIT, VERIFY, SUSPEND = 1, 2, 3, 4
ANN = ("account", "ann")
RULES = {rule.rule.id: rule for rule in low_policy().rules}
BY_LEVEL = {OBSERVE: "shared-payment", LIMIT: "hammering", VERIFY: "shared-template", SUSPEND: "template-and-payment"}


def hit(level, track=LIVE, rule_id=None):
    return Hit(0, track, level, (RULES[rule_id or BY_LEVEL[level]],))


def strike(standings, level, at, *, subject=ANN, track=LIVE, trigger=1, level_max=4, rule_id=None):
    return standings.hit(subject, hit(level, track, rule_id), at=at, trigger=trigger, level_max=level_max)


class Ladder(RuleBasedStateMachine):
    """Time goes on, hits of all levels come on both tracks, releases too; a dictionary says what must follow."""

    def __init__(self):
        super().__init__()
        self.standings = Standings(low_policy())
        self.now, self.trigger = START, 0
        self.expected = {}  # (subject, track) -> (level, id, ttl, expiry)
        self.revisions = {}

    def check(self, ruling):
        subject = ruling.subject
        assert ruling.revision == self.revisions.get(subject, 0) + 1
        self.revisions[subject] = ruling.revision

    @rule(ms=st.one_of(st.integers(0, 10_000), st.integers(0, 4 * HOUR_MS), st.integers(0, 200 * HOUR_MS)))
    def wait(self, ms):
        self.now += ms

    @rule(
        name=st.sampled_from(["ann", "bob"]), track=st.sampled_from([LIVE, SIMULATED]), level=st.integers(1, 4),
        level_max=st.sampled_from([2, 4]),
    )  # fmt: skip
    def strike(self, name, track, level, level_max):
        subject, rule = ("account", name), RULES[BY_LEVEL[level]]
        self.trigger += 1
        ruling = strike(
            self.standings, level, self.now, subject=subject, track=track, trigger=self.trigger, level_max=level_max
        )
        wanted = min(level, level_max)
        current = self.expected.get((subject, track))
        if current and self.now >= current[3]:
            current = None
        if current and wanted < current[0]:
            assert ruling is None
            return
        if current and wanted == current[0]:
            late = self.now >= current[3] - current[2] // 2
            if not late or self.now + rule.ttl_ms <= current[3]:
                assert ruling is None or ruling.expires_at > current[3]
                if not late:
                    assert ruling is None
                if ruling is None:
                    return
            assert ruling.status == "renewed"
            assert ruling.decision_id == current[1]
            assert ruling.expires_at > current[3]
        else:
            assert ruling.status == "issued"
            assert ruling.supersedes == (current[1] if current else None)
            assert current is None or ruling.decision_id != current[1]
        assert ruling.level == wanted
        assert ruling.capped == (wanted < level)
        assert ruling.track == track
        assert rule.ttl_ms <= ruling.expires_at - self.now <= rule.ttl_ms * 1.05
        self.check(ruling)
        self.expected[subject, track] = (wanted, ruling.decision_id, rule.ttl_ms, ruling.expires_at)

    @rule(name=st.sampled_from(["ann", "bob"]), track=st.sampled_from([LIVE, SIMULATED]))
    def release(self, name, track):
        subject = ("account", name)
        current = self.expected.get((subject, track))
        ruling = self.standings.release(subject, track, self.now)
        if current is None or self.now >= current[3]:
            assert ruling is None
            return
        assert (ruling.status, ruling.level, ruling.decision_id) == ("released", 0, current[1])
        self.check(ruling)
        del self.expected[subject, track]

    @invariant()
    def in_force_is_what_the_model_says(self):
        for name in ("ann", "bob"):
            for track in (LIVE, SIMULATED):
                subject = ("account", name)
                standing = self.standings.in_force(subject, track, self.now)
                current = self.expected.get((subject, track))
                if current is None or self.now >= current[3]:
                    assert standing is None
                else:
                    found = (standing.level, standing.decision_id, standing.ttl_ms, standing.expires_at)
                    assert found == current


TestLadder = Ladder.TestCase
TestLadder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_renewal_never_ends_sooner_than_what_it_renews():
    standings = Standings(low_policy())
    first = strike(standings, SUSPEND, START, level_max=LIMIT)  # seven days of a limit
    nearly_over = first.expires_at - 2 * HOUR_MS

    assert strike(standings, LIMIT, nearly_over) is None  # would end an hour sooner
    assert standings.in_force(ANN, LIVE, nearly_over).expires_at == first.expires_at
    assert strike(standings, LIMIT, first.expires_at - 1).status == "renewed"


def test_a_held_decision_is_logged_once_an_interval():
    policy = low_policy(suspend_per_hour=1)
    standings, interval = Standings(policy), duration_ms(policy.model.ladder.held_log_interval)
    strike(standings, SUSPEND, START, subject=("account", "first"))

    held = strike(standings, SUSPEND, START)
    statuses = [strike(standings, SUSPEND, START + ms) for ms in (1, 1000, interval - 1)]
    after = strike(standings, SUSPEND, START + interval)

    assert held.status == "held"
    assert statuses == [None, None, None]
    assert after.status == "issued"
    assert after.revision == held.revision + 1


def test_what_is_held_never_comes_into_force_and_leaves_what_is():
    standings = Standings(low_policy(suspend_per_hour=0))
    strike(standings, VERIFY, START)

    held = strike(standings, SUSPEND, START + 1)

    assert (held.status, held.level) == ("held", SUSPEND)
    assert standings.in_force(ANN, LIVE, START + 1).level == VERIFY


def test_tracks_do_not_touch_each_other_nor_each_others_caps():
    standings = Standings(low_policy(suspend_per_hour=1))

    shadowed = strike(standings, SUSPEND, START, track=SIMULATED)
    enforced = strike(standings, SUSPEND, START)

    assert (shadowed.status, enforced.status) == ("issued", "issued")
    assert enforced.supersedes is None
    assert standings.release(ANN, SIMULATED, START + 1).track == SIMULATED
    assert standings.in_force(ANN, LIVE, START + 1) is not None


def test_a_partition_gets_its_share_of_a_cap_and_at_least_one():
    def issued(cap, partitions):
        standings = Standings(low_policy(verify_per_hour=cap), partitions)
        return sum(strike(standings, VERIFY, START, subject=("account", str(n))).status == "issued" for n in range(20))

    assert [issued(8, 1), issued(8, 4), issued(9, 4), issued(1, 4), issued(0, 4)] == [8, 2, 3, 1, 0]


def test_a_cap_slides_with_event_time():
    standings = Standings(low_policy(verify_per_hour=2))

    def statuses(at):
        return strike(standings, VERIFY, at, subject=("account", str(at))).status

    ats = (START, START + 1, START + 2, START + HOUR_MS, START + HOUR_MS + 1, START + HOUR_MS + 2)
    assert [statuses(at) for at in ats] == ["issued", "issued", "held", "issued", "issued", "held"]


def test_a_capped_action_brings_the_limit_of_the_ladder():
    policy = low_policy()
    ruling = strike(Standings(policy), SUSPEND, START, level_max=level_max_of(True, policy))
    decision = word(ruling, None, Newest("e", START), policy, "live")

    assert decision.action == "rate_limit"
    assert decision.params.model_dump() == policy.model.ladder.capped_rate_limit.model_dump()
    assert strike(Standings(policy), SUSPEND, START, level_max=level_max_of(False, policy)).level == SUSPEND


def test_jitter_is_of_the_subject_and_bounded():
    def ends(name):
        return strike(Standings(low_policy()), LIMIT, START, subject=("account", name)).expires_at - START

    lengths = [ends(f"a{n}") for n in range(50)]
    assert lengths == [ends(f"a{n}") for n in range(50)]
    assert len(set(lengths)) > 40
    assert all(HOUR_MS <= length <= 1.05 * HOUR_MS for length in lengths)


def test_the_id_tells_policy_subject_action_and_trigger():
    def id_of(policy=None, **fields):
        level = fields.pop("level", VERIFY)
        return strike(Standings(policy or low_policy()), level, fields.pop("at", START), **fields).decision_id

    assert id_of() == id_of(at=START + 5)
    others = [
        id_of(trigger=2),
        id_of(subject=("account", "bob")),
        id_of(level=LIMIT),
        id_of(low_policy(suspend_per_hour=9)),
    ]
    assert len({id_of(), *others}) == 5


def test_no_rule_suspends_a_shared_subject():
    old = 'action = "rate_limit"\nparams = { unit = "requests", limit = 60, period = "hour" }'
    assert old in default_text()
    with pytest.raises(PolicyError, match="no higher than verify"):
        load_policy(default_text().replace(old, 'action = "suspend"'))


def test_subjects_are_bounded_and_those_in_force_stay_longest():
    standings = Standings(low_policy(), subjects_max=10)
    strike(standings, SUSPEND, START, subject=("account", "long"))
    for n in range(100):
        strike(standings, LIMIT, START + n * HOUR_MS, subject=("account", str(n)))
        assert len(standings) <= 10

    assert standings.in_force(("account", "long"), LIVE, START + 100 * HOUR_MS) is not None
    assert standings.evicted == 101 - len(standings)
