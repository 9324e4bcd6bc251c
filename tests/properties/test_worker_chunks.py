"""Laws of cutting fetched records into chunks, and of what may be committed."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streamdetect.worker.chunks import ChunkLimits, Held
from streamdetect.worker.offsets import Ledger

part = st.none() | st.binary(max_size=20)
stamp = st.none() | st.integers(0, 50)  # in any order: producers may set them
limits = st.builds(ChunkLimits, records=st.integers(1, 8), size_bytes=st.integers(1, 60), span_ms=st.integers(0, 30))


@given(st.lists(st.tuples(st.integers(1, 5), part, part, stamp), min_size=1, max_size=40), limits)
def test_chunks_are_the_records_in_order_within_the_limits(rows, limits: ChunkLimits) -> None:
    offset, records = -1, []
    for step, key, value, at in rows:
        offset += step
        records.append(SimpleNamespace(topic="t", partition=3, offset=offset, key=key, value=value, timestamp=at))
    held, chunks = Held(records), []
    while held:
        assert (held.first, held.last) == (records[-len(held)].offset, records[-1].offset)
        chunks.append(held.cut(limits))
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
