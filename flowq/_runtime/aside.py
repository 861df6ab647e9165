"""Lanes that cannot be served because a foreign value lies where their jobs should: set aside, so that the others go on.

A script that meets such a value fails as a whole, so this worker joins again without the lane (its limited bodies are cancelled and
run again, as after a lost lease), and takes it back when the value has gone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import anyio

from flowq._errors import ForeignValue, ServerError
from flowq._runtime.floor import Floor
from flowq._runtime.member import Member
from flowq._runtime.reconcile import is_passing
from flowq.backends.protocol import Backend

PAUSE = 0.05
"""Seconds before a call that met a value which is in no lane of this worker's is made again: it may have gone since."""
PATIENCE = 20
"""Calls in a row that may fail so; then the value lies elsewhere, and this worker cannot help it."""


class Aside:
    """See the module."""

    def __init__(self, backend: Backend, floor: Floor, member: Member) -> None:
        self._backend = backend
        self._floor = floor
        self._member = member
        self._told: set[str] = set()
        self._vain = 0

    def answered(self) -> None:
        """A settle or a claim went well."""
        self._vain = 0

    async def heed(self, error: ServerError) -> bool:
        """A call failed. Returns whether it was for a foreign value with which this worker can go on."""
        if not isinstance(error, ForeignValue):
            return False
        try:
            foreign = await self._backend.fleet.foreign()
        except ServerError as exc:
            return is_passing(exc)
        self._say(foreign)
        member = self._member
        mine = foreign.keys() & member.served.keys()
        if not mine:
            self._vain += 1
            await anyio.sleep(PAUSE)
            return self._vain < PATIENCE
        if len(mine) == len(member.served):
            return False
        member.aside |= mine
        member.lapse(f"it joins again without {', '.join(sorted(mine))}")
        return True

    def _say(self, foreign: dict[str, str]) -> None:
        for lane, key in sorted(foreign.items()):
            if lane not in self._told:
                self._floor.events.say(
                    logging.ERROR, "lane.foreign", "a foreign value lies in the key %s: %s is not served until it has been renamed or "
                    "deleted; other tasks go on", key, lane, lane=lane, key=key,
                )  # fmt: skip
        self._told = set(foreign)

    async def look_again(self, seen: Collection[str]) -> None:
        """Serve again what can be served again, and tell of what is ``seen`` to be foreign though no call has met it yet.

        Raises:
            ServerError: not answered.
        """
        member = self._member
        if member.over or not (member.aside or self._told or seen):
            return
        foreign = await self._backend.fleet.foreign()
        self._say(foreign)
        back = member.aside - foreign.keys()
        if back and not member.over:
            names = ", ".join(sorted(back))
            for lane in sorted(back):
                self._floor.events.say(logging.INFO, "lane.back", "%s is served again", lane, lane=lane)
            member.aside -= back
            member.lapse(f"it joins again with {names}")
