"""Grading in plain Python: objects, loops and definitions, as slow as it likes. Tests hold the compiled one against it.

Subjects here are accounts, organisations and /24 subnets; a round is ten seconds.
"""

from collections import Counter, defaultdict

LEVELS = {"observe": 1, "rate_limit": 2, "verify": 3, "suspend": 4}
PERIODS_MS = {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
ROUND_MS = 10_000
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class Subject:
    """What is in force for one subject, and since when without a break."""

    def __init__(self):
        self.level, self.limit, self.since, self.level_since, self.until = 0, None, 0, 0, 0
        self.used = Counter()

    def take(self, decision):
        at, level = decision.issued_at, LEVELS.get(decision.action, 0)
        if level == 1 and self.level > 1 and self.until > at:
            return
        if self.level < 2 or level < 2 or self.until <= at:
            self.since, self.used = at, Counter()
        if self.level != level or self.until < at:
            self.level_since = at
        self.level, self.limit, self.until = level, decision.params if level == 2 else None, decision.expires_at

    def applies(self, now):
        return self.level > 0 and self.since <= now < self.until

    def room(self, now):
        period = (now - self.since) // PERIODS_MS[self.limit.period]
        return (self.limit.period, period), self.used[self.limit.period, period] < self.limit.limit


class Account:
    def __init__(self, label):
        self.label = label
        self.requests, self.attacks, self.denied, self.planned, self.gained = [], [], 0, 0, []
        self.first_action = {}
        self.episodes = Counter()
        self.own_level, self.own_until = 0, 0
        self.touched, self.touched_until = {}, {}  # by level: newest touch of a shared record, and its end

    def act(self, level, at):
        for rung in range(1, level + 1):
            self.first_action.setdefault(rung, at)

    def begins(self, level, at, since):
        """Whether a stretch on exactly this rung begins; ``since``: start of a shared record's stretch, else None."""
        on_own = self.own_level == level and self.own_until >= at
        on_shared = self.touched_until.get(level, 0) >= at
        same_stretch = since is not None and level in self.touched and since <= self.touched[level]
        return not (on_own or on_shared or same_stretch)


def subjects_of(event):
    found = [("account", event["account_id"])]
    if "org_id" in event:
        found.append(("org", event["org_id"]))
    if "client_ip" in event:
        found.append(("subnet", event["client_ip"].rpartition(".")[0] + ".0/24"))
    return found


def brute_force(events, decisions, labels, cover=frozenset()):
    """Grade: accounts by id, and by hour what honest accounts went through."""
    accounts = {label["account_id"]: Account(label) for label in labels}
    subjects, restricted, seen = defaultdict(Subject), set(), set()
    hours = defaultdict(lambda: {"sent": 0, "denied": 0, "active": set(), "hit": set()})
    waiting = sorted(decisions, key=lambda one: one.issued_at)
    events = sorted(events, key=lambda one: (one["occurred_at"], one["event_id"], one["account_id"]))
    slots = sorted({event["occurred_at"] // ROUND_MS for event in events})
    for slot in slots:
        for event in (one for one in events if one["occurred_at"] // ROUND_MS == slot):
            name = event["account_id"], event["event_id"]
            if event.get("kind") == "completion" or name in seen:
                continue
            seen.add(name)
            request(event, accounts.get(event["account_id"]), subjects, restricted, hours, cover)
        while waiting and waiting[0].issued_at // ROUND_MS <= slot:
            decide(waiting.pop(0), accounts, subjects, restricted)
    for decision in waiting:
        decide(decision, accounts, subjects, restricted)
    return accounts, hours


def request(event, account, subjects, restricted, hours, cover):
    now, refused = event["occurred_at"], event.get("outcome", "served") in ("rate_limited", "challenged", "blocked")
    found = [(name, subjects[name]) for name in subjects_of(event) if name in subjects]
    found = [] if refused else [(name, record) for name, record in found if record.applies(now)]
    level = max((record.level for _, record in found), default=0)
    denied = level >= 3
    if not denied:
        limits = [record for _, record in found if record.level == 2 and record.limit is not None]
        rooms = [(record, *record.room(now)) for record in limits]
        denied = not all(free for *_, free in rooms)
        for record, period, _ in rooms if not denied else ():
            record.used[period] += 1
    if account is None:
        return
    label = account.label
    account.requests.append(now)
    account.act(level, now)
    counts = label["label"] == "campaign" and (event["account_id"], event["event_id"]) not in cover
    account.planned += counts
    account.attacks += [now] if counts else []
    shared = [record for name, record in found if name[0] != "account"]
    strongest = max((record.level for record in shared), default=0)
    if strongest and not (account.own_level > strongest and account.own_until > now):
        record = next(record for record in shared if record.level == strongest)
        if account.begins(strongest, now, record.level_since):
            account.episodes[strongest] += 1
        account.touched[strongest] = now
        account.touched_until[strongest] = max(account.touched_until.get(strongest, 0), record.until)
    hour = hours[now // HOUR_MS]
    if label["label"] == "legit":
        hour["sent"] += 1
        hour["denied"] += denied
        hour["active"].add(label["account_id"])
        if level >= 2:
            hour["hit"].add(label["account_id"])
    if label["label"] == "campaign" and level >= 2:
        restricted.add(label["campaign_id"])
    account.denied += denied
    if counts and not denied and not refused:
        account.gained.append((label["campaign_id"] in restricted, 2 in account.first_action))


def decide(decision, accounts, subjects, restricted):
    if decision.simulated or decision.status in ("held", "lapsed"):
        return
    subjects[decision.subject.scope, decision.subject.value].take(decision)
    account = accounts.get(decision.subject.value) if decision.subject.scope == "account" else None
    if account is None:
        return
    at, level = decision.issued_at, LEVELS.get(decision.action, 0)
    if level == 0:
        account.own_level, account.own_until = 0, at
        return
    if level == 1 and account.own_level > 1 and account.own_until > at:
        return
    if account.begins(level, at, None):
        account.episodes[level] += 1
    account.own_level, account.own_until = level, decision.expires_at
    account.act(level, at)
    if account.label["label"] == "campaign" and level >= 2:
        restricted.add(account.label["campaign_id"])
