"""Listens to the doorbell while this worker has room and no reason to claim, so that an idle worker costs nothing."""

from __future__ import annotations

import logging

import anyio

from flowq._errors import ServerError
from flowq._runtime.events import WORKER
from flowq._runtime.intake import Intake
from flowq._runtime.member import Member
from flowq._runtime.reconcile import is_passing
from flowq.backends.protocol import Backend

SAFETY_POLL = 1.0
"""Seconds after its last claim at which a worker with room makes one although nobody rang: a ring may be lost with its hearer. Who
runs bodies claims with every settle, so mostly it is idle workers that poll."""
SOON = 0.001
"""Seconds that are not worth another wait."""

WITHHELD_PAUSE = 0.02
"""Seconds for which a worker that was told to leave work to others does not listen, so that they are the first to hear."""


def may_listen(intake: Intake, member: Member) -> bool:
    """Is a ring of use to this worker?"""
    return intake.can_listen and not member.over


async def listen(backend: Backend, intake: Intake, member: Member) -> None:
    """Wait for rings until cancelled, and pass them to the intake."""
    while True:
        await intake.listen.wait()
        if not may_listen(intake, member):
            continue
        if intake.withheld:
            # the ring of this worker's own claim is for those who are hungry: first come, first woken
            intake.withheld = False
            await anyio.sleep(WITHHELD_PAUSE)
            if not may_listen(intake, member):
                continue
        intake.is_listening = True
        rang = False
        try:
            rang = await _hear(backend, intake, member)
        except ServerError as exc:
            if not is_passing(exc):
                raise
            WORKER.log(logging.DEBUG, "no doorbell: %s", exc)
            await anyio.sleep(SAFETY_POLL / 4)
            await backend.wait_up()
        finally:
            intake.is_listening = False
        intake.heard(rang)


async def _hear(backend: Backend, intake: Intake, member: Member) -> bool:
    """Wait for a ring (True), until the safety poll is due or a ring would be of no use (False)."""
    while may_listen(intake, member) and (patience := intake.unlooked(SAFETY_POLL)) > SOON:
        if await backend.stream.wait_ring(member.standing, patience):
            return True
    return False
