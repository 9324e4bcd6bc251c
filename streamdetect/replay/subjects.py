"""Whom decisions are about, as numbers: the subjects of each request, and the subject of a decision."""

import ipaddress

import numpy as np
from numba import njit
from numpy.typing import NDArray

from streamdetect.kernels.hashing import combine64, hash64, hash_spans
from streamdetect.messages.decision import Subject
from streamdetect.pipeline.accept.columns import RequestColumns

FIRST_SUBNET = 3  # places of a request's subjects: account, org, api_key, then subnets, longest prefix first
PLACES = 6
_SCOPE_SALT = {"account": 1, "org": 2, "api_key": 3, 24: 4, 64: 5, 56: 6, 48: 7}


def subject_key(subject: Subject) -> np.uint64:
    """The number a subject is found by."""
    if subject.scope == "subnet":
        network = ipaddress.ip_network(subject.value)
        bits = 32 if network.version == 4 else 128
        raw = np.uint64(int(network.network_address) >> (bits - network.prefixlen))
        return np.uint64(combine64(np.uint64(_SCOPE_SALT[network.prefixlen]), raw))
    return np.uint64(combine64(np.uint64(_SCOPE_SALT[subject.scope]), text_hash(subject.value)))


def text_hash(text: str) -> np.uint64:
    """The hash of an id, equal to ``hash_spans`` of its bytes with seed 0."""
    raw = np.frombuffer(text.encode(), np.uint8)
    return np.uint64(hash64(raw, 0, len(raw), np.uint64(0)))


def subjects_of(columns: RequestColumns, account: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The subjects each event belongs to: ``uint64[n, 6]``, 0 where there is none."""
    org, key = columns.org_id, columns.api_key_id
    subjects = np.zeros((len(columns), PLACES), np.uint64)
    _fill_subjects(
        account,
        hash_spans(columns.identifiers, org.start, org.end, np.uint64(0)),
        hash_spans(columns.identifiers, key.start, key.end, np.uint64(0)),
        columns.address_family,
        columns.address_high,
        columns.address_low,
        subjects,
    )
    return subjects


@njit(cache=True, nogil=True)
def _fill_subjects(
    account: NDArray[np.uint64],
    org: NDArray[np.uint64],
    api_key: NDArray[np.uint64],
    family: NDArray[np.uint8],
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    subjects: NDArray[np.uint64],
) -> None:
    for index in range(len(account)):
        subjects[index, 0] = combine64(np.uint64(1), account[index])
        if org[index] != np.uint64(0):
            subjects[index, 1] = combine64(np.uint64(2), org[index])
        if api_key[index] != np.uint64(0):
            subjects[index, 2] = combine64(np.uint64(3), api_key[index])
        if family[index] == 4:
            subjects[index, 3] = combine64(np.uint64(4), low[index] >> np.uint64(8))
        elif family[index] == 6:
            for shorter in range(3):
                subjects[index, 3 + shorter] = combine64(np.uint64(5 + shorter), high[index] >> np.uint64(8 * shorter))
