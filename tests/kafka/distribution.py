"""Apache Kafka's jars, fetched once by their Maven coordinates into a cache: nothing is installed, nothing is committed.

``FLOWQ_KAFKA_VERSION=3.9.1`` takes another version than the pinned one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = os.environ.get("FLOWQ_KAFKA_VERSION", "4.3.1")

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.flowq</groupId>
  <artifactId>broker-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
"""Pinned, as everything that is fetched."""


def why_not() -> str | None:
    """Why no broker can be run here, or None."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} on PATH: Apache Kafka cannot be run here" if missing else None


def jars(version: str = VERSION) -> Path:
    """The folder of the jars of that version; fetched if it is not there yet, by one process at a time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "flowq" / "kafka"
    target = cache / version
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _fetch(version, target)
    return target


def _fetch(version: str, target: Path) -> None:
    """Into a folder beside it that is renamed when it is whole: an interrupted fetch leaves nothing that looks like a distribution."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        Path(folder, "pom.xml").write_text(POM.format(version=version))
        options = [f"-DoutputDirectory={folder}/libs", "-DincludeScope=runtime"]
        done = subprocess.run(
            ["mvn", "-B", "-q", COPY, *options],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"mvn could not fetch Apache Kafka {version}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        Path(folder, "libs").rename(target)


if __name__ == "__main__":
    if reason := why_not():
        raise SystemExit(reason)
    sys.stdout.write(f"Apache Kafka {VERSION}: {jars()}\n")
