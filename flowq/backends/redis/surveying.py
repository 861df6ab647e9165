"""A look at the app as a whole, for its workers' housekeeping: asked about once a minute, never on a job's way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flowq._errors import ForeignValue
from flowq._fleet import LaneSurvey, Survey
from flowq.backends.redis import scripts
from flowq.backends.redis.reader import counters, text

if TYPE_CHECKING:
    from flowq.backends.protocol import Standing
    from flowq.backends.redis.channel import Channel
    from flowq.backends.redis.keys import Keys

MOST_LANES: Final = 1000
"""Lanes that one look goes over: some milliseconds of Redis."""


async def survey(channel: Channel, keys: Keys, me: Standing) -> Survey:
    """See ``protocol.Fleet.survey``."""
    return read_survey(await channel.evalsha(scripts.SURVEY, [keys.clock], [me.member, MOST_LANES]))


async def foreign(channel: Channel, keys: Keys) -> dict[str, str]:
    """See ``protocol.Fleet.foreign``."""
    lanes = sorted(text(lane) for lane in await channel.execute("SMEMBERS", keys.types))
    streams = [keys.stream(lane) for lane in lanes]
    answers = await channel.execute_many([("XLEN", stream) for stream in streams], return_errors=True)
    return {
        lane: stream
        for lane, stream, answer in zip(lanes, streams, answers, strict=True)
        if isinstance(answer, ForeignValue)
    }


def read_survey(reply: list[Any]) -> Survey:
    speaks, now, used, most, letters, limits, override, paused, lanes, foreign = reply
    return Survey(
        speaks=speaks == b"1",
        time=int(now) / 1000,
        memory=round(100 * int(used) / int(most), 1) if int(most) else None,
        letters=int(letters),
        limits=counters(limits),
        override=counters(override),
        paused=frozenset(text(lane) for lane in paused),
        lanes=tuple(_lane(*lanes[i : i + 5]) for i in range(0, len(lanes), 5)),
        foreign=frozenset(text(lane) for lane in foreign),
    )


def _lane(lane: bytes, served: bytes, waiting: int, age: int, declared: bytes) -> LaneSurvey:
    return LaneSurvey(
        lane=text(lane),
        served=served == b"1",
        waiting=waiting,
        oldest=None if age < 0 else age / 1000,
        declared=(None if said == b"-" else int(said) for said in declared.split()),
    )
