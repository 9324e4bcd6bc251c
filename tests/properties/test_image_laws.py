"""Images: the last few in a row restore everything, byte for byte, whatever happened between them and however cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import recfunctions as rfn
from pipeline_reference import account_signals, columns_of, key_signals, links_from, low_policy
from pipeline_streams import events
from pipeline_streams import rows as key_rows
from test_bound_laws import assert_counted
from test_detector import PLACES, TOPIC, Log, Pass, cut, detector, logs_of, traffic

from streamdetect.errors import ImageError
from streamdetect.kernels import images
from streamdetect.kernels.image_records import (
    SLOTS,
    ImageRecord,
    Link,
    Place,
    Term,
    keys_outside,
    newest_chain,
    records_of,
)
from streamdetect.kernels.images import STRIPE_ROWS, STRIPES, capture_rows, decode, encode, restore_rows
from streamdetect.pipeline.accounts.state import ACCOUNT, ACTIVITY
from streamdetect.pipeline.accounts_node import AccountsNode
from streamdetect.pipeline.associations_node import AssociationsNode

ROW = np.dtype([("key", "u8"), ("value", "i4", (2,)), ("kind", "u1")], align=True)
# One step of an array's life: rows added, rows changed (as fractions), whether it shrank and was renumbered.
STEPS = st.lists(
    st.tuples(st.integers(0, 700), st.lists(st.floats(0, 0.999), max_size=20), st.booleans()), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=80)
@given(STEPS)
def test_the_last_stripes_hold_every_row_at_its_newest(steps):
    rows, dirty, count, taken, number = np.zeros(40_000, ROW), np.zeros(40_000, np.uint8), 0, [], 0
    for added, changed, shrinks in steps:
        if shrinks:
            count //= 2
            rows[:count] = rows[count : 2 * count]
            dirty[:count] = 1
        fresh = slice(count, count + added)
        rows["key"][fresh], dirty[fresh] = np.arange(number, number + added), 1
        count, number = count + added, number + added
        for place in changed if count else ():
            rows["value"][int(place * count)] += 1
            dirty[int(place * count)] = 1
        taken.append(capture_rows(rows, count, dirty, len(taken)))
        assert not dirty[:count].any()
        restored = restore_rows(taken[-STRIPES:], ROW)
        assert restored[:count].tobytes() == rows[:count].tobytes()


def test_an_image_holds_what_changed_and_one_stripe():
    rows = np.zeros(STRIPES * STRIPE_ROWS * 2, ROW)
    dirty = np.zeros(len(rows), np.uint8)
    dirty[7] = 1
    section = capture_rows(rows, len(rows), dirty, 3)
    assert len(section.rows) == (2 * STRIPE_ROWS + 1) * ROW.itemsize


def test_a_later_version_reads_rows_of_an_earlier_one_by_field_name():
    rows = np.zeros(3, ROW)
    rows["key"], rows["value"] = [1, 2, 3], [[1, -1], [2, -2], [3, -3]]
    section = capture_rows(rows, 3, np.ones(3, np.uint8), 0)
    later = np.dtype([("value", "i8", (2,)), ("added", "i4"), ("key", "u8"), ("kind", "u1")], align=True)
    restored = restore_rows([section], later)
    assert restored["key"].tolist() == [1, 2, 3]
    assert restored["value"].tolist() == [[1, -1], [2, -2], [3, -3]]
    assert restored["added"].tolist() == [0, 0, 0]


@settings(deadline=None, max_examples=30)
@given(stream=key_rows, older=st.sets(st.integers(0, 11)))
def test_keys_of_images_that_kept_counts_elsewhere_are_counted_anew(stream, older):
    """A chain that a later version continued: some of its images know nothing of crowds."""
    node, other = (AssociationsNode(low_policy(), "live") for _ in range(2))
    chain = []
    for number, row in enumerate(stream):
        node.links(links_from([row]))
        image = node.state.capture(number % STRIPES)
        if number in older:
            del image.rows["crowds"]
        chain.append(image)
    other.state.restore(chain)
    assert key_signals(other.state) == key_signals(node.state)
    assert_counted(other.state)


@settings(deadline=None, max_examples=30)
@given(stream=events, further=events)
def test_accounts_of_images_that_kept_windows_in_the_rows_are_read(stream, further):
    """And the first image that is written afterwards is whole, so that a chain may begin with older ones."""
    node, other, heir = (AccountsNode(low_policy(), "live", 1) for _ in range(3))
    node.events(columns_of(stream))
    state = node.state
    older = np.zeros(state.table.count, [*_fields_of(ACCOUNT), *_fields_of(ACTIVITY)])
    for name in ACCOUNT.names:
        older[name] = state.table.live[name]
    for row in range(len(older)):
        older[list(ACTIVITY.names)][row] = state.activity_of(row)[list(ACTIVITY.names)]
    older = rfn.drop_fields(older, "activity", usemask=False)
    image = state.capture(0)
    image.rows["accounts"] = capture_rows(older, len(older), np.ones(len(older), np.uint8), 0)
    del image.rows["activities"]
    other.state.restore([image])
    assert account_signals(other.state) == account_signals(state)
    node.events(columns_of(further))
    other.events(columns_of(further))
    assert account_signals(other.state) == account_signals(state)
    heir.state.restore([image, other.state.capture(1)])
    assert account_signals(heir.state) == account_signals(state)


def _fields_of(dtype):
    return [(name, dtype.fields[name][0].base, dtype.fields[name][0].shape) for name in dtype.names]


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 40, encode(images.Image({}))[:-1]])
def test_what_is_no_image_says_so(data):
    with pytest.raises(ImageError):
        decode(data)


def state_of(shard):
    """Everything a shard knows, as bytes, field by field; dirty aside, which are about images."""
    accounts, keys = shard.accounts.state, shard.associations.state
    arrays = (accounts.table.live, accounts.activities.live, accounts.subnets.live,
              accounts.ledgers[: accounts.ledger_count], keys.table.live, keys.singles.live,
              keys.members.live, keys.crowds.live)  # fmt: skip
    parts = [array[name].tobytes() for array in arrays for name in array.dtype.names]
    parts += [accounts.seen.tables.tobytes(), bytes(accounts.ids), bytes(keys.names)]
    standings = [node.standings.capture(0) for node in (shard.accounts, shard.associations)]
    others = (accounts.seen.state.tolist(), accounts.long_event_ids, keys.high_water, shard.positions, shard.marks,
              shard.watermark.capture(), [len(node.standings) for node in (shard.accounts, shard.associations)],
              [(image.meta["caps"], dict(image.blobs["subjects"].blobs)) for image in standings])  # fmt: skip
    return parts, others


def reborn(taken):
    """A detector that knows only the images of its predecessor."""
    fresh = detector()
    for partition, chain in taken.items():
        shard = fresh.new_shard()
        assert shard.restore([decode(image) for image in chain[-STRIPES:]]) == []
        fresh.shards[partition] = shard
    return fresh


@settings(deadline=None, max_examples=30)
@given(places=PLACES, deaths=st.sets(st.integers(0, 40), max_size=5))
def test_a_detector_that_dies_after_an_image_goes_on_as_if_it_had_not(places, deaths):
    """All chunks of all stages in order; after some of them the process dies and a new one restores its images."""
    whole, mortal = Pass().go(places), Pass()
    mortal.requests = traffic()
    taken, chunks = {}, 0

    def read(stage, logs):
        nonlocal chunks
        outcomes, per_log = [], []
        for log in logs:
            decisions = []
            for chunk in log.chunks(places):
                outcome = getattr(mortal.detector, stage)(chunk)
                outcomes.append(outcome)
                decisions += [decision.to_bytes() for decision in outcome.decisions]
                chain = taken.setdefault(log.partition, [])
                chain.append(encode(mortal.detector.shard(log.partition).capture(len(chain))))
                if chunks in deaths:
                    before = {partition: state_of(shard) for partition, shard in mortal.detector.shards.items()}
                    mortal.detector = reborn(taken)
                    assert {p: state_of(shard) for p, shard in mortal.detector.shards.items()} == before
                chunks += 1
            per_log.append(decisions)
        mortal.decisions += per_log
        return outcomes

    links = logs_of("links", read("requests", mortal.requests))
    evidence = logs_of("evidence", read("links", links))
    read("evidence", evidence)
    assert mortal.decisions == whole.decisions
    for partition, shard in whole.detector.shards.items():
        assert state_of(mortal.detector.shards[partition]) == state_of(shard)


@settings(deadline=None, max_examples=30)
@given(image_at=st.integers(0, 40), death=st.integers(0, 60), first=PLACES, second=PLACES)
def test_what_was_decided_after_the_image_is_not_decided_again(image_at, death, first, second):
    """The successor reads the log of decisions from the image on, and then the same requests, cut differently."""
    log = max(traffic(), key=lambda one: len(one.values))
    whole = detector()
    expected = [d for chunk in log.chunks() for d in whole.requests(chunk).decisions]
    image_at, death = sorted((image_at % len(log.values), death % len(log.values)))
    mortal, published = detector(), []
    for offsets in cut(range(image_at), first):
        published += mortal.requests(log.chunk(offsets)).decisions
    image = mortal.shard(log.partition).capture(0)
    since = [d for offsets in cut(range(image_at, death), first) for d in mortal.requests(log.chunk(offsets)).decisions]
    successor = detector()
    shard = successor.new_shard()
    shard.restore([decode(encode(image))])
    shard.follow(since, {TOPIC: death})
    successor.shards[log.partition] = shard
    after = [d for o in cut(range(len(log.values)), second) for d in successor.requests(log.chunk(o)).decisions]
    told = [(d.decision_id, d.status, d.revision, d.action) for d in published + since + after]
    assert sorted(told) == sorted((d.decision_id, d.status, d.revision, d.action) for d in expected)


# Records


def images_of(term, numbers, *, first=0, size=10, parent=None):
    """Records of images ``numbers`` of one term; the first of them was made from an image of ``parent``."""
    found = []
    for number in numbers:
        before = parent if parent is not None and number == numbers[0] else term
        link = Link(Place(term, number), before, max(first, number - STRIPES + 1))
        payload = f"{term.epoch}.{term.generation}:{number}:".encode() + bytes(size)
        found.append(records_of(link, payload, 7))
    return found


def compacted(groups):
    """What a compacted topic holds of groups of records written in order."""
    newest = {}
    for offset, (key, value) in enumerate(record for group in groups for record in group):
        newest[key] = ImageRecord(key, value, offset)
    return list(newest.values())


def names(chain):
    return [image.split(b":")[:2] for image in chain.images]


@settings(max_examples=60)
@given(written=st.integers(1, 4 * SLOTS), torn=st.integers(0, 2), order=st.randoms())
def test_a_ring_of_any_length_gives_the_newest_whole_chain(written, torn, order):
    term = Term(3, 8)
    groups = images_of(term, range(written))
    broken = images_of(term, [written])[0][:torn]
    records = compacted([*groups, broken])
    order.shuffle(records)
    chain = newest_chain(records, "log[0]")
    assert chain.newest.place == Place(term, written - 1)
    assert names(chain) == [[b"3.8", str(n).encode()] for n in range(max(0, written - STRIPES), written)]


@settings(max_examples=60)
@given(late=st.integers(0, SLOTS - STRIPES), own=st.integers(1, 3 * STRIPES))
def test_what_a_stale_owner_still_writes_changes_nothing(late, own):
    """The stale one had written up to 40 when the new one took over, and then some more."""
    old, new = Term(1, 4), Term(2, 6)
    groups = [*images_of(old, range(41)), *images_of(new, range(41, 41 + own), parent=old)]
    groups += images_of(old, range(41, 41 + late))
    chain = newest_chain(compacted(groups), "log[0]")
    assert chain.newest.place == Place(new, 40 + own)
    assert [name[0] for name in names(chain)] == [b"1.4"] * max(0, STRIPES - own) + [b"2.6"] * min(STRIPES, own)
    assert [int(name[1]) for name in names(chain)] == list(range(41 + own - STRIPES, 41 + own))


def test_two_owners_that_recovered_the_same_are_told_apart_by_the_generation():
    old, first, second = Term(1, 1), Term(2, 5), Term(2, 6)
    groups = [*images_of(old, range(3)), *images_of(second, [3], parent=old), *images_of(first, [3], parent=old)]
    assert newest_chain(compacted(groups), "log[0]").newest.place == Place(second, 3)


def test_nothing_is_an_empty_chain_and_half_an_image_is_nothing():
    assert newest_chain([], "log[0]").newest is None
    assert newest_chain(compacted([images_of(Term(1, 1), [0])[0][:-1]]), "log[0]").newest is None


def changed(record, place, value):
    raw = bytearray(record.value)
    raw[place] ^= value
    return ImageRecord(record.key, bytes(raw), record.offset)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: ImageRecord(r.key, b"hello", r.offset), "no image"),
        (lambda r: changed(r, 4, 0x40), "version"),
        (lambda r: changed(r, -1, 0x01), "corrupt"),
        (lambda r: changed(r, 12, 0x01), "header"),
        (lambda r: None, "torn"),
    ],
)
def test_what_cannot_be_read_names_the_place_and_the_way_out(spoil, says):
    records = compacted(images_of(Term(1, 1), range(3)))
    spoiled = [kept for record in records if (kept := spoil(record) if record.offset == 1 else record)]
    with pytest.raises(ImageError, match=rf"log\[7\].*{says}.*streamdetect topics"):
        newest_chain(spoiled, "log[7]")


def test_a_missing_link_is_told_and_not_skipped():
    groups = images_of(Term(1, 1), range(3))
    with pytest.raises(ImageError, match="missing"):
        newest_chain(compacted([groups[0], groups[2]]), "log[0]")


def test_keys_of_other_terms_are_found():
    keys = [key for group in images_of(Term(1, 1), [0, 1]) for key, _ in group]
    own = [key for key, _ in images_of(Term(1, 11), [0])[0]]
    assert keys_outside(Term(1, 11), keys + own) == keys


def test_the_tested_traffic_is_worth_restoring():
    ran = Pass().go()
    for partition in range(2):
        shard = ran.detector.shards[partition]
        assert shard.accounts.state.ledger_count > 0
        assert shard.associations.state.members.count > 0
        assert isinstance(Log(TOPIC, partition), Log)
