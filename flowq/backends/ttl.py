"""What is said when the lease TTL of a fleet and that of a worker differ; the same words whatever the backend."""

from __future__ import annotations

from flowq._errors import ConfigurationError
from flowq._fleet import ttl_change
from flowq.backends.protocol import OtherTtl, TtlNotYet


def other_ttl(fleet: float, change: str, worker: float, *, wait: bool) -> OtherTtl:
    """The refusal of a worker that was given another ``lease_ttl`` (seconds) than the fleet's.

    Args:
        change: what is under way, as it travels.
        wait: it is to the worker's own value, and some live member has not acknowledged it.
    """
    both = ttl_change(change)
    if both and wait:
        return TtlNotYet(
            f"this fleet is being changed from lease_ttl={both[0]:g} s to {both[1]:g} s, which this worker was given, but a live worker "
            f"has not acknowledged it: `flowq limits --lease-ttl {both[1]:g}` says how many",
            change,
        )
    if both:
        return OtherTtl(
            f"this fleet is being changed from lease_ttl={both[0]:g} s to {both[1]:g} s and this worker was given {worker:g} s; give it "
            f"one of the two, or, when that change is complete, run `flowq limits --lease-ttl {worker:g}` first",
            change,
        )
    return OtherTtl(
        f"this fleet runs with lease_ttl={fleet:g} s and this worker was given {worker:g} s; give it the fleet's value, or change the "
        f"fleet's first: `flowq limits --lease-ttl {worker:g}`",
        change,
    )


def busy(before: float, after: float) -> ConfigurationError:
    """A third value is wanted while a change between two is under way (seconds)."""
    return ConfigurationError(
        f"lease_ttl is being changed from {before:g} s to {after:g} s: complete that (start all workers with {after:g} s), or take it "
        f"back with `flowq limits --lease-ttl {before:g}`"
    )


def no_fleet() -> ConfigurationError:
    """There is nothing to change."""
    return ConfigurationError("no worker has ever joined: the first one brings its own lease_ttl")
