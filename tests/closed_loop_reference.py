"""The closed loop in plain Python: one dict an event, one object an account, the words of ``Reaction`` step by step.

Decisions are about accounts only, and no event is repeated or completed. Which sibling is picked is a matter of hashes,
so the hash functions are the real ones; who is to be picked from, when, and what follows is worked out here.
"""

from collections import Counter, defaultdict

import numpy as np
from evaluation_reference import DAY_MS, ROUND_MS, Subject

from streamdetect.kernels.hashing import combine64, fmix64
from streamdetect.pipeline.accounts.records import account_hash
from streamdetect.replay.gateway import _draw
from streamdetect.replay.truth import request_hashes

PROOF_MS = 300_000
IDENTITY = ("account_id", "org_id", "api_key_id", "payment_id", "account_created_at", "account_tier")


class Member:
    """An account of a campaign."""

    def __init__(self, campaign, pool, root=None):
        self.campaign, self.pool, self.root = campaign, pool, root or self
        self.identity, self.exit, self.in_use = None, None, False
        self.given_up_at, self.refused_at, self.refusals = None, None, 0
        self.heir, self.heir_from, self.generations = None, None, 0
        self.taken = Counter()


class Story:
    def __init__(self, labels, reactions, seed, scale=1.0, templates=None, cover=frozenset(), spares=None):
        self.labels = {label["account_id"]: label for label in labels}
        self.members = {
            name: Member(label["campaign_id"], (label["campaign_id"], label["cohort"]))
            for name, label in self.labels.items() if label["label"] == "campaign"
        }  # fmt: skip
        self.reactions, self.seed, self.scale = reactions, seed, scale
        self.templates, self.cover = templates, cover
        self.pools, self.arriving, self.later = defaultdict(list), [], []
        self.subjects, self.challenges = defaultdict(Subject), {}
        self.decision_of = {}
        self.losses, self.changes, self.versions = Counter(), {}, Counter()
        self.spares, self.current = {name: list(some) for name, some in (spares or {}).items()}, {}
        self.bought, self.bought_on = Counter(), Counter()
        self.reached, self.served, self.unsent, self.planned = [], Counter(), 0, 0
        self.numbers = {}

    def run(self, events, decide):
        """Play events; ``decide(seen, start_ms)`` is the detector."""
        slots = sorted({event["occurred_at"] // ROUND_MS for event in events})
        for slot in slots:
            while (early := min((due // ROUND_MS for due, *_ in self.later), default=slot)) < slot:
                self.round(early, [], decide)
            self.round(slot, [one for one in events if one["occurred_at"] // ROUND_MS == slot], decide)

    def round(self, slot, events, decide):
        start = slot * ROUND_MS
        due = [one for one in self.later if one[0] // ROUND_MS == slot]
        self.later = [one for one in self.later if one[0] // ROUND_MS != slot]
        for ready, member in sorted(self.arriving, key=lambda one: (one[0], self.numbers[one[1]])):
            if ready <= start:
                self.arriving.remove((ready, member))
                if member.given_up_at is None:
                    self.pools[member.pool].append(member)
        wave = [(one["occurred_at"], one, self.members.get(one["account_id"]), False, 0, 0) for one in events]
        wave = sorted(wave + due, key=lambda one: (one[0], one[1]["event_id"], one[1]["account_id"]))
        met, sent = [], []
        for at, event, last, sibling, tries, moves in wave:
            planner = self.members.get(event["account_id"])
            sender = self.send(at, event, planner, last, sibling, moves, met) if planner else None
            sent.append((at, event, planner, sender, tries, moves))
        self.pools_join(met)
        seen, verdicts = [], []
        for at, event, planner, sender, tries, _ in sent:
            if planner and tries == 0 and self.counts(event):
                self.planned += 1
            if planner and sender is None:
                self.unsent += 1
                verdicts.append(None)
                continue
            words, plain = self.words(event, planner, at), disguised(event, planner, sender)
            out = {**plain, "occurred_at": at, **({"prompt": words} if "prompt" in plain else {})}
            denied = self.denied(out, planner, at)
            verdicts.append(denied)
            if not denied:
                seen.append(out)
                if planner and self.counts(event):
                    self.served[out["account_id"]] += 1
        for (at, event, planner, sender, tries, moves), denied in zip(sent, verdicts, strict=True):
            if planner and sender is not None:
                self.learn(at, event, sender, tries, moves, denied, start)
        self.reached += seen
        if seen:
            for decision in decide(seen, start):
                self.subjects[decision.subject.value].take(decision)
                self.decision_of[decision.subject.value] = decision.decision_id

    def counts(self, event):
        return (event["account_id"], event["event_id"]) not in self.cover

    def key(self, event, moves):
        (request,) = request_hashes([(event["account_id"].encode(), event["event_id"].encode())])
        return np.uint64(combine64(request, np.uint64(moves)))

    def pick(self, pool, key, but):
        members = self.pools[pool]
        if not members:
            return None
        place = int(fmix64(key)) % len(members)
        if members[place] is not but:
            return members[place]
        return members[(place + 1) % len(members)] if len(members) > 1 else None

    def sibling(self, at, event, planner, moves, but):
        """One who still has room today, of eight that are drawn."""
        limit = self.reactions[planner.campaign].taken_over_per_day
        for draw in range(8):
            key = self.key(event, moves)
            found = self.pick(planner.pool, np.uint64(combine64(key, np.uint64(draw))) if draw else key, but)
            if found is None or not limit or found.taken[at // DAY_MS] < limit:
                break
        else:
            return None
        if found:
            found.taken[at // DAY_MS] += 1
        return found

    def send(self, at, event, planner, last, sibling, moves, met):
        reaction, sender = self.reactions[planner.campaign], last
        if sibling:
            sender = self.sibling(at, event, planner, moves, last)
        while sender and sender.given_up_at is not None and sender.given_up_at <= at:
            if sender.heir and sender.heir_from <= at:
                sender = sender.heir
            elif reaction.fail_overs:
                sender = self.sibling(at, event, planner, moves, sender)
                break
            else:
                sender = None
        if sender is planner and not sibling:
            planner.exit = event.get("client_ip")
            if planner.identity is None:
                planner.identity = {name: event[name] for name in IDENTITY if name in event}
            if not planner.in_use and self.counts(event):
                planner.in_use = True
                met.append(planner)
        return sender

    def pools_join(self, met):
        for member in met:
            self.pools[member.pool].append(member)

    def template(self, event, planner):
        if not self.counts(event):
            return None
        return (
            planner.campaign if self.templates is None else self.templates.get((event["account_id"], event["event_id"]))
        )

    def words(self, event, planner, at):
        text = event.get("prompt")
        template = self.template(event, planner) if planner else None
        if template is None or text is None:
            return text
        version, spare = self.versions[template], self.current.get(template)
        if template in self.changes and self.changes[template][0] <= at:
            version, spare = version + 1, self.changes[template][1]
        if spare is None:
            return rotated(text, version)
        (request,) = request_hashes([(event["account_id"].encode(), event["event_id"].encode())])
        return spare[int(request) % len(spare)].decode()

    def denied(self, out, planner, at):
        name = out["account_id"]
        record = self.subjects.get(name)
        if record is None or not record.applies(at) or record.level == 1:
            return False
        if record.level == 2 and record.limit is not None:
            period, free = record.room(at)
            record.used[period] += free
            return not free
        if record.level == 3:
            chance = self.chance(name, planner)
            asked = self.challenges.setdefault((name, self.decision_of[name]), at) if chance else at
            return not (_draw(account_hash(name), np.uint64(self.seed)) < chance and at >= asked + PROOF_MS)
        return record.level > 3

    def chance(self, name, planner):
        if planner:
            return self.reactions[planner.campaign].passes_verification_percent / 100
        return {"legit": 0.7, "other_abuse": 0.05, "unlabelled": 0.7}[
            self.labels.get(name, {"label": "unlabelled"})["label"]
        ]

    def learn(self, at, event, sender, tries, moves, denied, start):
        reaction = self.reactions[sender.campaign]
        if not denied:
            sender.refusals = 0
            return
        if sender.refused_at is None:
            sender.refused_at = at
        if at - sender.refused_at < reaction.notices_after_ms:
            return
        sender.refusals += 1
        if reaction.gives_up_after and sender.refusals >= reaction.gives_up_after and sender.given_up_at is None:
            sender.given_up_at = at
            self.give_up(sender, at, event, reaction)
        if moves == 0 and tries < reaction.retries and sender.given_up_at is None:
            self.later.append((max(at + reaction.retry_delay_ms, start + ROUND_MS), event, sender, False, tries + 1, 0))
        elif moves < reaction.fail_overs:
            due = max(at + reaction.fail_over_delay_ms, start + ROUND_MS)
            self.later.append((due, event, sender, True, tries + 1, moves + 1))

    def give_up(self, member, at, event, reaction):
        pool = self.pools[member.pool]
        if member in pool:
            place, last = pool.index(member), pool.pop()
            if last is not member:
                pool[place] = last
        if reaction.respawn_delay_ms is not None:
            self.buy(member, at + reaction.respawn_delay_ms, reaction)
        template = self.template(event, member)
        if template is not None and reaction.template_losses:
            if template in self.changes and self.changes[template][0] <= at:
                self.versions[template] += 1
                self.current[template] = self.changes.pop(template)[1]
            self.losses[template] += 1
            if template not in self.changes and self.losses[template] % reaction.template_losses == 0:
                left = self.spares.get(member.campaign)
                self.changes[template] = at + reaction.template_delay_ms, left.pop(0) if left else None

    def buy(self, member, ready, reaction):
        campaign = member.campaign
        if reaction.respawns_per_day:
            a_day, day = max(1, round(reaction.respawns_per_day * self.scale)), ready // DAY_MS
            while self.bought_on[campaign, day] >= a_day:
                day += 1
            self.bought_on[campaign, day] += 1
            ready = max(ready, day * DAY_MS)
        root = member.root
        root.generations += 1
        fresh = Member(campaign, member.pool, root)
        tail, old = f"~{root.generations}", root.identity
        fresh.identity = {name: old[name] + tail for name in ("account_id", "org_id", "api_key_id") if name in old}
        if "payment_id" in old:
            names = (label["campaign_id"] for label in self.labels.values() if label["campaign_id"])
            number = list(dict.fromkeys(names)).index(campaign)
            fresh.identity["payment_id"] = f"card~{number}~{self.bought[campaign] // 8}"
        if "account_created_at" in old:
            fresh.identity["account_created_at"] = ready
        if "account_tier" in old:
            fresh.identity["account_tier"] = old["account_tier"]
        self.bought[campaign] += 1
        self.members[fresh.identity["account_id"]] = fresh
        self.numbers[fresh] = len(self.numbers)
        member.heir, member.heir_from = fresh, ready
        self.arriving.append((ready, fresh))


def disguised(event, planner, sender):
    if sender is planner:
        return event
    out = {name: value for name, value in event.items() if name not in IDENTITY} | sender.identity
    return out | ({"client_ip": sender.exit} if sender.exit else {})


def rotated(text, version):
    if not version:
        return text
    by = (version - 1) % 25 + 1
    return "".join(
        chr((ord(c) - first + by) % 26 + first) if c.isascii() and c.isalpha() else c
        for c in text
        for first in (97 if c.islower() else 65,)
    )
