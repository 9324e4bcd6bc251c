"""The compiled hashes equal plain Python, byte for byte."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.kernels.chunk import spans_of
from streamdetect.kernels.hashing import combine64, fmix32, fmix64, hash64, hash_spans

MASK = (1 << 64) - 1
words64 = st.integers(0, MASK)
compiled = settings(deadline=None)  # the first call compiles


def reference_fmix64(value):
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return value ^ value >> 33


def reference_hash64(data, seed):
    state = 0xCBF29CE484222325 ^ reference_fmix64(seed)
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 & MASK
    return reference_fmix64(state) or 1


@compiled
@given(value=st.integers(0, 2**32 - 1))
def test_fmix32_is_murmur3(value):
    from sketch_reference import fmix32 as reference

    assert int(fmix32(np.uint32(value))) == reference(value)


@compiled
@given(value=words64)
def test_fmix64_is_murmur3(value):
    assert int(fmix64(np.uint64(value))) == reference_fmix64(value)


@compiled
@given(before=st.binary(max_size=5), data=st.binary(max_size=80), after=st.binary(max_size=5), seed=words64)
def test_hash64_depends_on_the_span_and_the_seed_alone(before, data, after, seed):
    buffer = np.frombuffer(before + data + after, np.uint8)

    hashed = hash64(buffer, len(before), len(before) + len(data), np.uint64(seed))

    assert int(hashed) == reference_hash64(data, seed)


@compiled
@given(parts=st.lists(st.none() | st.binary(max_size=20), max_size=20), seed=words64)
def test_hash_spans_is_zero_for_absent_values_only(parts, seed):
    buffer, spans = spans_of(parts)

    hashes = hash_spans(np.frombuffer(buffer, np.uint8), spans.start, spans.end, np.uint64(seed))

    assert hashes.tolist() == [0 if part is None else reference_hash64(part, seed) for part in parts]


@compiled
@given(first=words64, second=words64)
def test_combine64_depends_on_the_order(first, second):
    inner = reference_fmix64((first + 0x9E3779B97F4A7C15) & MASK)

    combined = int(combine64(np.uint64(first), np.uint64(second)))

    assert combined == (reference_fmix64(inner ^ second) or 1)
    if first != second:
        assert combined != int(combine64(np.uint64(second), np.uint64(first)))


def test_spans_beyond_the_buffer_are_cut_to_it():
    buffer = np.frombuffer(b"abc", np.uint8)

    hashes = hash_spans(buffer, np.array([1, 7, 2]), np.array([99, 12, 1]), np.uint64(5))

    assert hashes.tolist() == [reference_hash64(b"bc", 5), reference_hash64(b"", 5), reference_hash64(b"", 5)]


def test_plain_fnv1a_lies_under_seed_zero():
    # The published FNV-1a 64 of "a" is af63dc4c8601ec8c.
    assert int(hash64(np.frombuffer(b"a", np.uint8), 0, 1, np.uint64(0))) == reference_fmix64(0xAF63DC4C8601EC8C)
