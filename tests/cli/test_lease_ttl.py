"""``flowq limits --lease-ttl``: the lease TTL of a running fleet is changed from outside, and everybody can see how far that is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import flowq as library
from flowq.cli import lease_ttl
from tests.cli.stage import Ran, Stage, policy

Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members here renew when the test says so: nothing comes of waiting for them."""
    monkeypatch.setattr(lease_ttl, "patience", lambda ttl: 0.0)


def test_the_way_of_a_change(stage: Stage, flowq: Run) -> None:
    """Announced, acknowledged, complete: the command says how far it is, each time it is run; so does ``status``."""
    old = stage.join(resize=policy())
    with pytest.raises(
        library.ConfigurationError, match=r"lease_ttl=30 s .* 60 s; .*`flowq limits --lease-ttl 60`"
    ):
        stage.join(ttl=60, resize=policy())

    announced = flowq("limits", "--lease-ttl", "60")
    assert announced.code == 1
    assert "acknowledged by 0 of 1 live worker;" in announced.out
    shown = flowq("status").out
    assert "lease 30s -> 60s" in shown
    assert "not every live worker has acknowledged it" in shown
    with pytest.raises(library.ConfigurationError, match="a live worker has not acknowledged it"):
        stage.join(ttl=60, resize=policy())

    heard = stage.renew(old)
    stage.renew(old, heard)
    acknowledged = flowq("limits", "--lease-ttl", "60")
    assert acknowledged.code == 0
    assert "acknowledged by all; start workers with lease_ttl=60 now" in acknowledged.out
    assert "(0 of 1 live worker have it)" in acknowledged.out

    new = stage.join(ttl=60, resize=policy())
    assert (
        "1 of 2 live workers were started with it; until all were, they reckon with 30 s"
        in flowq("status").out
    )
    app = json.loads(flowq("status", "--json").out)["app"]
    assert app["lease_ttl_change"] == {"before": 30.0, "to": 60.0, "is_open": True, "workers": 1}
    assert sorted(worker["lease_ttl"] for worker in app["workers"]) == [30.0, 60.0]

    stage.leave(old)
    assert stage.renew(new, heard) == heard
    assert (
        "all of 1 live worker have it; it is complete 60 s after" in flowq("limits", "--lease-ttl", "60").out
    )
    assert "all live workers were started with it; it is complete 60 s after" in flowq("status").out
    stage.let_change_be_due()
    assert stage.renew(new, heard) == ""
    done = flowq("limits", "--lease-ttl", "60", "--json")
    assert (done.code, json.loads(done.out)["under_way"]) == (0, False)
    assert "lease 60s" in flowq("status").out


def test_a_change_is_taken_back(stage: Stage, flowq: Run) -> None:
    """With the old value; a third one is refused meanwhile, and the error says both ways on."""
    me = stage.join(resize=policy())
    flowq("limits", "--lease-ttl", "60")

    third = flowq("limits", "--lease-ttl", "45")
    assert third.code == 78
    assert "from 30 s to 60 s" in third.err
    assert "`flowq limits --lease-ttl 30`" in third.err

    flowq("limits", "--lease-ttl", "30")
    stage.renew(me, stage.renew(me))
    back = flowq("limits", "--lease-ttl", "30")
    assert (back.code, back.out) == (0, "lease_ttl is 30 s\n")


def test_without_a_live_worker_the_first_one_completes_it(stage: Stage, flowq: Run) -> None:
    """A fleet that is stopped may be changed, too."""
    stage.leave(stage.join(resize=policy()))

    ran = flowq("limits", "--lease-ttl", "60")
    me = stage.join(ttl=60, resize=policy())
    stage.let_change_be_due()
    stage.renew(me, stage.renew(me))

    assert (ran.code, "no worker is live" in ran.out) == (0, True)
    assert flowq("limits", "--lease-ttl", "60").out == "lease_ttl is 60 s\n"


def test_an_app_without_a_fleet_and_bad_values(stage: Stage, flowq: Run) -> None:
    """Nobody has ever joined: there is nothing to change. Zero and less are no leases."""
    stage.submit("resize")
    assert flowq("limits", "--lease-ttl", "0").code == 2
    ran = flowq("limits", "--lease-ttl", "60")
    assert ran.code == 78
