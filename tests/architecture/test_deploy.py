"""Deployment files say what is there: topics, settings, metrics and commands by their real names."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from streamdetect.cli import app
from streamdetect.kafka.plan import plan
from streamdetect.sandbox.resolve import kafka_version
from streamdetect.settings import CONFIG_VARIABLE, ENV_PREFIX, FILE_SUFFIX, SECRETS, Settings
from streamdetect.telemetry.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
# Read by the command line itself or by the test suite and the sandbox, not fields of the settings.
OTHER_VARIABLES = {CONFIG_VARIABLE, "STREAMDETECT_TEST_BROKER", "STREAMDETECT_REQUIRE_TIER", "STREAMDETECT_CACHE"}
OTHER_VARIABLES |= {"STREAMDETECT_TEST_DATA"}
VARIABLES = (
    {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    | {ENV_PREFIX + name.upper() + FILE_SUFFIX for name in SECRETS}
    | OTHER_VARIABLES
)
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for pattern in ("*.md", "*.yml", "docs/**/*.md", "deploy/**/*")
    for path in ROOT.glob(pattern)
    if path.is_file()
}


def _schema():
    """Give the compose schema that comes with check-jsonschema, whose own command needs a newer click than Faust's."""
    found = importlib.util.find_spec("check_jsonschema")
    assert found is not None
    assert found.origin is not None
    return json.loads((Path(found.origin).parent / "builtin_schemas/vendor/compose-spec.json").read_text())


def test_the_compose_file_is_one():
    assert [error.message for error in jsonschema.Draft202012Validator(_schema()).iter_errors(COMPOSE)] == []


def test_the_schema_would_notice_a_misspelt_key():
    wrong = {"services": {"kafka": {"image": "apache/kafka:4.3.1", "healthchek": {}}}}
    assert list(jsonschema.Draft202012Validator(_schema()).iter_errors(wrong))


def test_every_image_has_a_version():
    images = [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert images
    assert [image for image in images if not re.search(r":v?\d", image)] == []


def test_the_stack_runs_the_kafka_the_tests_run():
    assert f"apache/kafka:{kafka_version()}" == COMPOSE["services"]["kafka"]["image"]


def test_services_wait_for_services_that_exist_and_volumes_are_declared():
    services = COMPOSE["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert other in services, name
            assert wait["condition"] != "service_healthy" or "healthcheck" in services[other], (name, other)
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith(".")}
        assert named <= set(COMPOSE["volumes"]), name


def test_services_reach_the_broker_where_it_listens():
    advertised = COMPOSE["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for name, service in COMPOSE["services"].items():
        address = service.get("environment", {}).get("STREAMDETECT_BOOTSTRAP_SERVERS")
        assert address is None or f"://{address}" in advertised, name


def test_settings_given_to_services_are_valid():
    for service in COMPOSE["services"].values():
        given = {
            name.removeprefix(ENV_PREFIX).lower(): re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)
            for name, value in service.get("environment", {}).items()
            if name.startswith(ENV_PREFIX)
        }
        Settings(**given)


def test_services_run_commands_that_exist():
    commands = {name for name in app if not name.startswith("-")}
    for name, service in COMPOSE["services"].items():
        if "build" not in service:
            continue
        words = shlex.split(" ".join(service["command"]))
        called = [words[at + 1] for at, word in enumerate(words) if word == "streamdetect"] or words[:1]
        assert set(called) <= commands, name


@pytest.mark.parametrize("place", sorted(TEXTS))
def test_every_variable_named_is_one_that_is_read(place):
    named = set(re.findall(r"\bSTREAMDETECT_[A-Z_]*[A-Z]\b(?!\*|_\*)", TEXTS[place]))
    assert named - VARIABLES == set()


@pytest.mark.parametrize("place", sorted(TEXTS))
def test_every_topic_named_is_in_the_plan(place):
    known = {spec.name.removeprefix("streamdetect.") for spec in plan(Settings())}
    named = set(re.findall(r"(?<![\w-])[a-z]+(?:-[a-z]+)*\.v1(?![\w.])", TEXTS[place]))
    assert named - known == set()


@pytest.mark.parametrize("place", sorted(TEXTS))
def test_every_metric_named_is_in_the_catalogue(place):
    known = {spec.full_name + suffix for spec in CATALOGUE for suffix in _suffixes(spec.kind)}
    named = set(re.findall(r"\bstreamdetect_\w+", TEXTS[place]))
    assert named - known == set()


def _suffixes(kind):
    return ("", "_bucket", "_sum", "_count") if kind == "histogram" else ("",)


def test_prometheus_scrapes_the_worker_at_its_port():
    (job,) = PROMETHEUS["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert all(name in COMPOSE["services"] for name in discovery["names"])
    assert Settings.model_fields["metrics_port"].default == discovery["port"]
    assert f"EXPOSE {discovery['port']}" in DOCKERFILE
    assert COMPOSE["services"]["worker"]["environment"]["STREAMDETECT_METRICS_HOST"] == "0.0.0.0"
    assert all((ROOT / "deploy/prometheus" / name).is_file() for name in PROMETHEUS["rule_files"])


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_a_metric_and_a_runbook(alert):
    assert re.search(r"\bstreamdetect_\w+|\bup\{", alert["expr"])
    assert {"for", "labels", "annotations"} <= alert.keys()
    place, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor in _anchors((ROOT / place).read_text())


def test_labels_in_alerts_are_those_of_their_metrics():
    labels = {spec.full_name: set(spec.labels) for spec in CATALOGUE}
    used = [pair for alert in ALERTS for pair in re.findall(r"(streamdetect_\w+)\{(\w+)", alert["expr"])]
    assert used
    assert [(name, label) for name, label in used if label not in labels[name]] == []


def _anchors(text):
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("place", sorted(name for name in TEXTS if name.endswith(".md")))
def test_links_lead_somewhere(place):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[place]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / place).parent / path if path else ROOT / place
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file.read_text()), target


def test_the_image_needs_nothing_it_is_not_given():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    sources = {source for line in copied for source in line.split()}
    assert sources
    assert sources <= allowed
    assert all((ROOT / source).exists() for source in sources)


def test_commands_of_the_runbooks_are_commands():
    quoted = re.findall(r"`(streamdetect [^`]+)`", " ".join(TEXTS["docs/runbooks.md"].split()))
    assert any(command.startswith("streamdetect kill on --reason") for command in quoted)
    for command in quoted:
        words = shlex.split(command)[1:]
        if any(word.startswith("-") for word in words):
            _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
            assert bound.arguments, command
        else:
            assert app[words[0]] if len(words) == 1 else app[words[0]][words[1]], command
