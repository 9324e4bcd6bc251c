"""Traffic made to give faults away, and the policy that reads it.

Half of the accounts share nothing and have just as many events as a rule asks for, or one fewer: an event that is lost
or counted twice moves one of them across a rung of the ladder. The others share texts, cards and subnets, so that
decisions pass through links and evidence as well. Some events are sent twice under one id. No rule here looks at
anything that can fall, and all events lie in one window: so the strongest action against a subject does not depend on
the order in which partitions, links and evidence arrive, which faults may change.
"""

import random
from dataclasses import dataclass
from functools import cached_property

import orjson

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
START = 1_767_225_600_000  # 2026-01-01, a border of every sub-bucket
RUNGS = (6, 12, 18)
POLICY = """
id = "faults"
version = 1
mode = "live"
round_ms = 10_000
[[rules]]
id = "six"
when = "requests_1d >= 6"
action = "observe"
ttl = "2d"
reason_code = "policy"
[[rules]]
id = "twelve"
when = "requests_1d >= 12"
action = "rate_limit"
params = { unit = "requests", limit = 60, period = "minute" }
ttl = "2d"
reason_code = "rate_exceeded"
[[rules]]
id = "eighteen"
when = "requests_1d >= 18"
action = "verify"
ttl = "2d"
reason_code = "rate_exceeded"
[[rules]]
id = "text"
when = "template_young_1d >= 5"
action = "rate_limit"
params = { unit = "requests", limit = 60, period = "hour" }
ttl = "2d"
reason_code = "shared_content"
[[rules]]
id = "text-and-card"
when = "template_young_1d >= 5 and payment_young_1d >= 3"
action = "suspend"
ttl = "2d"
reason_code = "coordinated_use"
[[rules]]
id = "subnet"
scope = "subnet"
when = "young_accounts_1d >= 3"
action = "rate_limit"
params = { unit = "requests", limit = 60, period = "hour" }
ttl = "2d"
reason_code = "shared_network"
[caps]
rate_limit_per_hour = 1_000_000
verify_per_hour = 1_000_000
suspend_per_hour = 1_000_000
[associations.suspect_young]
subnet = 3
payment = 3
template = 5
"""


@dataclass(frozen=True)
class Crowd:
    """``accounts`` accounts, seeded; their events in order of time, within six hours of ``start`` (ms)."""

    accounts: int = 600
    seed: int = 1
    start: int = START
    name: str = "a"

    @cached_property
    def events(self):
        """All events in the order in which they are sent, repeats included."""
        draw = random.Random(self.seed)
        events = []
        for number in range(self.accounts):
            shared = number % 2
            count = draw.randrange(1, 5) if shared else draw.choice(RUNGS) - draw.randrange(2)
            fields = self._shared(number // 2) if shared else {}
            at = sorted(draw.randrange(6 * HOUR_MS) for _ in range(count))
            events += [self._event(number, place, self.start + when, fields) for place, when in enumerate(at)]
        events.sort(key=lambda event: (event["occurred_at"], event["event_id"]))
        for _ in range(len(events) // 20):
            place = draw.randrange(len(events))
            events.insert(draw.randrange(place, len(events)) + 1, events[place])
        return events

    @cached_property
    def lines(self):
        return [orjson.dumps(event) for event in self.events]

    def _event(self, number, place, at, fields):
        account = f"{self.name}{number:04}"
        event = {"event_id": f"{account}/{place}", "account_id": account, "occurred_at": at, **fields}
        return {**event, "account_created_at": self.start - DAY_MS}

    def _shared(self, number):
        """Texts of 12 accounts, cards of 4 for two thirds of them, and subnets that lie across both."""
        words = random.Random(f"{self.seed}/{number // 12}")
        text = " ".join("".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(24))
        fields = {"prompt": text, "client_ip": f"10.0.{number % 31}.7"}
        return {**fields, "payment_id": f"{self.name}-card-{number // 4}"} if number % 12 < 8 else fields
