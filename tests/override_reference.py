"""Overrides, and stages to try them on."""

from pipeline_reference import START, columns_of, event, low_policy

from streamdetect.messages.override import Override
from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.associations_node import AssociationsNode
from streamdetect.pipeline.enforcement.overrides import KILL_KEY


def override(key, effect="allow", expires_at=None):
    scope, _, value = key.partition(":")
    subject = {"scope": scope, "value": value}
    return Override.model_validate(
        {"override_id": "o-1", "subject": subject, "effect": effect, "actor": "alice", "reason": "a customer we know",
         "created_at": START, "expires_at": expires_at}
    )  # fmt: skip


def allow(key, expires_at=None):
    return key, override(key, "allow", expires_at)


def kill(expires_at=None):
    return KILL_KEY, override(KILL_KEY, "kill", expires_at)


def accounts():
    return AccountsNode(low_policy(), "live", 1)


def keys():
    return AssociationsNode(low_policy(), "live")


def hammer(count, at, account="ann", **fields):
    created = {"account_created_at": START}
    return columns_of([event(f"{account}-{at}-{n}", account, at + n, **created, **fields) for n in range(count)])


def enforced(decisions):
    return [(d.action, d.status) for d in decisions if not d.simulated]
