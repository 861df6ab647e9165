"""What is run on flowq, by name: ``nox -s NAME``. Plain ``nox`` runs what a change must pass: lint, types, tests, docs."""

from __future__ import annotations

from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
"""From the classifiers: the one place that says which Pythons are supported."""

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


def install(session: nox.Session) -> None:
    session.install("-q", "-e", ".[dev]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Every test, on each supported Python found here. Arguments go to pytest: ``nox -s tests-3.12 -- -k lease``."""
    install(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def floors(session: nox.Session) -> None:
    """Every test on the lowest version of each dependency that pyproject.toml admits."""
    install(session)
    session.install("-q", *(line.replace(">=", "==") for line in PYPROJECT["project"]["dependencies"]))
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(name="property")
def properties(session: nox.Session) -> None:
    """The state machines and properties, and the whole table of the lease model.

    ``nox -s property -- --profile=nightly`` looks for a night: 10,000 examples of the lease machine, 2,000 simulated runs, 1,000 examples
    of everything else, with a report at the end; ``-n 4 --dist worksteal`` spreads it over processes, whose last parts are long. ``FLOWQ_EXAMPLES=5000 nox -s property`` takes
    another number (default 100 of each).
    """
    install(session)
    session.run("python", "-m", "pytest", "--timeout=0", "property_tests", *session.posargs)
    session.run("python", "-m", "property_tests.model")


@nox.session
def kafka(session: nox.Session) -> None:
    """The tests on a real Apache Kafka broker: its jars are fetched by their Maven coordinates on the first run (java and mvn on PATH).

    ``FLOWQ_KAFKA_VERSION=3.9.1 nox -s kafka`` takes another version.
    """
    install(session)
    session.run("python", "-m", "pytest", "tests/kafka", *session.posargs, env={"FLOWQ_KAFKA": "1"})


@nox.session
def stress(session: nox.Session) -> None:
    """The chaos run (docs/stress.md): workers and a redis-server that are killed, stopped and cut off; under three minutes.

    Arguments go through: ``nox -s stress -- --seconds 600 --backend trio --seed 7``.
    """
    install(session)
    session.run("python", "-m", "tests.stress", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """flowq beside its peers, then flowq alone (bench/README.md); over an hour. Nothing is asserted on their figures.

    ``nox -s bench -- peers --workload a`` is a part of it.
    """
    session.install("-q", "-e", ".[dev,bench]")
    for words in [session.posargs] if session.posargs else [["peers"], []]:
        session.run("python", "-m", "bench", *words)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, formatting, the rooms' import contracts; then a report of what is over its size budget, which fails nothing."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("python", "scripts/budgets.py")


@nox.session
def types(session: nox.Session) -> None:
    """Two type checkers on the library and on tests/typing, which shows that wrong calls are refused."""
    install(session)
    session.run("mypy", "--strict", "flowq", "tests/typing")
    session.run("pyright", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session
def docs(session: nox.Session) -> None:
    """Every relative link of the pages resolves, and every Python block compiles."""
    install(session)
    session.run("python", "docs/check.py")


@nox.session
def demo(session: nox.Session) -> None:
    """The seed's story on real work: 12 jobs, limit 3, 4 workers, one of them killed."""
    session.install("-q", "-e", ".[server]")
    session.run("flowq", "demo", *session.posargs)
