"""Where settings come from."""

from __future__ import annotations

import pytest

import flowq
from flowq._settings import SETTINGS, resolve


def test_each_setting_has_its_variable() -> None:
    """FLOWQ_ and the name in capitals, so that nobody needs to look it up."""
    assert all(row.variable == f"FLOWQ_{name.upper()}" for name, row in SETTINGS.items())
    assert {"url", "namespace", "lease_ttl", "concurrency", "grace", "threads"} <= SETTINGS.keys()


def test_the_command_line_is_over_the_code_is_over_the_environment() -> None:
    """The order of those who know the situation best."""
    environ = {"FLOWQ_GRACE": "7"}

    said = [
        resolve("grace", argument=5.0, code=6.0, environ=environ),
        resolve("grace", code=6.0, environ=environ),
        resolve("grace", environ=environ),
        resolve("grace", environ={"FLOWQ_GRACE": ""}),
    ]

    assert [(r.value, r.source) for r in said] == [
        (5.0, "argument"),
        (6.0, "code"),
        (7.0, "environment"),
        (20.0, "default"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("grace", "soon", "FLOWQ_GRACE='soon': a number"),
        ("grace", "-1", "FLOWQ_GRACE='-1': 0 or more"),
        ("concurrency", "many", "FLOWQ_CONCURRENCY='many': a whole number, 1 or more"),
        ("concurrency", "0", "FLOWQ_CONCURRENCY='0': a whole number, 1 or more"),
        ("backend", "curio", "FLOWQ_BACKEND='curio': one of trio, asyncio"),
        ("burst", "maybe", "FLOWQ_BURST='maybe': 1 or 0"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(name: str, text: str, says: str) -> None:
    """With its text and what would be right."""
    with pytest.raises(flowq.ConfigurationError) as caught:
        resolve(name, environ={f"FLOWQ_{name.upper()}": text})

    assert says in str(caught.value)


def test_words_of_variables() -> None:
    """Flags and lists are read as people write them."""
    assert resolve("burst", environ={"FLOWQ_BURST": "Yes"}).value is True
    assert resolve("only", environ={"FLOWQ_ONLY": "a, b,"}).value == ["a", "b"]


def test_an_app_takes_what_is_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is read when asked, not at import; override() is the command line's word."""
    app = flowq.App("shop")
    monkeypatch.setenv("FLOWQ_LEASE_TTL", "60")
    before = app.lease_ttl

    app.override(lease_ttl=30.0, grace=None)

    assert (before, app.lease_ttl) == (60.0, 30.0)
    assert app.setting("grace").source == "default"


async def test_the_limit_of_a_job_is_looked_up_when_the_app_is_entered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not at each submit: what the variable says later counts from the next entry, of a synchronous producer too."""
    app = flowq.App("shop", "memory://")

    @app.task
    async def store(text: str) -> None: ...

    monkeypatch.setenv("FLOWQ_MAX_PAYLOAD", "300")
    store.bind("x" * 100)
    monkeypatch.setenv("FLOWQ_MAX_PAYLOAD", "50")
    store.bind("x" * 100)
    async with app:
        with pytest.raises(flowq.PayloadTooLarge, match="the limit is 50"):
            store.bind("x" * 100)
    monkeypatch.delenv("FLOWQ_MAX_PAYLOAD")
    with pytest.raises(flowq.PayloadTooLarge, match="the limit is 50"):
        store.bind("x" * 100)
    with app.sync():
        store.bind("x" * 100)
    app.override(max_payload=60)
    with pytest.raises(flowq.PayloadTooLarge, match="the limit is 60"):
        store.bind("x" * 100)


def test_code_follows_the_rules_of_the_variables() -> None:
    """A setting that makes no sense is refused where it is written."""
    with pytest.raises(flowq.ConfigurationError, match="lease_ttl=-1: more than 0"):
        flowq.App("shop", lease_ttl=-1)
    with pytest.raises(flowq.ConfigurationError, match="unknown setting 'grase'"):
        flowq.App("shop").override(grase=1)
    with pytest.raises(flowq.ConfigurationError, match="unknown option 'leese'"):
        flowq.App("shop", leese=1)  # type: ignore[call-overload]  # the point
    with pytest.raises(flowq.InvalidName, match=r"app name 'a b'"):
        flowq.App("a b")
    with pytest.raises(flowq.ConfigurationError, match="result_ttl"):
        flowq.App("shop", result_ttl=0)


def test_the_skew_window_is_a_matter_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in its code it holds over the variable, as every setting does; less than nothing is refused."""
    monkeypatch.setenv("FLOWQ_SKEW_WINDOW", "60")

    assert flowq.App("shop").setting("skew_window").value == 60.0
    assert flowq.App("shop", skew_window=3600).setting("skew_window").value == 3600
    with pytest.raises(flowq.ConfigurationError, match="skew_window=-1: 0 or more"):
        flowq.App("shop", skew_window=-1)


async def test_no_url_anywhere_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a private server by accident: its jobs would go nowhere."""
    monkeypatch.delenv("FLOWQ_URL", raising=False)
    app = flowq.App("shop")

    with pytest.raises(
        flowq.NoServer, match=r"set FLOWQ_URL .*, pass App\(url=…\), or .* embedded://\[dir\]"
    ):
        async with app:
            pytest.fail("it must not open")
    with pytest.raises(flowq.NoServer):
        app.sync()


@pytest.mark.parametrize("url", ["postgres://user:secret@host/db", "secret", "se cret://x"])
async def test_a_foreign_url_is_refused_without_showing_it(url: str) -> None:
    """The message names the schemes that would do; whatever might be a password stays out of it."""
    with pytest.raises(flowq.BadURL) as caught:
        async with flowq.App("shop", url):
            pytest.fail("it must not open")

    assert "redis://" in str(caught.value)
    assert "cret" not in str(caught.value)


async def test_the_url_is_looked_up_when_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that makes an app can be imported anywhere."""
    app = flowq.App("shop")
    monkeypatch.setenv("FLOWQ_URL", "memory://")

    async with app:
        assert app.session().backend.capabilities.name == "memory"


def test_namespaces_keep_apps_apart() -> None:
    """A namespace becomes part of every key, so it follows the rules of names."""
    with pytest.raises(flowq.InvalidName, match="namespace 'a:b'"):
        flowq.App("shop", "redis://localhost", namespace="a:b").opener()
