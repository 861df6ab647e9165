"""How long Hypothesis looks, and the server fixtures of tests/conftest.py.

``FLOWQ_EXAMPLES`` is the number of examples of each property (100). A test sets no ``max_examples`` of its own, so that this
one number scales all of them: ``FLOWQ_EXAMPLES=5000 nox -s property``.

``--profile=nightly`` looks for a night: 7,500 examples of the lease machine on the newest server and 2,500 on each older one, 2,000
simulated runs, 1,000 examples of everything else. These two go in parts (``parts``), each with a seed of its own, so that ``-n 4 --dist worksteal``
spreads them over processes and a part can be run again alone: ``FLOWQ_SEED`` of the header, and the part's id.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import settings

from property_tests import report
from property_tests.lease.server import Server, binaries, load_scripts, running
from tests.conftest import (
    anyio_backend,
    app_name,
    new_redis,
    no_leaks,
    pytest_runtest_makereport,
    redis_server,
    redis_url,
)

__all__ = [
    "anyio_backend",
    "app_name",
    "new_redis",
    "no_leaks",
    "pytest_runtest_makereport",
    "redis_server",
    "redis_url",
]

NIGHTLY = {"machine": 7_500, "simulation": 2_000}
OTHERS = 1_000
PART = {"machine": 500, "simulation": 100}
"""Most examples of one part of a night; ``FLOWQ_PART`` is another number for both."""
SEED = "FLOWQ_SEED"


@attrs.frozen
class Part:
    """A share of a check's examples."""

    number: int
    examples: int
    seed: int | None
    """None: Hypothesis chooses."""

    def __str__(self) -> str:
        return f"part{self.number}"


def parts(check: str) -> list[Part]:
    """The parts of ``check`` in this session: one, but many in a night."""
    if os.environ.get("FLOWQ_PROFILE") != "nightly":
        return [Part(0, settings().max_examples, None)]
    whole = int(os.environ.get("FLOWQ_EXAMPLES", NIGHTLY[check]))
    size = int(os.environ.get("FLOWQ_PART", PART[check]))
    base = int(os.environ[SEED])
    sizes = [min(size, whole - first) for first in range(0, whole, size)]
    return [Part(k, examples, base * 1000 + k) for k, examples in enumerate(sizes)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--profile", choices=["flowq", "nightly"], default="flowq", help="how long property_tests look"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--profile", None) == "nightly":
        # in the environment, for the processes of pytest-xdist: all must find the same parts
        os.environ["FLOWQ_PROFILE"] = "nightly"
        os.environ.setdefault(SEED, str(random.randrange(1_000_000)))
    nightly = os.environ.get("FLOWQ_PROFILE") == "nightly"
    settings.register_profile(
        "flowq",
        max_examples=int(os.environ.get("FLOWQ_EXAMPLES", OTHERS if nightly else 100)),
        deadline=None,  # a slow machine is no failure
        derandomize="CI" in os.environ
        and not nightly,  # CI judges a change, not its luck; the search for new examples is `nox -s property`
        print_blob=True,
    )
    settings.load_profile("flowq")


def pytest_report_header(config: pytest.Config) -> str | None:
    if os.environ.get("FLOWQ_PROFILE") != "nightly":
        return None
    return f"profile: nightly, {SEED}={os.environ[SEED]}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``part_of_machine``, ``part_of_simulation``: as many as ``parts`` says."""
    for check in NIGHTLY:
        if f"part_of_{check}" in metafunc.fixturenames:
            metafunc.parametrize(f"part_of_{check}", parts(check), ids=str)


@pytest.fixture(params=sorted(binaries(), key=float))
def each_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each redis-server that is here, with the shipped scripts, as an identity that does not change."""
    with running(binaries()[request.param]) as found:
        found.use(load_scripts())
        found.set_identity("r", "p")
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        part
        for kind in ("passed", "failed")
        for one in terminalreporter.stats.get(kind, ())
        for part in report.told(getattr(one, "user_properties", ()))
        if getattr(one, "when", "") == "call"
    ]
    if found:
        terminalreporter.section("what the checks did")
        for line in report.lines(found):
            terminalreporter.write_line(line)
