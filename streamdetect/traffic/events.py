"""Exchanges as request lines of the public format, and as the lines of the attacker's own books."""

from dataclasses import dataclass

import numpy as np

from streamdetect.traffic import clients
from streamdetect.traffic.addresses import Space
from streamdetect.traffic.cadence import Plan
from streamdetect.traffic.draws import Integers, Keys, below, chosen, drawn, mix, salted
from streamdetect.traffic.networks import Moments, People, places
from streamdetect.traffic.population import DAY_MS, identities
from streamdetect.traffic.speech.voice import Said, Turns
from streamdetect.traffic.strands import Strand
from streamdetect.traffic.texts import Texts, decimals, hexadecimals, joined

_WEEK_DAYS = 7
_EPOCH_WEEKDAY = 3  # weeks begin on Mondays
_TOKENS_A_TURN = 320
_MODELS = clients.model_members()


@dataclass(frozen=True, slots=True)
class Lines:
    """One line per exchange; ``attack`` is empty for honest cohorts."""

    requests: Texts
    attack: Texts


def lines_of(strand: Strand, plan: Plan, event_keys: Keys, start_ms: int, space: Space) -> Lines:
    """Put a stream's exchanges into lines."""
    said = strand.voice.say(_turns(strand, plan, start_ms))
    requests = _requests(strand, plan, event_keys, said, start_ms, space)
    if strand.cohort.group.label != "campaign":
        return Lines(requests, requests.where(np.zeros(len(plan), np.bool_)))
    return Lines(requests, _attack(strand, plan, event_keys, said.templates))


def _turns(strand: Strand, plan: Plan, start_ms: int) -> Turns:
    accounts = strand.cohort.accounts
    days = plan.times_ms // DAY_MS
    return Turns(
        words=plan.words,
        accounts=accounts.keys[plan.accounts],
        sites=accounts.sites[plan.accounts],
        users=plan.users,
        turns=plan.turns,
        weeks=((start_ms + plan.times_ms) // DAY_MS + _EPOCH_WEEKDAY) // _WEEK_DAYS,
        days=days,
    )


def _requests(strand: Strand, plan: Plan, keys: Keys, said: Said, start_ms: int, space: Space) -> Texts:
    cohort = strand.cohort
    accounts, profile = cohort.accounts, cohort.group.profile
    replies = drawn(salted(keys, 700), strand.replies)
    durations = 250 + replies * (6 + (keys & np.uint64(15)).astype(np.int64))
    tokens = (said.prompts.lengths + said.systems.lengths) // 4 + plan.turns * _TOKENS_A_TURN + 3
    return joined(
        b'{"event_id":"', hexadecimals(keys), b'","occurred_at":', decimals(start_ms + plan.times_ms), b",",
        identities(accounts, plan.accounts, start_ms, profile.foreign_card_percent),
        *_users(strand, plan),
        _places(strand, plan, keys, space).where(~accounts.hidden[plan.accounts]),
        _MODELS.take(_models(strand, plan, keys)),
        b',"conversation_id":"', hexadecimals(plan.conversation_ids), b'","turn":', decimals(plan.turns),
        *_digests(plan),
        joined(b',"system_prompt":"', said.systems, b'"').where(said.systems.lengths > 0),
        b',"prompt":"', said.prompts, b'","input_tokens":', decimals(tokens), b',"output_tokens":', decimals(replies),
        b',"duration_ms":', decimals(durations), b',"http_status":200,"finish_reason":"stop"}\n',
    )  # fmt: skip


def _users(strand: Strand, plan: Plan) -> tuple[Texts, ...]:
    if not strand.exchanges.names_users:
        return ()
    return (joined(b',"end_user_id":"user_', hexadecimals(plan.users), b'"'),)


def _places(strand: Strand, plan: Plan, keys: Keys, space: Space) -> Texts:
    cohort = strand.cohort
    people = People(cohort.accounts.keys[plan.accounts], cohort.accounts.sites[plan.accounts], plan.accounts)
    users = np.where(plan.users == 0, people.keys, plan.users)
    moments = Moments(plan.conversations, users, keys, plan.times_ms // DAY_MS)
    where = places(strand.network, people, moments, space, accounts=cohort.base, key=strand.key)
    return joined(b",", where.members(space))


def _models(strand: Strand, plan: Plan, keys: Keys) -> Integers:
    """Return each exchange's model: the account's, or the newest once it is out."""
    accounts = strand.cohort.accounts.keys[plan.accounts]
    usual = chosen(salted(accounts, 541), strand.cohort.group.profile.models)
    out_ms = np.maximum(plan.times_ms - clients.RELEASE_MS, 0)
    pivot = strand.exchanges.pivot_percent
    if pivot:
        # In parts per million: the whole share within a day.
        share = np.minimum(out_ms, DAY_MS) * pivot // (DAY_MS // 10_000)
        moved = below(salted(keys, 702), 1_000_000) < share
    else:
        # Three accounts in a hundred a day, at most four in ten.
        share = np.minimum(out_ms * 3 // (DAY_MS // 10_000), 400_000)
        moved = below(salted(accounts, 703), 1_000_000) < share
    return np.where(moved, clients.NEWEST, usual)


def _digests(plan: Plan) -> tuple[Texts, ...]:
    """Return the digests of the reply and, from the second turn on, of what the client sent back."""
    later = plan.turns > 0
    turn = plan.turns.astype(np.uint64)
    replies = salted(plan.conversations, 704)
    return (
        joined(b',"reply_digest":"', hexadecimals(mix(replies + turn)), b'"'),
        joined(
            b',"previous_reply_digest":"', hexadecimals(mix(replies + turn - np.uint64(1))),
            b'","history_digest":"', hexadecimals(mix(salted(plan.conversations, 705) + turn)), b'"',
        ).where(later),
    )  # fmt: skip


def _attack(strand: Strand, plan: Plan, keys: Keys, templates: Integers) -> Texts:
    cohort = strand.cohort
    accounts = hexadecimals(cohort.accounts.keys[plan.accounts])
    name, cover = cohort.scenario.name.encode(), b"true" if strand.exchanges.cover else b"false"
    template = joined(b',"template":', decimals(np.maximum(templates, 0)))
    return joined(
        b'{"event_id":"', hexadecimals(keys), b'","account_id":"acct_', accounts, b'","campaign_id":"', name, b'"',
        template.where(templates >= 0), b',"cover":', cover, b"}\n",
    )  # fmt: skip
