"""Laws of cutting fetched records into chunks, and of what may be committed."""

from itertools import pairwise
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streamdetect.worker.chunks import ChunkLimits, Held
from streamdetect.worker.offsets import Ledger

part = st.none() | st.binary(max_size=20)
stamp = st.none() | st.integers(0, 50)  # in any order: producers may set them
limits = st.builds(ChunkLimits, records=st.integers(1, 8), size_bytes=st.integers(1, 60), span_ms=st.integers(0, 30))


rows = st.lists(st.tuples(st.integers(1, 5), part, part, stamp), min_size=1, max_size=40)


def records_of(rows):
    offset, records = -1, []
    for step, key, value, at in rows:
        offset += step
        records.append(SimpleNamespace(topic="t", partition=3, offset=offset, key=key, value=value, timestamp=at))
    return records


@given(rows, limits, st.data())
def test_chunks_are_the_records_in_order_within_the_limits(rows, limits: ChunkLimits, data) -> None:
    records = records_of(rows)
    fetched = data.draw(st.integers(1, len(records)))
    held, chunks = Held(records[:fetched]), []
    while held:
        assert (held.first, held.last) == (records[fetched - len(held)].offset, records[fetched - 1].offset)
        chunks.append(held.cut(limits))
        if fetched < len(records) and (not held or data.draw(st.booleans())):
            more = data.draw(st.integers(fetched + 1, len(records)))
            if held:
                held.add(records[fetched:more])
            else:
                held = Held(records[fetched:more])
            fetched = more
    found = [
        (int(chunk.offsets[i]), chunk.key(i), chunk.value(i), int(chunk.timestamps_ms[i]))
        for chunk in chunks
        for i in range(len(chunk))
    ]
    assert found == [(r.offset, r.key, r.value, -1 if r.timestamp is None else r.timestamp) for r in records]
    for chunk in chunks:
        assert 1 <= len(chunk) <= limits.records
        assert len(chunk) == 1 or len(chunk.buffer) <= limits.size_bytes
        assert (chunk.timestamps_ms <= chunk.timestamps_ms[0] + limits.span_ms).all()


@given(rows, limits, st.sets(st.integers(1, 39)))
def test_answers_that_wait_are_cut_as_if_they_were_one(rows, limits: ChunkLimits, cuts) -> None:
    records = records_of(rows)
    whole = Held(records)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    parts = Held(records[: bounds[1]])
    for begin, end in pairwise(bounds[1:]):
        parts.add(records[begin:end])
    while whole:
        assert len(parts) == len(whole)
        assert parts.cut(limits).offsets.tolist() == whole.cut(limits).offsets.tolist()
    assert not parts


def test_offsets_that_go_back_are_not_hidden_in_a_chunk() -> None:
    records = records_of([(1, None, b"a", None)] * 3)
    held = Held(records)
    held.add(records[:2])
    assert [held.cut(ChunkLimits()).offsets.tolist() for _ in range(2)] == [[0, 1, 2], [0, 1]]


@given(st.lists(st.integers(1, 9), max_size=30), st.data())
def test_the_committable_offset_follows_the_contiguous_acked_prefix(steps: list[int], data: st.DataObject) -> None:
    ledger, lasts, last = Ledger(), [], -1
    for step in steps:
        last += step
        lasts.append(last)
    deliveries = [ledger.deliver(last) for last in lasts]
    acked: set[int] = set()
    assert ledger.committable() is None
    for index in data.draw(st.permutations(range(len(lasts)))):
        deliveries[index].acked = True
        acked.add(index)
        prefix = next((i for i in range(len(lasts)) if i not in acked), len(lasts))
        assert ledger.committable() == (lasts[prefix - 1] + 1 if prefix else None)
        assert len(ledger) == len(lasts) - prefix
