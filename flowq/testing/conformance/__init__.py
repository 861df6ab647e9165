"""The contract of a place for jobs, one check a clause.

``ALL`` holds the checks; each is an ``async def check_…(harness)`` whose docstring states the clause, and which raises
``AssertionError`` where it does not hold. None of them needs a test framework or knows which backend it runs on. A backend
joins with a ``Harness``: how to open it, and how time passes for it::

    @pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
    async def test_contract(check, my_harness):
        await check(my_harness)

What this room will not do: test speed, or anything that only one backend can do.
"""

from flowq.testing.conformance import (
    adoption,
    cancelling,
    claiming,
    delays,
    doorbell,
    epochs,
    fairness,
    lease_ttl,
    limits,
    membership,
    results,
    settling,
    submitting,
    surveying,
)
from flowq.testing.conformance.stage import Check, Harness

ALL: list[Check] = [
    *submitting.CHECKS,
    *delays.CHECKS,
    *claiming.CHECKS,
    *fairness.CHECKS,
    *settling.CHECKS,
    *adoption.CHECKS,
    *membership.CHECKS,
    *epochs.CHECKS,
    *lease_ttl.CHECKS,
    *limits.CHECKS,
    *doorbell.CHECKS,
    *results.CHECKS,
    *cancelling.CHECKS,
    *surveying.CHECKS,
]
"""Every clause, in the order of a job's way."""

__all__ = ["ALL", "Check", "Harness"]
