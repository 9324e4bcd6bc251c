"""The compiled decoder and the message model agree on every record: on acceptance, on the reject, on every column."""

import ipaddress
import json
from dataclasses import fields

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamdetect.kernels.chunk import Spans, chunk_of
from streamdetect.messages.reading import Fault, parse_object, validate
from streamdetect.messages.request import ALIASES, OPEN_ENUMS, RequestEvent, unknown_values, unwrapped
from streamdetect.pipeline.accept.columns import AccountTier, Kind, Outcome, RequestColumns
from streamdetect.pipeline.accept.decode import decode_accounts, decode_requests
from streamdetect.pipeline.accept.event_struct import IDENTIFIER_COLUMNS, INTEGER_COLUMNS
from streamdetect.pipeline.accept.gather import TEXT_BYTES_MAX

ALIAS_NAMES = [alias for aliases in ALIASES.values() for alias in aliases]
NAMES = [*RequestEvent.model_fields, *ALIAS_NAMES, "sketch", "data", "specversion", "unheard_of", "evént_id"]

# Raw JSON texts, since what matters is how they are written: 1.0 is no integer, "\ud800" no text.
LITERALS = [
    *["null", "true", "false", "0", "-0", "-1", "1", "1.0", "1e3", "-0.0", "1e999", "NaN", "Infinity", "-Infinity"],
    *[str(2**bits + step) for bits in (31, 32, 40, 63, 64) for step in (-1, 0, 1)],
    *["999", "1000", "253402300799999", "253402300800000", "9" * 30, "9" * 5000, "01", "1.", "", "tru"],
    *["[]", "{}", '[""]', '["stop"]', "[1]", '["stop",1]', "[null]", '{"a":{"a":[1,{"b":null}]}}'],
    *["[" * depth + "]" * depth for depth in (63, 64, 70, 2000)],
    *[
        "[" * 100_000,
        '"' + "{[" * 50 + '"',
        '"\\"' + "[" * 70 + '"',
        '{"event_id":"in","occurred_at":7,"account_id":"x"}',
    ],
    *['"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\q"', '""', '" "', '"a\nb"'],
]
BOUNDARY_TEXTS = [
    character * (limit // len(character.encode()) + step)
    for limit in (128, 256, 4096, TEXT_BYTES_MAX)
    for character in ("a", "é", "漢")
    for step in (0, 1)
]
RAW_BYTES = [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'{"\xff":1}', b'["\xe6\xbc"]']
_literals = st.sampled_from(LITERALS)
_texts = st.one_of(st.text(max_size=12), st.sampled_from(BOUNDARY_TEXTS))
_addresses = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.sampled_from(
        ["1.2.3", "1.2.3.04", "1.2.3.256", "::1%eth0", "::ffff:1.2.3", " 1.2.3.4", "1.2.3.4\0", "", "\u0661.2.3.4"]
    ),
)
_instants = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(
        [
            "2024-02-30T00:00:00Z",
            "2024-01-01T00:00:00",
            "2016-12-31T23:59:60Z",
            "2024-01-01t00:00:00.123456789z",
            "2024-01-01 00:00:00+14:30",
            "1970-01-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "123",
        ]
    ),
)
_values = st.one_of(
    _literals,
    st.integers(-5, 10).map(str),
    st.integers(1, 2**42).map(str),
    st.one_of(_texts, _addresses, _instants).map(json.dumps),
    _texts.map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from([value for values in OPEN_ENUMS.values() for value in values]).map(json.dumps),
)
_names = st.sampled_from(NAMES).flatmap(
    lambda name: st.sampled_from([name, name, name, f"\\u{ord(name[0]):04x}{name[1:]}"])
)
_required = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from(['"e-1"', '"é"', '"e\\u00e9"']),
        "occurred_at": st.one_of(st.integers(1, 2**41).map(str), st.just('"2024-05-06T07:08:09.123Z"')),
        "account_id": st.sampled_from(['"a-1"', '"漢字"']),
    }
).map(lambda found: list(found.items()))
_plain = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.one_of(st.just("null"), st.integers(0, 2**40).map(str)) for name in INTEGER_COLUMNS},
        **{alias: st.integers(0, 2**40).map(str) for alias in ("tokens_in", "tokens_out", "max_tokens")},
        **{name: st.sampled_from([*values, "new", ""]).map(json.dumps) for name, values in OPEN_ENUMS.items()},
        **{name: _texts.map(json.dumps) for name in ("org_id", "api_key_id", "payment_id", "prompt", "system_prompt")},
        "client_ip": _addresses.map(json.dumps),
        "sketch": st.just('{"profile":"p","hashes":[1,2]}'),
    },
).map(lambda found: list(found.items()))
_wild = st.lists(st.tuples(_names, _values), max_size=4)


def _written(pairs):
    return ("{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}").encode("utf-8", "surrogatepass")


_mostly_valid = st.tuples(_required, _plain).map(lambda parts: _written(parts[0] + parts[1]))
_mutated = st.tuples(_required, _plain, _wild).flatmap(
    lambda parts: st.permutations(parts[0] + parts[1] + parts[2]).map(_written)
)
_headless = _wild.map(_written)


@st.composite
def _broken(draw):
    value = bytearray(draw(_mostly_valid))
    at = draw(st.integers(0, len(value) - 1))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "mark"]))
    if kind == "cut":
        return bytes(value[:at])
    if kind == "flip":
        value[at] = draw(st.integers(0, 255))
    elif kind == "insert":
        value[at:at] = draw(st.binary(min_size=1, max_size=3))
    else:
        value[:0] = b"\xef\xbb\xbf"
    return bytes(value)


_record = st.one_of(_mostly_valid, _mutated, _mutated, _headless, _broken(), st.none(), st.binary(max_size=20))
_records = st.lists(_record, max_size=6)


def _cut(text):
    return text.encode()[:TEXT_BYTES_MAX].decode(errors="ignore").encode()


def _expected_row(record, event):
    """What the columns must say of one event the model accepted, computed the slow and obvious way."""
    row = {"record": record, "occurred_at": event.occurred_at}
    row["kind"] = Kind[event.kind.upper()]
    row["outcome"] = Outcome[event.outcome.upper()]
    row["account_tier"] = AccountTier[(event.account_tier or "unknown").upper()]
    for name in INTEGER_COLUMNS:
        value = getattr(event, name)
        row[name] = -1 if value is None else value
    address = ipaddress.ip_address(event.client_ip) if event.client_ip else None
    row["address_family"] = address.version if address else 0
    row["address_high"] = int(address) >> 64 if address else 0
    row["address_low"] = int(address) & (2**64 - 1) if address else 0
    for name in IDENTIFIER_COLUMNS:
        value = getattr(event, name)
        row[name] = None if value is None else value.encode()
    for name in ("prompt", "system_prompt"):
        value = getattr(event, name)
        row[name] = None if value is None else _cut(value)
    return row


def _expected(values):
    rows, faults, unknown = [], [], {}
    for record, value in enumerate(values):
        data = parse_object(value)
        event = data if isinstance(data, Fault) else validate(RequestEvent, unwrapped(data))
        if isinstance(event, Fault):
            faults.append((record, event.code, event.field, event.message))
            continue
        rows.append(_expected_row(record, event))
        for name in unknown_values(unwrapped(data)):
            unknown[name] = unknown.get(name, 0) + 1
    return rows, faults, unknown


def _span_values(buffer, spans):
    return [None if s < 0 else buffer[s:e] for s, e in zip(spans.start.tolist(), spans.end.tolist(), strict=True)]


def rows_of(columns: RequestColumns):
    """The columns as one dict an event."""
    lists = {}
    for field in fields(columns):
        value = getattr(columns, field.name)
        if isinstance(value, Spans):
            buffer = columns.texts if field.name in ("prompt", "system_prompt") else columns.identifiers
            lists[field.name] = _span_values(buffer.tobytes(), value)
        elif field.name not in ("identifiers", "texts", "unknown_values"):
            lists[field.name] = value.tolist()
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


@settings(max_examples=200, deadline=None)
@given(_records)
@example([b'{"event_id":"e","occurred_at":1,"account_id":"a","tokens_in":5,"input_tokens":null}'])
@example([b'{"event_id":"e","occurred_at":1,"account_id":"a","max_tokens":5,"max_output_tokens":"x"}'])
@example([b'{"event_id":"e","occurred_at":1,"account_id":"a","gen_ai.usage.input_tokens":5,"client.address":"::1"}'])
@example([b'{"specversion":"1.0","data":{"event_id":"e","occurred_at":1,"account_id":"a","kind":"huh"}}'])
def test_the_fast_path_says_what_the_model_says(values):
    columns, rejects = decode_requests(chunk_of("t", 0, values))
    rows, faults, unknown = _expected(values)
    assert rows_of(columns) == rows
    assert [(r.record, r.code, r.field, r.message) for r in rejects] == faults
    assert columns.unknown_values == unknown


def test_every_field_with_every_odd_value():
    head = b'{"event_id":"e","occurred_at":1,"account_id":"a",'
    odd = [*LITERALS, *(json.dumps(text, ensure_ascii=False) for text in BOUNDARY_TEXTS)]
    raw = [*(value.encode() for value in odd), *RAW_BYTES]
    for name in NAMES:
        values = [head + f'"{name}":'.encode() + value + b"}" for value in raw]
        columns, rejects = decode_requests(chunk_of("t", 0, values))
        rows, faults, unknown = _expected(values)
        assert rows_of(columns) == rows, name
        assert [(r.record, r.code, r.field, r.message) for r in rejects] == faults, name
        assert columns.unknown_values == unknown, name


@settings(max_examples=60, deadline=None)
@given(_records, st.integers(0, 6))
def test_cutting_a_chunk_changes_nothing(values, at):
    at = min(at, len(values))
    parts = [decode_requests(chunk_of("t", 0, part)) for part in (values[:at], values[at:])]
    whole, rejects = decode_requests(chunk_of("t", 0, values))
    joined = rows_of(parts[0][0]) + [{**row, "record": row["record"] + at} for row in rows_of(parts[1][0])]
    assert rows_of(whole) == joined
    assert [(r.record, r.code, r.shape) for r in rejects] == [
        (r.record + base, r.code, r.shape) for base, (_, found) in zip((0, at), parts, strict=True) for r in found
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.none(), _broken()), max_size=5))
def test_random_bytes_never_raise_and_nothing_is_lost(values):
    chunk = chunk_of("t", 0, values)
    for decode in (decode_requests, decode_accounts):
        accepted, rejects = decode(chunk)
        assert len(accepted) + len(rejects) == len(values)


@given(st.lists(_mostly_valid, min_size=1, max_size=4))
def test_columns_have_the_stated_types(values):
    columns, _ = decode_requests(chunk_of("t", 0, values))
    stated = {"kind": np.uint8, "outcome": np.uint8, "account_tier": np.uint8, "address_family": np.uint8}
    stated |= {"address_high": np.uint64, "address_low": np.uint64, "identifiers": np.uint8, "texts": np.uint8}
    for field in fields(columns):
        value = getattr(columns, field.name)
        if isinstance(value, np.ndarray):
            assert value.dtype == stated.get(field.name, np.int64), field.name
            assert value.flags.c_contiguous
