"""Rendering of broker settings, and what the sandbox reads and refuses, without starting anything."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdetect.errors import UnreachableError, UsageError
from streamdetect.sandbox.cluster import EXTERNAL_VARIABLE, start_cluster
from streamdetect.sandbox.jars import free_ports, start_jars
from streamdetect.sandbox.places import claim_run_folder
from streamdetect.sandbox.properties import NodePlace, broker_properties, render_properties
from streamdetect.sandbox.resolve import jar_folder, kafka_version, parse_java_major


def read_properties(text: str) -> dict[str, str]:
    """Read what ``render_properties`` writes by the rules of Java's ``Properties.load``."""
    settings = {}
    for line in text.splitlines():
        fields, current, at = [], bytearray(), 0
        while at < len(line):
            mark = line[at]
            if mark == "\\" and line[at + 1] == "u":
                current += bytes.fromhex(line[at + 2 : at + 6])
                at += 6
                continue
            if mark == "\\":
                at += 1
                mark = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(line[at], line[at])
            elif mark == "=" and not fields:
                fields, current, at = [current], bytearray(), at + 1
                continue
            current += mark.encode("utf-16-be")
            at += 1
        settings[fields[0].decode("utf-16-be")] = current.decode("utf-16-be")
    return settings


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.dictionaries(WORDS.filter(bool), WORDS, max_size=5))
def test_properties_survive_the_file(settings: dict[str, str]) -> None:
    written = render_properties(settings)
    assert settings == read_properties(written)
    assert set(written) <= set(string.printable)


def places(count: int) -> list[NodePlace]:
    return [NodePlace(at, 9000 + at, 9100 + at, Path(f"/data/{at}")) for at in range(1, count + 1)]


def test_one_node_is_its_own_quorum() -> None:
    (place,) = places(1)
    settings = broker_properties(place, [place], {})
    assert settings["controller.quorum.bootstrap.servers"] == "127.0.0.1:9101"
    assert "controller.quorum.voters" not in settings
    assert settings["offsets.topic.replication.factor"] == "1"


def test_three_nodes_name_each_other_and_differ_only_in_place() -> None:
    three = places(3)
    first, second = (broker_properties(place, three, {}) for place in three[:2])
    assert first["controller.quorum.voters"] == "1@127.0.0.1:9101,2@127.0.0.1:9102,3@127.0.0.1:9103"
    differing = {key for key in first if first[key] != second[key]}
    assert {"node.id", "listeners", "advertised.listeners", "log.dirs"} == differing


def test_extra_settings_win() -> None:
    (place,) = places(1)
    assert broker_properties(place, [place], {"num.partitions": "9"})["num.partitions"] == "9"


@pytest.mark.parametrize(
    ("said", "major"),
    [('openjdk version "25" 2025-09-16', 25), ('java version "1.8.0_402"', 8), ("nothing", 0)],
)
def test_java_version_is_read(said: str, major: int) -> None:
    assert major == parse_java_major(said)


def test_cache_folder_names_the_version(tmp_path: Path) -> None:
    assert jar_folder(tmp_path).name.startswith(f"kafka-{kafka_version()}-")


def test_free_ports_differ() -> None:
    assert len(set(free_ports(6))) == 6


def test_unknown_tier_and_size_are_refused() -> None:
    with pytest.raises(UsageError, match="external, jars, mock"):
        start_cluster(tier="zookeeper")
    with pytest.raises(ValueError, match="1 or 3"):
        start_jars(nodes=2)


def test_external_tier_without_an_address_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EXTERNAL_VARIABLE, raising=False)
    with pytest.raises(UnreachableError, match=EXTERNAL_VARIABLE):
        start_cluster(tier="external")


def test_folder_in_use_is_left_alone_and_an_abandoned_one_is_removed(tmp_path: Path) -> None:
    used = claim_run_folder(tmp_path)
    abandoned = tmp_path / "run" / "kafka-abandoned"
    abandoned.mkdir()
    (abandoned / "owner.lock").touch()
    # Our own process id: alive, but its command line does not name the folder, so it must survive.
    (abandoned / "node-1.pid").write_text(str(os.getpid()))
    other = claim_run_folder(tmp_path)
    assert used.path.is_dir()
    assert not abandoned.exists()
    used.remove()
    other.remove()
    assert list((tmp_path / "run").iterdir()) == []
