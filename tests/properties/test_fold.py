"""Laws of the fold that followers of compacted topics keep."""

from hypothesis import given
from hypothesis import strategies as st

from streamdetect.kafka.fold import VANISHED, Index, Record, fold_into

keys = st.sampled_from([b"a", b"b", b"c", b"d"])
values = st.none() | st.binary(max_size=2)


@st.composite
def logs(draw):
    """A topic: each key in one partition, offsets rising."""
    return [
        Record(key, draw(values), key[0] % 2, offset) for offset, key in enumerate(draw(st.lists(keys, max_size=30)))
    ]


def oracle(log):
    held = {}
    for record in log:
        held[record.key] = record.value
    return {key: value for key, value in held.items() if value is not None}


def apply(held, record):
    if record.value is None:
        held.pop(record.key, None)
    else:
        held[record.key] = record.value


def snapshot_of(log):
    snapshot = {}
    fold_into(snapshot, log)
    return snapshot


def compacted(log, kept):
    """Drop superseded records, and tombstones of which nothing older is left, as a broker may at any time."""
    newest = {record.key: record.offset for record in log}
    left = [record for record in log if record.offset in kept or newest[record.key] == record.offset]
    needed = {record.key for record in left if record.offset != newest[record.key]}
    return [record for record in left if record.value is not None or record.key in needed or record.offset in kept]


@given(logs())
def test_snapshot_is_the_newest_value_of_each_key(log):
    assert {key: record.value for key, record in snapshot_of(log).items()} == oracle(log)


@given(logs(), st.sets(st.integers(0, 30)))
def test_compaction_changes_nothing(log, kept):
    assert oracle(compacted(log, kept)) == oracle(log)


@given(logs(), st.lists(st.integers(0, 30), max_size=4), st.sets(st.integers(0, 30)))
def test_reported_changes_give_the_fold_wherever_reading_began_anew(log, cuts, kept):
    """Between two cuts records are followed one by one; at a cut the reader starts again from a compacted log."""
    held, index = {}, Index()
    place = 0
    for cut in [*sorted(min(cut, len(log)) for cut in cuts), len(log)]:
        for record in log[place:cut]:
            index.note(record)
            apply(held, record)
        seen_again = compacted(log[:cut], kept)
        for record in index.replace(snapshot_of(seen_again)):
            apply(held, record)
        place = cut
        assert held == oracle(log[:cut])
        assert len(index) == len(held)


@given(logs(), logs())
def test_a_replaced_topic_reports_what_vanished(old, new):
    held, index = {}, Index()
    for record in index.replace(snapshot_of(old)):
        apply(held, record)
    moved = [Record(record.key, record.value, record.partition, record.offset + 1000) for record in new]
    for record in index.replace(snapshot_of(moved)):
        assert (record.offset == VANISHED) == (record.value is None)
        apply(held, record)
    assert held == oracle(new)


@given(logs())
def test_reading_again_reports_nothing(log):
    index = Index()
    list(index.replace(snapshot_of(log)))
    assert list(index.replace(snapshot_of(log))) == []


def test_a_topic_made_again_is_told_by_the_times_of_its_records():
    index = Index()
    assert len(list(index.replace({b"a": Record(b"a", b"1", 0, 5, 1_000)}))) == 1
    assert list(index.replace({b"a": Record(b"a", b"1", 0, 5, 1_000)})) == []
    again = Record(b"a", b"2", 0, 5, 2_000)
    assert list(index.replace({b"a": again})) == [again]
