"""The plan of topics, what is wrong with topics, and the plan as text."""

import pytest
import yaml
from pydantic import SecretStr

from streamdetect.errors import SettingsError
from streamdetect.kafka import plan as names
from streamdetect.kafka.plan import TopicSeen, creation_config, full_name, plan, problems
from streamdetect.kafka.render import as_acls, as_strimzi, as_text
from streamdetect.kafka.security import aiokafka_options, confluent_config
from streamdetect.settings import Settings

ALL_NAMES = [value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)]


def seen_as_planned(settings):
    return {spec.name: TopicSeen(spec.partitions, spec.cleanup) for spec in plan(settings)}


def test_the_plan_holds_every_named_topic_once():
    settings = Settings(topic_prefix="x.", group_id="g")
    assert sorted(spec.name for spec in plan(settings)) == sorted(full_name(name, settings) for name in ALL_NAMES)
    assert full_name(names.CHANGELOG, settings) == "g-state-changelog"


def test_equal_partitions_are_demanded_of_what_moves_together():
    equal = {spec.name for spec in plan(Settings()) if spec.equal}
    together = (names.REQUESTS, names.ACCOUNTS, names.LINKS, names.EVIDENCE, names.CHANGELOG)
    assert equal == {full_name(name, Settings()) for name in together}


def test_request_topics_of_other_names_are_checked_and_not_ours():
    settings = Settings(request_topics=("llm.events", "other"))
    specs = [spec for spec in plan(settings) if not spec.ours]
    assert [spec.name for spec in specs] == ["llm.events", "other"]
    seen = seen_as_planned(settings) | {"llm.events": TopicSeen(4, "compact,delete")}
    assert problems(plan(settings), seen) == []


def test_topics_as_planned_have_no_problem():
    assert problems(plan(Settings()), seen_as_planned(Settings())) == []


def test_each_problem_is_named():
    seen = seen_as_planned(Settings())
    del seen["streamdetect.overrides.v1"]
    seen["streamdetect.accounts.v1"] = TopicSeen(3, "compact")
    seen["streamdetect.enforcement.v1"] = TopicSeen(1, "compact,delete")
    missing, unequal, cleanup = problems(plan(Settings()), seen)
    assert missing == "topic streamdetect.overrides.v1 is missing"
    assert "streamdetect.requests.v1 has 4" in unequal
    assert "streamdetect.accounts.v1 has 3" in unequal
    assert cleanup == "topic streamdetect.enforcement.v1 must have cleanup.policy=compact, not compact,delete"


def test_an_unreadable_policy_is_no_problem():
    seen = {name: TopicSeen(topic.partitions) for name, topic in seen_as_planned(Settings()).items()}
    assert problems(plan(Settings()), seen) == []


@pytest.mark.parametrize(("replication", "insync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_one_copy_may_always_be_missing(replication, insync):
    assert creation_config(plan(Settings())[0], replication)["min.insync.replicas"] == insync


def test_strimzi_resources_are_yaml_with_everything_needed_to_create():
    resources = list(yaml.safe_load_all(as_strimzi(plan(Settings()), 3)))
    assert {found["spec"]["topicName"] for found in resources} == {spec.name for spec in plan(Settings())}
    for found in resources:
        assert found["apiVersion"] == "kafka.strimzi.io/v1"
        assert found["spec"]["replicas"] == 3
        assert all(isinstance(value, str) for value in found["spec"]["config"].values())


def test_acls_let_gateways_read_enforcement_and_write_nothing_but_requests_and_feedback():
    lines = as_acls(plan(Settings()), Settings()).splitlines()
    gateway = [line for line in lines if "User:streamdetect-gateway" in line]
    written = {line.split("--topic ")[1] for line in gateway if "Write" in line}
    assert written == {"streamdetect.requests.v1", "streamdetect.feedback.v1"}
    assert any("Read" in line and "enforcement.v1" in line for line in gateway)
    assert "--group streamdetect" in lines[-1]


def test_text_names_every_topic():
    assert all(spec.name in as_text(plan(Settings())) for spec in plan(Settings()))


def test_client_options_carry_the_credentials_in_both_dialects():
    settings = Settings(security_protocol="SASL_SSL", sasl_username="u", sasl_password=SecretStr("p"))
    options = aiokafka_options(settings)
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")
    assert options["ssl_context"].check_hostname
    config = confluent_config(settings)
    assert (config["sasl.username"], config["sasl.password"]) == ("u", "p")
    assert config["security.protocol"] == "SASL_SSL"


def test_a_certificate_that_is_none_is_a_settings_error(tmp_path):
    (tmp_path / "ca.pem").write_text("nonsense")
    settings = Settings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match="STREAMDETECT_SSL"):
        aiokafka_options(settings)
