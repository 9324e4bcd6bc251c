"""Metrics, logs and the little server."""

import io
import json
import logging
import socket
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdetect.errors import BadDataError, SettingsError
from streamdetect.telemetry.catalogue import CATALOGUE, PREFIX, Metrics
from streamdetect.telemetry.logs import MASK, REDACTED, configure_logs, log, redact
from streamdetect.telemetry.server import TelemetryServer

CANARY = "canary-4711"
LABELS_ALLOWED = {
    *("topic", "partition", "stage", "scope", "code", "kind", "what", "action", "status", "simulated"),
    *("by", "queue", "version"),
}

plain = st.none() | st.booleans() | st.integers() | st.text(max_size=10)
nested = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@pytest.fixture
def lines():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("debug", stream=stream, json=True)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


@given(st.sampled_from(sorted(REDACTED)), st.lists(st.text(max_size=5), max_size=5), nested)
def test_a_sensitive_key_is_masked_at_any_depth(key, path, beside):
    event = {key.upper(): CANARY, "beside": beside}
    for step in path:
        event = {step: event, "also": [{key: CANARY}]}
    assert CANARY not in json.dumps(redact(None, "info", event))


def test_bytes_are_never_logged():
    assert redact(None, "info", {"event": "e", "origin": [b"x", bytearray(b"y")]})["origin"] == [MASK, MASK]


def test_a_line_is_json_with_level_time_and_fields(lines):
    log("streamdetect.test").info("topics checked", created=3, prompt=CANARY)
    (line,) = lines()
    assert (line["event"], line["level"], line["created"], line["prompt"]) == ("topics checked", "info", 3, MASK)
    assert line["logger"] == "streamdetect.test"
    assert line["timestamp"].endswith("Z")


def test_messages_of_foreign_exceptions_are_not_logged_ours_are(lines):
    for error in (ValueError(CANARY), BadDataError("line 3 has no account_id")):
        try:
            raise error
        except (ValueError, BadDataError):
            log("t").exception("failed")
    foreign, ours = lines()
    assert CANARY not in json.dumps(foreign)
    assert foreign["failure"]["type"] == "ValueError"
    assert ours["failure"]["message"] == "line 3 has no account_id"


def test_record_bytes_of_client_libraries_stay_out(lines):
    logging.getLogger("aiokafka.producer.producer").debug("Sending (key=%s value=%s)", b"k", CANARY)
    logging.getLogger("aiokafka.client").warning("no broker")
    assert [line["event"] for line in lines()] == ["no broker"]


def test_names_and_labels_keep_the_rules():
    names = [spec.name for spec in CATALOGUE]
    assert len(names) == len(set(names))
    for spec in CATALOGUE:
        assert set(spec.labels) <= LABELS_ALLOWED, spec.name
        assert spec.full_name.startswith(PREFIX)
        assert spec.full_name.endswith("_total") == (spec.kind == "counter")
        assert not spec.name.endswith(("_ms", "_kb", "_total"))
        assert spec.meaning
        assert spec.action


def test_every_metric_of_the_catalogue_is_on_the_page():
    page = Metrics().page().decode()
    for spec in CATALOGUE:
        # The text format names a counter family without the suffix of its samples in HELP lines of newer versions.
        assert f"# TYPE {spec.full_name} {spec.kind}" in page, spec.name


def test_two_metrics_do_not_meet():
    one, two = Metrics(), Metrics()
    one.counter("late").inc(5)
    assert b"streamdetect_late_total 5.0" in one.page()
    assert b"streamdetect_late_total 0.0" in two.page()


def test_the_wrong_kind_or_name_fails_at_once():
    with pytest.raises(AssertionError, match="late is not a Gauge"):
        Metrics().gauge("late")
    with pytest.raises(KeyError):
        Metrics().counter("misspelt")


def _get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_server_answers_its_three_paths():
    ready = [False]
    with TelemetryServer(Metrics(), ready=lambda: ready[0], port=0) as server:
        assert _get(server.url + "/live")[0] == 200
        assert _get(server.url + "/ready")[0] == 503
        ready[0] = True
        assert _get(server.url + "/ready")[0] == 200
        assert b"streamdetect_build_info" in _get(server.url + "/metrics?x=1")[1]
        assert _get(server.url + "/table")[0] == 404


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with TelemetryServer(Metrics(), ready=lambda: True, port=port) as server:
            assert server.port != port
            assert _get(server.url + "/live")[0] == 200


def test_a_foreign_address_is_a_settings_error():
    with pytest.raises(SettingsError, match="METRICS_HOST"):
        TelemetryServer(Metrics(), ready=lambda: True, host="203.0.113.1", port=0)
