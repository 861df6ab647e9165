"""One Apache Kafka broker in KRaft mode, on free ports, with its data in a folder of its own."""

from __future__ import annotations

import base64
import fcntl
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import attrs
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.kafka.distribution import jars

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    # a test waits for no broker's patience: groups form at once, and a dead member is missed after a second
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "2000",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.heartbeat.interval.ms": "300",
    # one that was killed may come back as soon as the controller, which is itself, has missed it
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
}
JAVA = [
    "java",
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # half the start-up: a test broker does not live long enough for more
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
]


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


@attrs.define
class KafkaBroker:
    """A broker that can be killed and started again over the same data and under the same address."""

    folder: Path
    port: int
    libs: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"kafka://{self.bootstrap}"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    @classmethod
    def make(cls, folder: Path, properties: Mapping[str, str] | None = None) -> KafkaBroker:
        """Format the storage in ``folder``; nothing runs yet."""
        port, controller = free_ports(2)
        listeners = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"
        settings = {
            **PROPERTIES,
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "log.dirs": str(folder / "data"),
            **(properties or {}),
        }
        folder.joinpath("server.properties").write_text(
            "".join(f"{key}={value}\n" for key, value in settings.items())
        )
        broker = cls(folder, port, jars())
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        format_ = broker._java(
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            f"--cluster-id={identity}",
            "-c",
            "server.properties",
        )
        done = subprocess.run(format_, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(
                f"Kafka's storage could not be formatted:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return broker

    def _java(self, main: str, *arguments: str) -> list[str]:
        return [*JAVA, "-cp", f"{self.libs}/*", main, *arguments]

    def start(self, *, wait: bool = True) -> None:
        """Run it; returns when it answers, or at once."""
        # dies with pytest, also when that is killed. The signal comes when the *thread* that started it ends, so only from this one
        tied = shutil.which("setpriv") and threading.current_thread() is threading.main_thread()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(("setpriv", "--pdeathsig", "KILL") if tied else ()),
                    *self._java("kafka.Kafka", "server.properties"),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for pytest, which then stops it
            )
        if wait:
            self.wait_up()

    def wait_up(self, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        admin = self.admin()
        while time.monotonic() < deadline and (self.process is None or self.process.poll() is None):
            try:
                if admin.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                time.sleep(0.05)
        raise RuntimeError(
            f"Kafka did not come up; its log ends:\n{self.log.read_text(errors='replace')[-3000:]}"
        )

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """At once: no test wants what a graceful end would do, and its data goes anyway."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def admin(self) -> AdminClient:
        """Keep it until what was asked of it is answered: its end takes the questions with it."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def make_topic(self, name: str | None = None, partitions: int = 4, **config: str) -> str:
        """A topic that takes records when this returns; underscores in the names of its settings stand for dots."""
        name = name or "t" + secrets.token_hex(5)
        admin = self.admin()
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(20)
        places = [TopicPartition(name, number) for number in range(partitions)]
        deadline = time.monotonic() + 20
        while True:
            try:
                for future in admin.list_offsets({place: OffsetSpec.latest() for place in places}).values():
                    future.result(5)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return name

    def count(self, topic: str) -> int:
        """How many records the topic holds."""
        admin = self.admin()
        partitions = admin.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in partitions]
        held = 0
        for spec, sign in ((OffsetSpec.latest(), 1), (OffsetSpec.earliest(), -1)):
            futures = admin.list_offsets(dict.fromkeys(places, spec)).values()
            held += sign * sum(future.result(10).offset for future in futures)
        return held


def data_folder() -> str | None:
    """Where brokers keep their data: in memory where that is possible, for a broker on a slow disk is what a test would wait for."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextmanager
def running_broker(**properties: str) -> Iterator[KafkaBroker]:
    """A broker of the caller's own; underscores in the names of properties stand for dots."""
    with tempfile.TemporaryDirectory(prefix="flowq-kafka-", dir=data_folder()) as folder:
        broker = KafkaBroker.make(
            Path(folder), {key.replace("_", "."): value for key, value in properties.items()}
        )
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


@contextmanager
def shared_broker(folder: Path) -> Iterator[KafkaBroker]:
    """One broker for all processes of a test run that name the same folder: the first to come runs it, and waits for the others' end."""
    folder.mkdir(exist_ok=True)
    address = folder / "port"
    with (folder / "guard").open("w") as guard, (folder / "users").open("w") as users:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if address.exists():
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(guard, fcntl.LOCK_UN)
            yield KafkaBroker(folder, int(address.read_text()), jars())
            return
        with running_broker() as broker:
            address.write_text(str(broker.port))
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(guard, fcntl.LOCK_UN)
            try:
                yield broker
            finally:
                while not _last(guard, users):
                    time.sleep(0.1)
                address.unlink()


def _last(guard: IO[str], users: IO[str]) -> bool:
    """Whether nobody else uses the broker; then with the guard held, so that nobody comes any more."""
    fcntl.flock(guard, fcntl.LOCK_EX)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(guard, fcntl.LOCK_UN)
        return False
    return True
