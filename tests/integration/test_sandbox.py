"""The sandbox's promises: a broker that works, survives kill -9, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamdetect.errors import UnreachableError, UsageError
from streamdetect.sandbox.cluster import Cluster, Tier, start_cluster
from streamdetect.sandbox.jars import start_jars
from streamdetect.sandbox.mock import start_mock
from streamdetect.sandbox.resolve import missing_for_jars

LIMIT_S = 30.0


async def produce(servers: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", request_timeout_ms=15_000)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def consume(servers: str, topic: str, count: int) -> set[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, auto_offset_reset="earliest", consumer_timeout_ms=int(LIMIT_S * 1000)
    )
    await consumer.start()
    try:
        seen: set[bytes] = set()
        deadline = time.monotonic() + LIMIT_S
        while len(seen) < count and time.monotonic() < deadline:
            batches = await consumer.getmany(timeout_ms=500)
            seen |= {record.value for records in batches.values() for record in records}
        return seen
    finally:
        await consumer.stop()


def gone(pid: int, limit_s: float = 20.0) -> bool:
    """Wait until no process has this id (a zombie of an unreaping init counts as gone)."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


async def test_records_come_back(broker: Cluster, topic_prefix: str) -> None:
    topic = topic_prefix + "records"
    broker.create_topics([topic])
    values = [b"%d" % number for number in range(20)]
    await produce(broker.bootstrap_servers, topic, values)
    assert set(values) == await consume(broker.bootstrap_servers, topic, len(values))


async def test_creating_a_topic_twice_changes_nothing(broker: Cluster, topic_prefix: str) -> None:
    topic = topic_prefix + "twice"
    broker.create_topics([topic])
    await produce(broker.bootstrap_servers, topic, [b"kept"])
    broker.create_topics([topic])
    assert {b"kept"} == await consume(broker.bootstrap_servers, topic, 1)


@pytest.mark.needs("admin")
async def test_admin_client_creates_a_compacted_topic(broker: Cluster, topic_prefix: str) -> None:
    topic = topic_prefix + "table"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        made = NewTopic(topic, num_partitions=7, replication_factor=1, topic_configs={"cleanup.policy": "compact"})
        await admin.create_topics([made])
        (description,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    assert len(description["partitions"]) == 7


@pytest.mark.needs("admin")
async def test_a_message_of_12_mb_passes(broker: Cluster, topic_prefix: str) -> None:
    topic, size = topic_prefix + "large", 12 * 1024 * 1024
    broker.create_topics([topic], partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, max_request_size=size + 1024)
    await producer.start()
    try:
        record = await producer.send_and_wait(topic, bytes(size))
    finally:
        await producer.stop()
    assert record.offset == 0


@pytest.mark.needs("multibroker")
async def test_killed_node_comes_back_with_its_data(topic_prefix: str) -> None:
    topic, values = topic_prefix + "durable", [b"a", b"b", b"c"]
    with start_cluster(tier=Tier.JARS, properties={"log.flush.interval.messages": "1"}) as cluster:
        (node,) = cluster.nodes
        cluster.create_topics([topic])
        await produce(cluster.bootstrap_servers, topic, values)
        before = node.pid
        node.kill()
        assert not node.alive
        node.restart()
        assert before != node.pid
        assert set(values) == await consume(cluster.bootstrap_servers, topic, len(values))


@pytest.mark.needs("multibroker")
async def test_three_nodes_take_writes_while_one_is_dead() -> None:
    with start_cluster(tier=Tier.JARS, nodes=3) as cluster:
        cluster.create_topics(["spread"], partitions=3)
        cluster.nodes[0].kill()
        await produce(cluster.bootstrap_servers, "spread", [b"x", b"y"])
        cluster.nodes[0].restart()
        assert {b"x", b"y"} == await consume(cluster.nodes[0].address, "spread", 2)
        pids = [node.pid for node in cluster.nodes]
    assert all(gone(pid) for pid in pids if pid is not None)


@pytest.mark.needs("multibroker")
def test_paused_node_ends_on_close_and_leaves_no_files(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    cluster = start_jars(root=_warm_cache(tmp_path))
    (node,) = cluster.nodes
    node.pause()
    assert node.alive
    cluster.close()
    assert gone(node.pid or 0)
    assert list((tmp_path / "cache" / "run").iterdir()) == []


@pytest.mark.needs("multibroker")
def test_wrong_setting_fails_at_once_and_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"num\.io\.threads"):
        start_jars(properties={"num.io.threads": "none"}, root=_warm_cache(tmp_path))
    assert list((tmp_path / "cache" / "run").iterdir()) == []


def _warm_cache(tmp_path: Path) -> Path:
    """Return a cache folder of the test's own that shares the jars already fetched."""
    from streamdetect.sandbox.places import cache_root
    from streamdetect.sandbox.resolve import jar_folder

    own = tmp_path / "cache"
    own.mkdir(exist_ok=True)
    jar_folder(own).symlink_to(jar_folder(cache_root()))
    return own


HOLDER = """
import sys, time
from streamdetect.sandbox.{module} import start_{tier}
cluster = start_{tier}()
print(*[node.pid for node in getattr(cluster, "nodes", ())] or [cluster.pid], flush=True)
time.sleep(600)
"""


def _kill_holder(tier: str, cache: Path) -> list[int]:
    """Let another process hold a cluster, end it with SIGKILL, and return the cluster's processes."""
    environment = {**os.environ, "STREAMDETECT_CACHE": str(cache)}
    code = HOLDER.format(module=tier, tier=tier)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True) as holder:
        assert holder.stdout is not None
        pids = [int(word) for word in holder.stdout.readline().split()]
        holder.kill()
    return pids


def test_no_mock_outlives_its_killed_parent(tmp_path: Path) -> None:
    (pid,) = _kill_holder("mock", tmp_path / "cache")
    assert gone(pid)


@pytest.mark.needs("multibroker")
def test_no_broker_outlives_its_killed_parent_and_the_next_run_removes_its_files(tmp_path: Path) -> None:
    cache = _warm_cache(tmp_path)
    (pid,) = _kill_holder("jars", cache)
    assert gone(pid)
    (left,) = (cache / "run").iterdir()
    with start_cluster(tier=Tier.MOCK, root=cache):
        assert not left.exists()


async def test_mock_tier_carries_records(topic_prefix: str) -> None:
    topic = topic_prefix + "mock"
    with start_cluster(tier="mock") as cluster:
        cluster.create_topics([topic])
        await produce(cluster.bootstrap_servers, topic, [b"one", b"two"])
        assert {b"one", b"two"} == await consume(cluster.bootstrap_servers, topic, 2)
        with pytest.raises(UsageError, match="4 partitions"):
            cluster.create_topics(["other"], partitions=8)


@pytest.mark.parametrize("tier", ["mock", "jars"])
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_foreground_command_prints_its_address_and_ends_cleanly(
    tier: str, ending: signal.Signals, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    if tier == "jars":
        cache = _warm_cache(tmp_path)
        if missing := missing_for_jars(cache):
            pytest.skip("; ".join(missing))
    command = [sys.executable, "-m", "streamdetect.sandbox", "--tier", tier]
    environment = {**os.environ, "STREAMDETECT_CACHE": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        process.send_signal(ending)
        assert process.wait(30) == 0
    assert address.startswith("127.0.0.1:")
    assert list((cache / "run").iterdir()) == []


def test_required_tier_that_is_missing_fails_the_run(tmp_path: Path) -> None:
    target = f"{__file__}::test_records_come_back"
    environment = {**os.environ, "STREAMDETECT_REQUIRE_TIER": "jars", "STREAMDETECT_CACHE": str(tmp_path)}
    environment |= {"PATH": str(tmp_path), "STREAMDETECT_TEST_BROKER": ""}
    environment.pop("JAVA_HOME", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "broker tier: none" in done.stdout
    assert "Maven (mvn)" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tie a child to its parent")
def test_child_ends_with_a_killed_supervisor(tmp_path: Path) -> None:
    cluster = start_mock(root=tmp_path)
    status = Path(f"/proc/{cluster.pid}/status").read_text()
    supervisor = int(status.split("PPid:")[1].split()[0])
    os.kill(supervisor, signal.SIGKILL)
    assert gone(cluster.pid)
    cluster.close()
