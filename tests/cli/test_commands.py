"""The command line as a whole: help, version, wrong words, ``config``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flowq._errors import (
    AuthenticationFailed,
    BadURL,
    FlowqError,
    IncompatibleLayout,
    NoServer,
    OutcomeUnknown,
    ReadOnlyServer,
    ScriptFailed,
    ServerFull,
    ServerTooOld,
    Unavailable,
)
from flowq.cli import main
from flowq.cli.exits import Exit, exit_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable, 69), (OutcomeUnknown, 69), (ServerFull, 69), (AuthenticationFailed, 77), (NoServer, 78), (BadURL, 78),
        (IncompatibleLayout, 78), (ServerTooOld, 78), (ReadOnlyServer, 78), (ScriptFailed, 1), (FlowqError, 1),
    ],
)  # fmt: skip
def test_each_error_has_its_exit_code(error: type[FlowqError], code: int) -> None:
    """What a shell script or a supervisor of ours can tell apart."""
    assert exit_of(error("x")) == code


def test_help_names_every_verb_and_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``flowq --help`` lists the verbs, ``flowq run --help`` every option with its variable."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    assert main(["--help"]) == 0
    verbs = capsys.readouterr().out
    assert main(["run", "--help"]) == 0
    options = capsys.readouterr().out

    for verb in (
        "run",
        "status",
        "apps",
        "ls",
        "show",
        "why",
        "cancel",
        "limits",
        "pause",
        "resume",
        "dead",
        "doctor",
        "health",
        "demo",
    ):
        assert f" {verb} " in verbs
    for name in (
        "concurrency",
        "threads",
        "processes",
        "backend",
        "burst",
        "burst-wait",
        "url",
        "namespace",
        "grace",
        "cancel-grace",
    ):
        assert f"--{name}" in options
        assert f"FLOWQ_{name.upper().replace('-', '_')}" in options
    for name in ("only", "exclude", "log-format", "log-level", "health-port", "embedded"):
        assert f"--{name}" in options


def test_version_and_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` says it; a verb that does not exist is exit code 2."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("flowq ")
    assert main(["statos"]) == Exit.USAGE
    assert main(["run"]) == Exit.USAGE
    assert main(["health", "--live", "--ready"]) == Exit.USAGE


def test_config_shows_value_and_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting with where it comes from; the password of the URL is not shown."""
    monkeypatch.setenv("FLOWQ_URL", "redis://me:s3cret@host/1")
    monkeypatch.setenv("FLOWQ_GRACE", "7")

    assert main(["config", "--json"]) == 0
    out = capsys.readouterr().out
    rows = {row["setting"]: row for row in json.loads(out)}

    assert "s3cret" not in out
    assert (rows["grace"]["value"], rows["grace"]["source"]) == (7.0, "environment")
    assert (rows["concurrency"]["value"], rows["concurrency"]["source"]) == (32, "default")
    assert rows["url"]["value"] == "redis://me:***@host:6379/1"


def test_a_bad_variable_names_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that cannot be read is one line with the variable's name, and exit code 78."""
    monkeypatch.setenv("FLOWQ_GRACE", "soon")

    assert main(["config"]) == Exit.CONFIG
    assert "FLOWQ_GRACE='soon'" in capsys.readouterr().err


def test_the_library_does_not_bring_the_command_line() -> None:
    """Programs that submit or embed a worker pay nothing for typer and rich, nor do the worker processes of ``flowq run``."""
    code = "import sys, flowq, flowq.cli.child; print([m for m in ('typer', 'rich') if m in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"


def test_the_supervisor_imports_no_user_code_and_no_event_loop_runs() -> None:
    """What the supervisor's process imports holds no app: the word for it is only handed on."""
    code = "import sys, flowq.cli.run; print('flowq.cli.loading' in sys.modules, 'flowq.cli.child' in sys.modules)"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "False False\n"
