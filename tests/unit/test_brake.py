"""The brake against a straightforward model of it, on a clock that the test moves."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streamdetect.messages.decision import Decision
from streamdetect.worker.brake import Brake

NOW_S = 1_767_225_600.0
HOUR_MS = 3_600_000


def decision(account="a", status="issued", **fields):
    now_ms = int(NOW_S * 1000)
    released = {"action": "release"} if status == "released" else {}
    return Decision.model_validate(
        {
            "decision_id": f"d-{account}",
            "revision": 1,
            "subject": {"scope": "account", "value": account},
            "action": "verify",
            "status": status,
            "mode": "live",
            "origin": "rule",
            "issued_at": now_ms,
            "expires_at": now_ms + HOUR_MS,
            "policy": {"id": "p", "version": 1, "hash": "h"},
            "reason_code": "policy",
            **released,
            **fields,
        }
    )


@dataclass
class Clock:
    """Time that stands until it is moved, by how much the wall clock is wrong, and how far behind the worker is."""

    now_s: float = NOW_S
    wrong_s: float = 0.0
    behind_s: float = 0.0

    def brake(self, per_minute=2, **bounds):
        wall_s, now_s = lambda: self.now_s + self.wrong_s, lambda: self.now_s
        return Brake(per_minute, 300.0, wall_s, lambda: self.behind_s, now_s=now_s, **bounds)


@dataclass
class Run:
    """What a brake let through: (time, subject, status) in order."""

    clock: Clock
    brake: Brake
    passed: list = field(default_factory=list)

    def take(self, decisions):
        self.passed += [(self.clock.now_s, found.subject.value, found.status) for found in decisions]

    @property
    def restrictions(self):
        return [at for at, _, status in self.passed if status == "issued"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), st.sampled_from("abcdefgh")),
        st.tuples(st.just("release"), st.sampled_from("abcdefgh")),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 7.0, 31.0, 61.0])),
        st.tuples(st.just("behind"), st.sampled_from([0.0, 299.0, 301.0])),
        st.tuples(st.just("tick"), st.none()),
    ),
    max_size=60,
)


def run(steps, per_minute):
    clock = Clock()
    outcome = Run(clock, clock.brake(per_minute))
    waiting, restricted_while_behind = {}, False
    for step, value in steps:
        before = len(outcome.restrictions)
        if step == "issue":
            answer = outcome.brake.judge(decision(value))
            outcome.take(answer)
            if not any(found.status == "issued" for found in answer):
                waiting[value] = True
        elif step == "release":
            outcome.take(outcome.brake.judge(decision(value, "released")))
            waiting.pop(value, None)
        elif step == "tick":
            due = outcome.brake.due()
            outcome.take(due)
            for found in due:
                del waiting[found.subject.value]
        elif step == "wait":
            clock.now_s += value
        elif step == "set":
            clock.wrong_s = value
        else:
            clock.behind_s = value
        restricted_while_behind |= clock.behind_s > 300 and len(outcome.restrictions) > before
        assert outcome.brake.held == len(waiting)
    return outcome, restricted_while_behind


@given(STEPS, st.integers(0, 4))
def test_no_minute_holds_more_restrictions_than_allowed_and_none_come_from_behind(steps, per_minute):
    outcome, restricted_while_behind = run(steps, per_minute)
    times = outcome.restrictions
    for start in times:
        assert sum(start <= at < start + 60 for at in times) <= per_minute
    assert not restricted_while_behind


@given(STEPS, st.integers(0, 4))
def test_releases_pass_at_once_and_nothing_held_outlives_them(steps, per_minute):
    outcome, _ = run(steps, per_minute)
    assert sum(step == "release" for step, _ in steps) == sum(status == "released" for *_, status in outcome.passed)


@given(
    STEPS, st.integers(1, 4), st.lists(st.tuples(st.integers(0, 60), st.sampled_from([-86_400.0, -30.0, 0.0, 900.0])))
)
def test_a_wall_clock_that_is_set_changes_nothing_while_no_decision_is_over(steps, per_minute, jumps):
    steps = [step for step in steps if step != ("wait", 61.0)]  # else an hour passes
    jumping = list(steps)
    for place, wrong_s in jumps:
        jumping.insert(place, ("set", wrong_s))
    assert run(jumping, per_minute)[0].passed == run(steps, per_minute)[0].passed


@given(STEPS, st.integers(0, 4))
def test_a_held_subject_is_logged_once_for_each_stretch_of_waiting(steps, per_minute):
    outcome, _ = run(steps, per_minute)
    waits = set()
    for _, subject, status in outcome.passed:
        if status == "held":
            assert subject not in waits
            waits.add(subject)
        else:
            waits.discard(subject)


def test_five_of_twenty_pass_and_the_others_when_the_minute_is_over():
    clock = Clock()
    brake = clock.brake(5)
    first = [brake.judge(decision(f"a{number}"))[0].status for number in range(20)]
    assert first == ["issued"] * 5 + ["held"] * 15
    assert brake.due() == []
    clock.now_s += 60
    assert [found.subject.value for found in brake.due()] == [f"a{number}" for number in range(5, 10)]
    assert brake.held == 10


def test_what_waited_too_long_lapses_and_is_not_enforced():
    clock = Clock()
    brake = clock.brake(0)
    brake.judge(decision())
    clock.now_s += HOUR_MS / 1000
    assert [found.status for found in brake.due()] == ["lapsed"]
    assert brake.held == 0
    assert [found.status for found in brake.judge(decision())] == ["lapsed"]


def test_renewals_of_what_is_in_force_pass_and_of_what_is_held_wait():
    brake = Clock().brake(1)
    assert [found.status for found in brake.judge(decision("a"))] == ["issued"]
    assert [found.status for found in brake.judge(decision("a", "renewed"))] == ["renewed"]
    assert [found.status for found in brake.judge(decision("b"))] == ["held"]
    assert brake.judge(decision("b", "renewed")) == []


def test_a_renewal_of_what_is_not_in_force_is_a_new_restriction():
    clock = Clock(behind_s=1000.0)
    brake = clock.brake(1, stands=lambda one: one.subject.value == "a")
    assert [found.status for found in brake.judge(decision("a", "renewed"))] == ["renewed"]
    assert [found.status for found in brake.judge(decision("b", "renewed"))] == ["held"]
    clock.behind_s = 0.0
    assert [found.status for found in brake.due()] == ["renewed"]
    assert [found.status for found in brake.judge(decision("c", "renewed"))] == ["held"]


def test_what_enforces_nothing_is_not_braked():
    brake = Clock().brake(0)
    for free in (decision(simulated=True), decision(action="observe"), decision(status="held")):
        assert brake.judge(free) == [free]


def test_the_queue_is_bounded_and_the_oldest_goes_first():
    clock = Clock()
    brake = clock.brake(0, held_max=3)
    for number in range(5):
        brake.judge(decision(f"a{number}"))
    assert (brake.held, brake.dropped) == (3, 2)
    brake.per_minute = 10
    assert [found.subject.value for found in brake.due()] == ["a2", "a3", "a4"]
