"""Which shared keys are subjects, what they are called, and the key that a name stands for."""

import ipaddress
from typing import Final

import numpy as np

from streamdetect.kernels.hashing import hash64
from streamdetect.messages.policy import Scope
from streamdetect.pipeline.accounts.sharing import SEED_OF_NAMED, KeyType, key_identity
from streamdetect.pipeline.associations.state import AssociationsState
from streamdetect.pipeline.enforcement.rulings import SubjectKey

SCOPE_OF_TYPE: Final[dict[KeyType, Scope]] = {
    KeyType.SUBNET_24: "subnet",
    KeyType.SUBNET_64: "subnet",
    KeyType.SUBNET_56: "subnet",
    KeyType.SUBNET_48: "subnet",
    KeyType.ORG: "org",
    KeyType.API_KEY: "api_key",
}
SHARED_SCOPES: Final[tuple[Scope, ...]] = ("subnet", "org", "api_key")
# By scope: whether keys of a type (its number is the place) are subjects of it.
TYPES_OF_SCOPE: Final = {
    scope: np.array([False, *(SCOPE_OF_TYPE.get(key_type) == scope for key_type in KeyType)]) for scope in SHARED_SCOPES
}
assert [int(key_type) for key_type in KeyType] == list(range(1, len(KeyType) + 1))

_PREFIX_OF_TYPE: Final = {KeyType.SUBNET_64: 64, KeyType.SUBNET_56: 56, KeyType.SUBNET_48: 48}
_TYPE_OF_PREFIX: Final = {24: KeyType.SUBNET_24, **{prefix: key_type for key_type, prefix in _PREFIX_OF_TYPE.items()}}
_TYPE_OF_SCOPE: Final = {"org": KeyType.ORG, "api_key": KeyType.API_KEY}


def subnet_text(raw: int, key_type: int) -> str:
    """Canonical CIDR of a subnet key.

    >>> subnet_text(0xC00002, KeyType.SUBNET_24), subnet_text(0x20010DB8_0000, KeyType.SUBNET_48)
    ('192.0.2.0/24', '2001:db8::/48')
    """
    if key_type == KeyType.SUBNET_24:
        return str(ipaddress.IPv4Network((raw << 8, 24)))
    prefix = _PREFIX_OF_TYPE[KeyType(key_type)]
    return str(ipaddress.IPv6Network((raw << (128 - prefix), prefix)))


def subject_of(state: AssociationsState, key: int) -> SubjectKey:
    """The subject that a row of keys is."""
    record = state.table.rows[key]
    name, key_type = state.name(key), int(record["key_type"])
    return SCOPE_OF_TYPE[KeyType(key_type)], name.decode() if name else subnet_text(int(record["raw"]), key_type)


def identity_of(subject: SubjectKey) -> np.uint64:
    """The identity of the typed key that a subject is; the inverse of ``subject_of``."""
    scope, value = subject
    if scope == "subnet":
        network = ipaddress.ip_network(value)
        bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        return np.uint64(key_identity(np.uint64(bits), int(_TYPE_OF_PREFIX[network.prefixlen])))
    key_type = _TYPE_OF_SCOPE[scope]
    raw = np.frombuffer(value.encode(), np.uint8)
    return np.uint64(key_identity(np.uint64(hash64(raw, 0, len(raw), SEED_OF_NAMED[key_type])), int(key_type)))
