"""A fetch as one chunk is what aiokafka gives record by record: from wherever, packed however, or damaged."""

import struct

import numpy as np
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.worker.chunks import ChunkLimits, Held
from streamdetect.worker.fetched import chunk_of_answer

compiled = settings(deadline=None)  # the first call compiles
_bytes = st.none() | st.binary(max_size=40) | st.sampled_from([b"x" * 200, b"y" * 20_000])
_records = st.lists(
    st.tuples(
        _bytes,
        _bytes,
        st.integers(-1, 2**42),
        st.lists(st.tuples(st.text(max_size=5), _bytes), max_size=2),
    ),
    min_size=1,
    max_size=6,
)
_batches = st.lists(st.tuples(_records, st.sampled_from(range(5)), st.booleans(), st.integers(0, 3)), max_size=4)
_CONTROL, _BROKER_TIME, _BASE, _ATTRIBUTES, _NEWEST = 0x20, 0x08, 0, 21, 35


def answer_of(batches, *, control=()):
    """Write record batches as a broker sends them; a hole of offsets goes before each."""
    raw, offset = b"", 0
    for number, (records, codec, broker_time, hole) in enumerate(batches):
        offset += hole
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
        for place, (key, value, stamp_ms, headers) in enumerate(records):
            assert builder.append(place, stamp_ms, key, value, headers) is not None
        made = bytearray(builder.build())
        struct.pack_into(">q", made, _BASE, offset)
        (attributes,) = struct.unpack_from(">h", made, _ATTRIBUTES)
        attributes |= _BROKER_TIME * broker_time | _CONTROL * (number in control)
        struct.pack_into(">h", made, _ATTRIBUTES, attributes)
        raw += made
        offset += len(records)
    return raw


def stock_of(raw, first_offset, *, check_sums=False):
    """Read them as aiokafka does; records and the offset behind them."""
    tp = TopicPartition("t", 3)
    records = PartitionRecords(tp, MemoryRecords(raw), [], first_offset, None, None, check_sums, READ_UNCOMMITTED)
    found = list(records)
    return found, records.next_fetch_offset


def rows_of(chunk):
    columns = (chunk.offsets.tolist(), chunk.timestamps_ms.tolist())
    return [(*pair, chunk.key(n), chunk.value(n)) for n, pair in enumerate(zip(*columns, strict=True))]


def rows_of_stock(records):
    return [(record.offset, record.timestamp, record.key, record.value) for record in records]


@compiled
@given(_batches, st.integers(0, 12), st.sets(st.integers(0, 3)), st.integers(0, 80))
def test_a_chunk_has_the_records_of_the_answer(batches, first_offset, control, lost):
    raw = answer_of(batches, control=control)
    if batches:  # an answer begins with the batch that holds the offset asked for
        first_offset = min(first_offset, batches[0][3] + len(batches[0][0]) - 1)
    raw = raw[: len(raw) - lost] if lost < len(raw) else raw  # a broker cuts where the fetch is full
    read = chunk_of_answer("t", 3, raw, first_offset, check_sums=False)
    records, next_offset = stock_of(raw, first_offset)
    assert read is not None
    assert rows_of(read[0]) == rows_of_stock(records)
    assert read[1] == next_offset


@compiled
@given(_batches, st.data())
def test_damage_is_left_to_the_stock_way(batches, data):
    raw = bytearray(answer_of(batches))
    for _ in range(data.draw(st.integers(1, 3)) if raw else 0):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    read = chunk_of_answer("t", 3, bytes(raw), 0, check_sums=False)
    if read is None:
        return
    try:
        records, next_offset = stock_of(bytes(raw), 0)
    except UnicodeDecodeError:  # in the name of a header
        return
    assert rows_of(read[0]) == rows_of_stock(records)
    assert read[1] == next_offset


@compiled
@given(st.data())
def test_no_byte_of_a_small_batch_can_be_damaged_unseen(data):
    """Every byte of the headers counts, which damage drawn at large seldom meets."""
    plain = answer_of([([(None, b"value", -1, [])], 0, broker_time, 0) for broker_time in (False, True)])
    raw = bytearray(plain)
    raw[data.draw(st.integers(0, len(raw) - 1), label="place")] = data.draw(st.integers(0, 255), label="byte")
    read = chunk_of_answer("t", 3, bytes(raw), 0, check_sums=False)
    if read is not None:
        records, next_offset = stock_of(bytes(raw), 0)
        assert (rows_of(read[0]), read[1]) == (rows_of_stock(records), next_offset)


def test_a_wrong_checksum_is_found():
    plain = answer_of([([(b"k", b"value", 5, [])], 0, False, 0)])
    assert chunk_of_answer("t", 3, plain, 0, check_sums=True) is not None
    wrong = plain.replace(b"value", b"volue")
    assert chunk_of_answer("t", 3, wrong, 0, check_sums=True) is None
    try:
        stock_of(wrong, 0, check_sums=True)
    except CorruptRecordException:
        return
    raise AssertionError("aiokafka took it")


@compiled
@given(_batches, st.integers(1, 9), st.integers(1, 300), st.integers(0, 2**41))
def test_chunks_of_whole_answers_are_those_of_single_records(batches, most, size_bytes, span_ms):
    raw = answer_of(batches)
    records, _ = stock_of(raw, 0)
    if not records:
        return
    limits = ChunkLimits(most, size_bytes, span_ms)
    whole, single = Held([chunk_of_answer("t", 3, raw, 0, check_sums=False)[0]]), Held(records)
    seen = []
    while whole:
        assert (whole.first, whole.last, len(whole)) == (single.first, single.last, len(single))
        cuts = [held.cut(limits) for held in (whole, single)]
        assert rows_of(cuts[0]) == rows_of(cuts[1])
        bytes_held = sum(len(key or b"") + len(value or b"") for *_, key, value in rows_of(cuts[0]))
        assert len(cuts[0]) == 1 or (len(cuts[0]) <= most and bytes_held <= size_bytes)
        assert all(np.diff(cut.offsets).min(initial=1) > 0 for cut in cuts)
        seen += rows_of(cuts[0])
    assert not single
    assert seen == rows_of_stock(records)
