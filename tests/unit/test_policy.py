import json

import numpy as np
import pytest
from pydantic import ValidationError

from streamdetect.errors import PolicyError
from streamdetect.messages.policy import ACTIONS, REASON_TEXTS, Policy, ReasonCode, duration_ms
from streamdetect.pipeline.accounts.tiers import TrustTier
from streamdetect.pipeline.decisions.features import ACCOUNT_FEATURES, SHARED_FEATURES, index_of
from streamdetect.pipeline.decisions.policy import compile_policy, default_policy, default_text, load_policy

HEAD = 'id = "p"\nversion = 1\n'
RULE = '[[rules]]\nid = "r"\nwhen = "young"\naction = "observe"\nttl = "1h"\nreason_code = "policy"\n'


def rule(**changes):
    """The rule above as text, with lines replaced or added; ``None`` leaves a key out."""
    values = {"id": '"r"', "when": '"young"', "action": '"observe"', "ttl": '"1h"', "reason_code": '"policy"'} | changes
    return "[[rules]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)


WRONG = {
    # name: (text, line, column, message)
    "toml value": (HEAD + "mode =\n", 3, 7, "Invalid value"),
    "toml end": (HEAD + 'mode = "live', 3, 13, "Unterminated string"),
    "toml twice": (HEAD + "version = 2\n", 3, 12, "Cannot overwrite a value"),
    "key of many parts": (HEAD + f"x = 1.5\n caps{'. a' * 8} = 1\n", 4, 2, "a key of more than 8 parts"),
    "quoted key of many parts": (HEAD + "[caps" + '."a"' * 8 + "]\n", 3, 2, "a key of more than 8 parts"),
    "key of many parts inside": (HEAD + f"x = {{ a{'.a' * 8} = 1 }}\n", 3, 7, "a key of more than 8 parts"),
    "toml table twice": (HEAD + "[caps]\n[caps]\n", 4, 6, "Cannot declare ('caps',) twice"),
    "empty": ("", 1, 1, "id is missing (and 1 more)"),
    "key": (HEAD + 'modee = "live"\n', 3, 1, "unknown key modee; did you mean mode?"),
    "key far from all": (HEAD + "[content]\nxyz = 1\n", 4, 1, "unknown key content.xyz; known here: min_shingles"),
    "table": (HEAD + "[lader]\nrenew_fraction = 0.5\n", 3, 1, "unknown key lader; did you mean ladder?"),
    "key of a rule": (HEAD + RULE + rule(id='"s"', tll='"2h"'), 15, 1, "unknown key rules[2].tll; did you mean ttl?"),
    "key of params": (
        HEAD + rule(action='"rate_limit"', params='{ unit = "requests", limt = 6, period = "day" }'),
        *(9, 31, "unknown key rules[1].params.limt; did you mean limit?"),
    ),
    "type": ('id = "p"\nversion = "1"\n', 2, 11, "version: Input should be a valid integer"),
    "boolean for a number": (
        HEAD + "[caps]\nverify_per_hour = true\n",
        4,
        19,
        "caps.verify_per_hour: Input should be a v",
    ),
    "range": (HEAD + "ladder.renew_fraction = 1.5\n", 3, 25, "ladder.renew_fraction: Input should be less than 1"),
    "mode": (HEAD + 'mode   =   "on"\n', 3, 12, "mode: Input should be 'shadow' or 'live'"),
    "local time": (
        HEAD + "effective_at = 2026-01-01T00:00:00\n",
        3,
        16,
        "effective_at: Input should be a valid integer",
    ),
    "missing": (HEAD + RULE + rule(id='"s"', ttl=None), 9, 1, "rules[2].ttl is missing"),
    "ttl": (HEAD + rule(ttl='"1 h"'), 7, 7, "rules[1].ttl: String should match pattern"),
    "ttl too long": (HEAD + rule(ttl='"91d"'), 7, 7, "rules[1].ttl: longer than 90d"),
    "reason": (HEAD + rule(reason_code='"because"'), 8, 15, "rules[1].reason_code: Input should be 'rate_exceeded'"),
    "tier": (
        HEAD + rule(applies_to_tiers='[\n  "T0",\n  "T7",\n]'),
        11,
        3,
        "rules[1].applies_to_tiers[2]: Input should",
    ),
    "rule twice": (HEAD + RULE + "\n" + RULE, 11, 6, "rules[2].id: rule id r is used twice"),
    "no params": (
        HEAD + rule(action='"rate_limit"'),
        3,
        1,
        "rules[1].params: rate_limit also needs params unit, limit",
    ),
    "two params": (
        HEAD + rule(action='"rate_limit"') + '[rules.params]\nunit = "requests"\nlimit = 5\n',
        *(9, 1, "rules[1].params: rate_limit also needs params period"),
    ),
    "params of another": (
        HEAD + rule(action='"verify"', params="{ limit = 5 }"),
        *(9, 10, "rules[1].params: verify has no parameter limit"),
    ),
    "suspended subnet": (
        HEAD + rule(when='"requests_1m > 5"', scope='"subnet"', action='"suspend"'),
        *(6, 10, "rules[1].action: scope subnet goes no higher than verify"),
    ),
    "above the ladder": (
        HEAD + 'ladder = { shared_scope_max = "rate_limit" }\n' + rule(scope='"org"', action='"verify"'),
        *(7, 10, "rules[1].action: verify is above ladder.shared_scope_max (rate_limit)"),
    ),
    "unknown tier suspended": (
        HEAD + '[ladder]\nunknown_tier_max = "verify"\n',
        4,
        20,
        "ladder.unknown_tier_max: Input",
    ),
    "tiers out of order": (HEAD + "[tiers]\nt1_days = 30\nt0_days = 31\n", 5, 11, "tiers.t0_days: t0_days <= t1_days"),
    "feature": (HEAD + rule(when='"young and requsts_1m > 6"'), 5, 19, "unknown feature requsts_1m; did you mean"),
    "after escapes": (
        HEAD + rule(when=r'"tier != \"T3\" and \u0074ier == \"T9\""'),
        *(5, 41, "unknown tier 'T9'"),
    ),
    "literal string": (HEAD + rule(when="""'tier != "T3" and tier == "T9"'"""), 5, 34, "unknown tier 'T9'"),
    "folded string": (HEAD + rule(when='"""\n  young\n  and zzz > 1"""'), 7, 7, "unknown feature zzz"),
    "folded with backslash": (HEAD + rule(when='"""young \\\n\n   and zzz > 1"""'), 7, 8, "unknown feature zzz"),
    "end of the condition": (HEAD + rule(when='"requests_1m >"'), 5, 22, "cannot be read: invalid syntax"),
    "scope": (
        HEAD + rule(scope='"org"', when="\"tier == 'T0'\""),
        5,
        9,
        "tier is known of scope account, not of scope org",
    ),
    "windows line ends": ((HEAD + rule(when='"zzz > 1"')).replace("\n", "\r\n"), 5, 9, "unknown feature zzz"),
    "rule that is off": (HEAD + rule(status='"off"', when='"zzz > 1"'), 5, 9, "unknown feature zzz"),
    "first of several": (
        HEAD + rule(ttl="5", when='"zzz > 1"') + "[caps]\nsuspend_per_hour = -1\n",
        *(7, 7, "rules[1].ttl: Input should be a valid string (and 1 more)"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_line_and_column(name):
    text, line, column, message = WRONG[name]
    with pytest.raises(PolicyError) as caught:
        load_policy(text, "my.toml")
    assert str(caught.value).startswith(f"my.toml:{line}:{column}: {message}"), str(caught.value)
    assert (caught.value.line, caught.value.column, caught.value.source) == (line, column, "my.toml")


def test_the_shipped_policy_loads_in_shadow_mode():
    policy = default_policy()
    assert (policy.model.id, policy.model.version, policy.model.mode) == ("default", 1, "shadow")
    assert {r.rule.id: r.rule.action for r in policy.rules} == {
        "hammering": "rate_limit",
        "shared-template": "verify",
        "template-and-payment": "suspend",
        "shared-payment": "observe",
        "shared-system-prompt": "observe",
        "young-subnet": "rate_limit",
    }


def test_the_shipped_policy_states_every_default_as_the_model_has_it():
    bare = Policy.model_validate({"id": "default", "version": 1})
    assert default_policy().model.model_copy(update={"rules": ()}) == bare


def account(**values):
    row = np.zeros((1, len(ACCOUNT_FEATURES)), np.int64)
    for name, value in values.items():
        row[0, index_of(name)] = value
    return row


def subnet(**values):
    row = np.zeros((1, len(SHARED_FEATURES)), np.int64)
    for name, value in values.items():
        row[0, index_of(name, "subnet")] = value
    return row


T0, T2, T3, UNKNOWN = TrustTier.T0, TrustTier.T2, TrustTier.T3, TrustTier.UNKNOWN
YOUNG_TEMPLATE = {"template_young_1d": 20, "template_trusted_1d": 0}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (account(requests_1m=601, tier_code=T2), {"hammering"}),
        (account(requests_1m=600, tier_code=T2), set()),
        (account(requests_1m=601, tier_code=T3), set()),
        (account(**YOUNG_TEMPLATE, tier_code=T0), {"shared-template"}),
        (account(**YOUNG_TEMPLATE, tier_code=UNKNOWN), {"shared-template"}),
        (account(**YOUNG_TEMPLATE, tier_code=T2), set()),
        (account(template_young_1d=500, template_trusted_1d=1, tier_code=T0), set()),
        (account(**YOUNG_TEMPLATE, subnet_young_1d=20, tier_code=T0), {"shared-template", "template-and-payment"}),
        (account(**YOUNG_TEMPLATE, subnet_young_1d=20, tier_code=UNKNOWN), {"shared-template"}),
        (account(payment_young_1d=5, tier_code=T0), {"shared-payment"}),
        (account(payment_young_1d=9, payment_trusted_1d=1, tier_code=T0), set()),
        (account(system_young_1d=200, tier_code=T0), {"shared-system-prompt"}),
    ],
)
def test_the_shipped_account_rules_fire_at_their_bounds(row, expected):
    assert {r.rule.id for r in default_policy().rules_of("account") if r.expression.evaluate(row)[0]} == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (subnet(young_accounts_1h=20, trusted_accounts_1h=2, prefix_length=24), True),
        (subnet(young_accounts_1h=19, prefix_length=24), False),
        (subnet(young_accounts_1h=20, trusted_accounts_1h=3, prefix_length=64), False),
        (subnet(young_accounts_1h=59, prefix_length=48), False),
        (subnet(young_accounts_1h=60, prefix_length=48), True),
    ],
)
def test_the_shipped_subnet_rule_fires_at_its_bounds(row, expected):
    (young_subnet,) = default_policy().rules_of("subnet")
    assert young_subnet.expression.evaluate(row)[0] == expected


def _changed(values, path=()):
    """Every copy of nested values in which one number differs by one, with the path of that number."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        if isinstance(value, dict | list):
            for where, changed in _changed(value, (*path, key)):
                yield where, _with(values, key, changed)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield (*path, key), _with(values, key, value + 1)
        elif isinstance(value, float):
            yield (*path, key), _with(values, key, value * 0.9)


def _with(values, key, value):
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[key] = value
    return copy


def test_the_hash_changes_with_every_number():
    policy = default_policy()
    values = json.loads(policy.model.model_dump_json())
    hashes = {policy.hash}
    changes = list(_changed(values))
    assert len(changes) >= 20
    for path, changed in changes:
        value = compile_policy(Policy.model_validate(changed)).hash
        assert value not in hashes, path
        hashes.add(value)


def test_the_hash_changes_with_a_number_inside_a_condition():
    changed = default_text().replace("requests_1m > 600", "requests_1m > 601")
    assert load_policy(changed).hash != default_policy().hash


def test_the_hash_does_not_change_with_comments_and_layout():
    lines = default_text().splitlines()
    # Conditions that are folded over lines keep their text; everything else loses its comments.
    bare = "\r\n".join(line.partition(" # ")[0].rstrip() for line in lines if not line.startswith("#"))
    assert len(bare) < len(default_text()) / 2
    assert load_policy(bare).hash == default_policy().hash


def test_the_hash_is_of_the_values_that_hold_not_of_what_is_spelled_out():
    spelled = HEAD + 'mode = "shadow"\nround_ms = 10_000\n[tiers]\nt1_days = 0x1E\n'
    assert load_policy(spelled).hash == load_policy(HEAD).hash
    assert len(load_policy(HEAD).hash) == 32


def test_rules_that_are_off_are_compiled_but_not_run():
    policy = load_policy(HEAD + rule(status='"off"') + rule(id='"s"', status='"shadow"'))
    assert [r.rule.id for r in policy.rules_of("account")] == ["s"]
    assert [r.rule.id for r in policy.rules] == ["r", "s"]


def test_tiers_narrow_an_account_rule_and_default_to_the_young_for_a_shared_one():
    text = rule(when='"requests_1m > 1"', applies_to_tiers='["unknown", "T0"]') + rule(
        id='"s"', scope='"org"', when='"requests_1m > 1"'
    )
    narrowed, shared = load_policy(HEAD + text).rules
    rows = np.vstack([account(requests_1m=2, tier_code=code) for code in TrustTier])
    assert narrowed.expression.evaluate(rows).tolist() == [True, True, False, False, False]
    assert shared.tiers == {TrustTier.T0, TrustTier.T1}


def test_durations_and_bounds_are_compiled_to_ms():
    policy = load_policy(HEAD + rule(ttl='"15m"') + "[tiers]\nt0_days = 3\n")
    assert policy.rules[0].ttl_ms == 900_000
    assert policy.held_log_interval_ms == 3_600_000
    assert policy.tier_bounds.t0_ms == 3 * 86_400_000
    assert [duration_ms(text) for text in ("90s", "2h", "7d")] == [90_000, 7_200_000, 604_800_000]


def test_an_instant_can_be_written_as_a_toml_date_time():
    policy = load_policy(HEAD + "effective_at = 2026-01-01T01:00:00.250+01:00\n")
    assert policy.model.effective_at == 1_767_225_600_250


def test_a_policy_read_back_from_json_is_the_same():
    policy = default_policy()
    again = compile_policy(Policy.model_validate_json(policy.model.model_dump_json()))
    assert again.model == policy.model
    assert again.hash == policy.hash


def test_a_wrong_condition_of_a_value_is_told_by_the_rule():
    model = Policy.model_validate(
        {"id": "p", "version": 1, "rules": [_rule_value(when="young and zzz > 1")]},
    )
    with pytest.raises(PolicyError, match=r"^topic rule r:1:11: unknown feature zzz"):
        compile_policy(model, source="topic")


def _rule_value(**changes):
    return {"id": "r", "when": "young", "action": "observe", "ttl": "1h", "reason_code": "policy"} | changes


def test_the_model_alone_refuses_what_the_loader_refuses():
    for wrong in ({"action": "rate_limit"}, {"scope": "org", "action": "suspend"}, {"ttl": "0h"}):
        with pytest.raises(ValidationError):
            Policy.model_validate({"id": "p", "version": 1, "rules": [_rule_value(**wrong)]})


def test_every_reason_code_has_a_text_for_the_owner():
    assert set(REASON_TEXTS) == set(ReasonCode.__args__)
    assert ACTIONS == ("observe", "rate_limit", "verify", "suspend")


@pytest.mark.parametrize("depth", [50, 200, 400, 5000])
def test_a_text_of_any_depth_is_refused_as_a_policy(depth):
    with pytest.raises(PolicyError):
        load_policy(HEAD + "x = " + "[" * depth + "]" * depth)


def test_a_text_without_end_is_refused_before_it_is_parsed():
    with pytest.raises(PolicyError, match="longer than"):
        load_policy("#" * (1 << 21))


@pytest.mark.parametrize("key", ["version", "effective_at"])
def test_a_number_longer_than_python_reads_is_refused_as_a_policy(key):
    with pytest.raises(PolicyError, match="number of more digits"):
        load_policy(f'id = "p"\n{key} = {"1" * 5000}\n')


def test_dots_in_texts_and_comments_are_no_long_keys():
    many = "a" + ".a" * 20
    params = "{ method = " + rf'"\"{many}"' + f", url = '''\n{many} = 1''' }} # {many}"
    policy = load_policy(HEAD + rule(action='"verify"', params=params))
    assert policy.model.rules[0].params.url == f"{many} = 1"
