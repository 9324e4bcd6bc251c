"""Settings: where they come from, and what a wrong one says."""

import pytest
from pydantic import SecretStr, ValidationError

from streamdetect.errors import SettingsError
from streamdetect.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("STREAMDETECT_"):
            monkeypatch.delenv(name)


def test_defaults_are_what_the_interface_says():
    settings = load_settings()
    assert settings.bootstrap_servers == "localhost:9092"
    assert settings.topic("enforcement.v1") == "streamdetect.enforcement.v1"
    assert settings.request_topics == ("streamdetect.requests.v1",)
    assert settings.mode is None
    assert settings.clock == "wall"


def test_flag_beats_variable_beats_secret_file_beats_toml(monkeypatch, tmp_path):
    config, secret = tmp_path / "s.toml", tmp_path / "secret"
    config.write_text('group_id = "toml"\nclient_id = "toml"\nchunk_records = 7\nsasl_password = "toml"\n')
    secret.write_text("from file\n")
    monkeypatch.setenv("STREAMDETECT_CONFIG", str(config))
    monkeypatch.setenv("STREAMDETECT_GROUP_ID", "variable")
    monkeypatch.setenv("STREAMDETECT_CLIENT_ID", "variable")
    monkeypatch.setenv("STREAMDETECT_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("STREAMDETECT_SASL_USERNAME", "me")
    monkeypatch.setenv("STREAMDETECT_SASL_PASSWORD_FILE", str(secret))
    settings = load_settings(client_id="flag", mode=None)
    assert (settings.client_id, settings.group_id, settings.chunk_records) == ("flag", "variable", 7)
    assert settings.sasl_password == SecretStr("from file")


def test_request_topics_are_full_names_and_follow_the_prefix(monkeypatch):
    monkeypatch.setenv("STREAMDETECT_REQUEST_TOPICS", "a.b, c")
    assert load_settings().request_topics == ("a.b", "c")
    monkeypatch.delenv("STREAMDETECT_REQUEST_TOPICS")
    monkeypatch.setenv("STREAMDETECT_TOPIC_PREFIX", "x.")
    assert load_settings().request_topics == ("x.requests.v1",)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODE", "enforce"),
        ("CLOCK", "sundial"),
        ("METRICS_PORT", "70000"),
        ("CHUNK_RECORDS", "0"),
        ("SECURITY_PROTOCOL", "TLS"),
        ("SSL_CAFILE", "/nowhere/ca.pem"),
        ("SASL_PASSWORD", "hunter2"),
        ("SASL_PASSWORD_FILE", "/nowhere/password"),
        ("TOPIC_PREFIX", "a b"),
    ],
)
def test_a_wrong_value_names_its_variable_and_not_itself(monkeypatch, variable, value):
    monkeypatch.setenv("STREAMDETECT_" + variable, value)
    with pytest.raises(SettingsError, match="STREAMDETECT_" + variable) as caught:
        load_settings()
    assert value not in str(caught.value) or value == "0"


def test_request_topics_without_a_name_are_refused(monkeypatch):
    monkeypatch.setenv("STREAMDETECT_REQUEST_TOPICS", " , ")
    with pytest.raises(SettingsError, match="STREAMDETECT_REQUEST_TOPICS: names no topic"):
        load_settings()


def test_an_unknown_key_of_the_file_is_refused_with_the_near_one(tmp_path):
    config = tmp_path / "s.toml"
    config.write_text('bootstrap_server = "x:1"\n')
    with pytest.raises(SettingsError, match=r"bootstrap_server in .*did you mean bootstrap_servers"):
        load_settings(config)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("METRIC_PORT", "METRICS_PORT"),
        ("BOOTSTRAP_SERVER", "BOOTSTRAP_SERVERS"),
        ("SASL_PASSWORD_FILES", "SASL_PASSWORD_FILE"),
        ("IMAGE_INTERVAL_MS", "IMAGE_INTERVAL_S"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_refused(monkeypatch, variable, meant):
    monkeypatch.setenv("STREAMDETECT_" + variable, "1")
    with pytest.raises(SettingsError, match=f"STREAMDETECT_{variable}: .*did you mean STREAMDETECT_{meant}"):
        load_settings()


@pytest.mark.parametrize(
    "variable",
    ["PORT", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_METRICS", "PORT_9464_TCP_ADDR", "CACHE", "REQUIRE_TIER"],
)
def test_variables_of_others_pass(monkeypatch, variable):
    monkeypatch.setenv("STREAMDETECT_" + variable, "1")
    load_settings()


def test_a_broken_or_missing_file_is_a_settings_error(tmp_path):
    (tmp_path / "s.toml").write_text("= 1")
    with pytest.raises(SettingsError, match="not TOML"):
        load_settings(tmp_path / "s.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "t.toml")


def test_sasl_needs_both_credentials(monkeypatch):
    monkeypatch.setenv("STREAMDETECT_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("STREAMDETECT_SASL_USERNAME", "me")
    with pytest.raises(SettingsError, match="STREAMDETECT_SASL_PASSWORD"):
        load_settings()


def test_settings_are_frozen_and_do_not_show_secrets():
    settings = Settings(security_protocol="SASL_SSL", sasl_username="u", sasl_password=SecretStr("hunter2"))
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.mode = "live"
