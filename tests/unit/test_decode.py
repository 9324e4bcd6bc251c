"""Each kind of bad record is set aside alone, unusual but honest ones are accepted, and nothing tells content."""

import json

import pytest

from streamdetect.kernels.chunk import chunk_of
from streamdetect.messages.dead_letter import CODES, NAMES_MAX, DeadLetter
from streamdetect.messages.request import RequestEvent
from streamdetect.pipeline.accept.dead_letters import KEY_BYTES_MAX, dead_letter_key, dead_letter_of
from streamdetect.pipeline.accept.decode import decode_accounts, decode_requests
from streamdetect.pipeline.accept.gather import TEXT_BYTES_MAX
from streamdetect.pipeline.accept.scan import scan_events

CANARY = "zebra-quartz-4711"


def event(**changes):
    fields = {"event_id": "e", "occurred_at": 1_700_000_000_000, "account_id": "a", "prompt": CANARY}
    return json.dumps({name: value for name, value in {**fields, **changes}.items() if value is not ...}).encode()


def spliced(name, raw):
    """A good event with one more field, written as it stands."""
    return event()[:-1] + f', "{name}": '.encode() + raw + b"}"


BAD = {
    "not JSON": (b"hello " + CANARY.encode(), "invalid_json", ""),
    "cut off": (event()[:-5], "invalid_json", ""),
    "two documents": (event() + event(), "invalid_json", ""),
    "byte order mark": (b"\xef\xbb\xbf" + event(), "invalid_json", ""),
    "array": (b"[" + event() + b"]", "not_an_object", ""),
    "null": (b"null", "not_an_object", ""),
    "no value": (None, "empty_value", ""),
    "empty value": (b"", "empty_value", ""),
    "invalid UTF-8": (event().replace(b"zebra", b"zebr\xff"), "invalid_utf8", ""),
    "invalid UTF-8 in an unknown field": (spliced("new", b'"\xed\xa0\x80"'), "invalid_utf8", ""),
    "half a surrogate": (event().replace(b"zebra", b"\\ud800"), "invalid_utf8", ""),
    "half a surrogate in an unknown field": (spliced("new", b'"\\udc00"'), "invalid_utf8", ""),
    "deep": (spliced("new", b"[" * 50_000 + b"]" * 50_000), "too_deep", ""),
    "deep and open": (b"[" * 100_000, "too_deep", ""),
    "deeper than the limit by one": (spliced("new", b"[" * 64 + b"]" * 64), "too_deep", ""),
    "brackets and a string that never ends": (b"[" * 65 + b'"' + b'\\"' * 400_000, "too_deep", ""),
    "NaN": (spliced("new", b"NaN"), "invalid_json", ""),
    "minus infinity": (spliced("input_tokens", b"-Infinity"), "invalid_json", ""),
    "missing event_id": (event(event_id=...), "missing_field", "event_id"),
    "missing account_id": (event(account_id=...), "missing_field", "account_id"),
    "null occurred_at": (event(occurred_at=None), "missing_field", "occurred_at"),
    "empty account_id": (event(account_id=""), "empty_value", "account_id"),
    "long event_id in characters": (event(event_id="x" * 129), "too_long", "event_id"),
    "long event_id in bytes": (event(event_id="é" * 65), "too_long", "event_id"),
    "long org_id in bytes": (event(org_id="é" * 129), "too_long", "org_id"),
    "number as a string": (event(input_tokens="5"), "wrong_type", "input_tokens"),
    "float as an integer": (event(turn=1.0), "wrong_type", "turn"),
    "boolean as an integer": (event(turn=True), "wrong_type", "turn"),
    "number as an id": (event(account_id=7), "wrong_type", "account_id"),
    "object as a prompt": (event(prompt={"text": CANARY}), "wrong_type", "prompt"),
    "number as an outcome": (event(outcome=3), "wrong_type", "outcome"),
    "wrong type in a field nobody reads yet": (event(traceparent=1), "wrong_type", "traceparent"),
    "huge integer": (spliced("output_tokens", b"9" * 5000), "out_of_range", "output_tokens"),
    "integer above 64 bits": (event(input_tokens=2**70), "out_of_range", "input_tokens"),
    "negative integer": (event(cached_input_tokens=-1), "out_of_range", "cached_input_tokens"),
    "time zero": (event(occurred_at=0), "out_of_range", "occurred_at"),
    "time in microseconds": (event(occurred_at=1_700_000_000_000_000), "out_of_range", "occurred_at"),
    "time without a zone": (event(occurred_at="2024-01-01T00:00:00"), "invalid_value", "occurred_at"),
    "time that is none": (event(occurred_at=CANARY), "invalid_value", "occurred_at"),
    "address that is none": (event(client_ip="10.0.0.256"), "invalid_value", "client_ip"),
    "address that is text": (event(client_ip=CANARY), "invalid_value", "client_ip"),
    "address with a port": (event(client_ip="10.0.0.1:80"), "invalid_value", "client_ip"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_set_aside_and_its_neighbours_are_accepted(name):
    value, code, field = BAD[name]
    columns, rejects = decode_requests(chunk_of("t", 3, [event(), value, event(event_id="f")]))
    assert [(1, code, field)] == [(reject.record, reject.code, reject.field) for reject in rejects]
    assert columns.record.tolist() == [0, 2]
    assert code in CODES


def test_all_bad_records_together_are_rejected_in_record_order():
    _, rejects = decode_requests(chunk_of("t", 0, [value for value, _, _ in BAD.values()]))
    assert list(range(len(BAD))) == [reject.record for reject in rejects]


def only(value):
    columns, rejects = decode_requests(chunk_of("t", 0, [value]))
    assert rejects == []
    return columns


def prompt_of(columns):
    return columns.texts[int(columns.prompt.start[0]) : int(columns.prompt.end[0])].tobytes()


@pytest.mark.parametrize("character", ["a", "é", "漢", "😀"])
def test_a_prompt_of_a_megabyte_is_accepted_and_cut_at_the_end_of_a_character(character):
    text = "x" + character * (1_000_000 // len(character.encode()))
    held = prompt_of(only(event(prompt=text)))
    assert TEXT_BYTES_MAX - 4 < len(held) <= TEXT_BYTES_MAX
    assert text.startswith(held.decode())


@pytest.mark.parametrize("text", ["", "\u200b" * 500, "\u0301" * 500, "\u202e\ufeff", "\0"])
def test_prompts_without_a_visible_character_are_accepted(text):
    assert text.encode() == prompt_of(only(event(prompt=text)))


def test_an_absent_prompt_is_not_an_empty_one():
    assert only(event(prompt=...)).prompt.start.tolist() == [-1]
    empty = only(event(prompt="")).prompt
    assert empty.start.tolist() == empty.end.tolist() != [-1]


def test_brackets_inside_strings_are_not_depth():
    assert len(only(event(prompt='{["' * 10_000)))


@pytest.mark.parametrize(
    ("text", "family", "high", "low"),
    [
        ("192.0.2.1", 4, 0, 0xC0000201),
        ("::ffff:192.0.2.1", 4, 0, 0xC0000201),
        ("2001:db8::1", 6, 0x20010DB800000000, 1),
        ("FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF", 6, 2**64 - 1, 2**64 - 1),
        ("", 0, 0, 0),
        (None, 0, 0, 0),
    ],
)
def test_addresses(text, family, high, low):
    columns = only(event(client_ip=text))
    assert (family, high, low) == tuple(
        int(column[0]) for column in (columns.address_family, columns.address_high, columns.address_low)
    )


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00.001Z", 1),
        ("2024-02-29T12:00:00+02:00", 1_709_200_800_000),
        ("2024-02-29t10:00:00.9999z", 1_709_200_800_999),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
    ],
)
def test_written_times(text, instant):
    assert [instant] == only(event(occurred_at=text)).occurred_at.tolist()


def test_unknown_enum_values_are_counted_and_treated_as_absent():
    values = [event(outcome="teapot"), event(outcome="blocked", account_tier="gold"), event(outcome="", kind=None)]
    columns, rejects = decode_requests(chunk_of("t", 0, values))
    assert (rejects, {"outcome": 1, "account_tier": 1}) == ([], columns.unknown_values)
    assert columns.outcome.tolist() == [0, 3, 0]
    assert columns.account_tier.tolist() == [0, 0, 0]


def test_the_last_of_repeated_names_counts():
    assert only(spliced("turn", b'"x", "turn": 7')).turn.tolist() == [7]


def test_a_field_counts_before_its_aliases():
    assert only(event(tokens_in=1, input_tokens=2)).input_tokens.tolist() == [2]
    assert only(event(tokens_in=1, input_tokens=None)).input_tokens.tolist() == [1]
    assert only(event(**{"gen_ai.usage.output_tokens": 3, "client.address": "::1"})).output_tokens.tolist() == [3]


def test_a_structured_cloud_event_is_unwrapped():
    wrapped = {"specversion": "1.0", "id": "x", "type": "request", "source": "gw", "data": json.loads(event(turn=4))}
    assert only(json.dumps(wrapped).encode()).turn.tolist() == [4]


def test_an_empty_chunk_gives_empty_columns():
    columns, rejects = decode_requests(chunk_of("t", 0, []))
    assert (len(columns), rejects) == (0, [])
    assert len(columns.prompt) == len(columns.org_id) == 0


def test_accounts_are_records_tombstones_or_rejects():
    account = b'{"account_id":"a","created_at":5,"tier":"gold","org_id":""}'
    values = [account, None, None, b"", b'{"account_id":"a","created_at":"5"}', None]
    entries, rejects = decode_accounts(chunk_of("t", 0, values, keys=[b"a", b"b", None, b"c", b"d", b"\xff"]))
    assert [(e.record, e.account_id, e.account is not None) for e in entries] == [(0, "a", True), (1, "b", False)]
    assert (entries[0].account.created_at, entries[0].account.tier, entries[0].account.org_id) == (5, None, None)
    assert [(reject.record, reject.code) for reject in rejects] == [
        (2, "empty_value"),
        (3, "empty_value"),
        (4, "wrong_type"),
        (5, "invalid_utf8"),
    ]


def test_a_dead_letter_tells_place_length_and_shape():
    value = event(turn="x", secret_name=1, another=[])
    chunk = chunk_of("requests", 2, [event(), value], offsets=[10, 17])
    letter = dead_letter_of(decode_requests(chunk)[1][0], chunk)
    assert (
        letter.code,
        letter.field,
        letter.topic,
        letter.partition,
        letter.offset,
    ) == ("wrong_type", "turn", "requests", 2, 17)
    assert len(value) == letter.record_bytes
    known = {"event_id": "string", "occurred_at": "integer", "account_id": "string", "prompt": "string"}
    assert {**known, "turn": "string"} == letter.fields
    assert letter.other_fields == 2
    assert DeadLetter.model_validate_json(letter.to_bytes()) == letter


def test_the_key_of_a_dead_letter_is_the_original_one_unless_it_is_too_long_to_be_sent():
    keys = [b"account", b"", None, bytes(KEY_BYTES_MAX), bytes(KEY_BYTES_MAX + 1)]
    chunk = chunk_of("requests", 0, [b"no json"] * len(keys), keys=keys)
    rejects = decode_requests(chunk)[1]
    assert [dead_letter_key(reject, chunk) for reject in rejects] == [*keys[:-1], None]


def test_a_shape_is_bounded():
    everything = dict.fromkeys(RequestEvent.model_fields, CANARY) | {f"new{number}": 1 for number in range(1000)}
    chunk = chunk_of("t", 0, [json.dumps(everything).encode()])
    letter = dead_letter_of(decode_requests(chunk)[1][0], chunk)
    assert len(letter.fields) == NAMES_MAX
    assert len(letter.to_bytes()) < 2000


def test_no_reject_and_no_dead_letter_tells_content():
    values = [value for value, _, _ in BAD.values()]
    values += [event(**{name: [CANARY]}) for name in RequestEvent.model_fields]
    values += [event(**{CANARY: 1, "turn": CANARY}), event(account_tier={CANARY: CANARY})]
    chunk = chunk_of("t", 0, values)
    for decode in (decode_requests, decode_accounts):
        accepted, rejects = decode(chunk)
        assert rejects
        for reject in rejects:
            letter = dead_letter_of(reject, chunk)
            for told in (repr(reject), repr(letter), str(letter), letter.to_bytes().decode()):
                assert CANARY not in told
                assert "zebra" not in told
    assert accepted


def test_the_models_own_errors_tell_no_content():
    with pytest.raises(ValueError, match="turn") as caught:
        RequestEvent.model_validate_json(event(turn=CANARY))
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)


PLAINLY_WRITTEN = {
    "no more than must be": {},
    "IPv4": {"client_ip": "192.0.2.1"},
    "IPv6": {"client_ip": "2001:db8::1"},
    "lines and quotes": {"prompt": 'one\n"two"\tthree \\ four', "system_prompt": "a/b"},
    "beyond ASCII": {"prompt": "é 漢 😀", "account_id": "é"},
    "unknown names and values": {"outcome": "teapot", "new": "x", "flag": True, "count": 7, "nothing": None},
    "every number": {"turn": 0, "input_tokens": 5, "http_status": 200, "client_asn": 64496, "account_created_at": 1},
}


@pytest.mark.parametrize("name", PLAINLY_WRITTEN)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_events_written_plainly_take_the_fast_way(name, ascii_only):
    fields = {"event_id": "e", "occurred_at": 5, "account_id": "a", "prompt": "p", **PLAINLY_WRITTEN[name]}
    if ascii_only and not fields["account_id"].isascii():
        fields["account_id"] = "a"  # an identifier with escapes goes the other way
    values = [json.dumps(fields, ensure_ascii=ascii_only, indent=indent).encode() for indent in (None, 2)]
    columns, refused = scan_events(chunk_of("t", 0, values))
    assert refused.tolist() == []
    start, end = columns.prompt.start, columns.prompt.end
    assert [columns.texts[s:e].tobytes().decode() for s, e in zip(start, end, strict=True)] == [fields["prompt"]] * 2


def test_what_is_decoded_and_what_is_scanned_stand_in_record_order():
    written = ["2024-05-06T07:08:09Z" if number % 3 else 1_700_000_000_000 for number in range(9)]
    values = [event(event_id=f"e{number}", occurred_at=at, outcome="huh") for number, at in enumerate(written)]
    columns, rejects = decode_requests(chunk_of("t", 0, [*values, b"{"]))
    spans = zip(columns.event_id.start, columns.event_id.end, strict=True)
    assert [columns.identifiers[s:e].tobytes() for s, e in spans] == [b"e%d" % number for number in range(9)]
    assert columns.record.tolist() == list(range(9))
    assert columns.unknown_values == {"outcome": 9}
    assert [reject.record for reject in rejects] == [9]
