"""Every command that talks to a broker, over TLS and SASL, on a real one with listeners of each kind.

The broker takes plain connections too, by which the test itself sends and reads. Certificates are made by the openssl
command, for this run alone.
"""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from live import World, decisions, world

from streamdetect.sandbox.cluster import Tier, start_cluster
from streamdetect.sandbox.jars import free_ports

pytestmark = [
    pytest.mark.needs("multibroker"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command"),
]

USER, SECRET, KEY_SECRET = "detector", "correct horse", "battery staple"
POLICY = """
id = "security"
version = 1
mode = "live"
round_ms = 10_000
[[rules]]
id = "three"
when = "requests_1m >= 3"
action = "rate_limit"
params = { unit = "requests", limit = 60, period = "minute" }
ttl = "1h"
reason_code = "rate_exceeded"
"""


@dataclass(frozen=True)
class Secured:
    """A broker's addresses by kind of listener, and the folder with what a client needs."""

    plain: str
    sasl_tls: str
    sasl: str
    tls: str
    folder: Path

    def settings(self, kind: str) -> dict[str, str]:
        """Settings of a client of one kind, secrets in files where they can be."""
        ca = {"SSL_CAFILE": str(self.folder / "ca.pem")}
        if kind == "TLS with a certificate":
            pair = {"SSL_CERTFILE": str(self.folder / "client.pem"), "SSL_KEYFILE": str(self.folder / "client.key")}
            secret = {"SSL_KEY_PASSWORD_FILE": str(self.folder / "key-secret")}
            return {"BOOTSTRAP_SERVERS": self.tls, "SECURITY_PROTOCOL": "SSL", **ca, **pair, **secret}
        protocol, _, mechanism = kind.partition(" ")
        user = {"SASL_USERNAME": USER, "SASL_PASSWORD_FILE": str(self.folder / "secret"), "SASL_MECHANISM": mechanism}
        if protocol == "SASL_PLAINTEXT":
            return {"BOOTSTRAP_SERVERS": self.sasl, "SECURITY_PROTOCOL": protocol, **user}
        return {"BOOTSTRAP_SERVERS": self.sasl_tls, "SECURITY_PROTOCOL": protocol, **user, **ca}


KINDS = ("SASL_SSL SCRAM-SHA-512", "SASL_SSL PLAIN", "SASL_PLAINTEXT SCRAM-SHA-256", "TLS with a certificate")


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> None:
    """An authority, and certificates of it for the broker and for a client, whose key has a password."""
    folder.mkdir()
    names = ("-subj", "/CN=localhost", "-days", "2")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl(folder, "req", "-x509", *curve, "-nodes", "-keyout", "ca.key", "-out", "ca.pem", *names)
    (folder / "names.cnf").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, protection in (("broker", ("-nodes",)), ("client", ("-passout", f"pass:{KEY_SECRET}"))):
        openssl(folder, "req", *curve, *protection, "-keyout", f"{name}.key", "-out", f"{name}.csr", *names[:2])
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names.cnf", "-days", "2")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    (folder / "store.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())
    openssl(folder, "req", "-x509", *curve, "-nodes", "-keyout", "other.key", "-out", "other.pem", *names)
    (folder / "secret").write_text(SECRET + "\n")
    (folder / "key-secret").write_text(KEY_SECRET + "\n")


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("security") / "tls"
    certificates(folder)
    ports = dict(zip(("PLAINTEXT", "BOTH", "SASL", "TLS", "CONTROLLER"), free_ports(5), strict=True))
    places = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    listeners = [f"{name}://{address}" for name, address in places.items()]
    login = "org.apache.kafka.common.security"
    logins = {
        "plain.sasl.jaas.config": f'{login}.plain.PlainLoginModule required user_{USER}="{SECRET}";',
        "scram-sha-256.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
        "scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
    }
    properties = {
        "listeners": ",".join(listeners),
        "advertised.listeners": ",".join(listeners[:-1]),
        "controller.quorum.bootstrap.servers": places["CONTROLLER"],
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BOTH:SASL_SSL,SASL:SASL_PLAINTEXT,TLS:SSL"
        ),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "store.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.tls.ssl.client.auth": "required",
        **{f"listener.name.{name}.{key}": value for name in ("both", "sasl") for key, value in logins.items()},
    }
    with start_cluster(tier=Tier.JARS, properties=properties, port=ports["PLAINTEXT"]) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            user = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), SECRET.encode())
            for made in admin.alter_user_scram_credentials([user]).values():
                made.result(30)
        yield Secured(places["PLAINTEXT"], places["BOTH"], places["SASL"], places["TLS"], folder)


@pytest.mark.parametrize("kind", KINDS)
def test_topics_worker_and_produce_work_over_it(secured, kind, tmp_path):
    (tmp_path / "policy.toml").write_text(POLICY)
    now = time.time_ns() // 1_000_000
    events = [{"event_id": f"e{n}", "account_id": "a", "occurred_at": now} for n in range(3)]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(map(orjson.dumps, events)))
    made = World(secured.plain, tmp_path, secured.settings(kind))
    try:
        for words in (("topics",), ("produce", "events.jsonl")):
            done = made.run(*words)
            assert done.returncode == 0, done.stderr
        worker = made.start("--policy", "policy.toml")
        made.settled(worker)
        assert [decision["subject"]["value"] for decision in decisions(made, "enforcement.v1")] == ["a"]
        assert SECRET not in worker.log
        assert worker.stop() == 0, worker.log
    finally:
        made.close()


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        ("SASL_SSL SCRAM-SHA-512", {"SASL_PASSWORD_FILE": "wrong"}, "Authentication failed"),
        ("SASL_SSL PLAIN", {"SASL_PASSWORD_FILE": "wrong"}, "Authentication failed"),
        ("SASL_SSL PLAIN", {"SSL_CAFILE": "other.pem"}, "CERTIFICATE_VERIFY_FAILED"),
        ("TLS with a certificate", {"SSL_KEY_PASSWORD_FILE": "wrong"}, "STREAMDETECT_SSL_*: the certificates cannot"),
        (
            "TLS with a certificate",
            {"SSL_CERTFILE": "", "SSL_KEYFILE": "", "SSL_KEY_PASSWORD_FILE": ""},
            "STREAMDETECT_SSL_*",
        ),
    ],
)
def test_what_does_not_fit_is_told_and_no_secret_is(secured, kind, wrong, says, tmp_path):
    (secured.folder / "wrong").write_text("wrong secret")
    changes = {name: str(secured.folder / value) if value else "" for name, value in wrong.items()}
    with world(secured.plain, tmp_path) as made:
        done = made.run("worker", **(secured.settings(kind) | changes))
    assert done.returncode in (2, 4), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert says in line
    assert not any(secret in done.stderr for secret in (SECRET, KEY_SECRET, "wrong secret"))
