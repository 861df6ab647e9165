"""Is this Redis fit to keep jobs? What a worker says loudly when it starts; ``flowq doctor`` says the same and more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowq.backends.redis.facts import read_server
from flowq.backends.redis.fitness import of_server
from flowq.backends.redis.reader import info_fields

if TYPE_CHECKING:
    from flowq.backends.redis.channel import Channel


async def warnings(channel: Channel) -> list[str]:
    """One sentence for each way in which this server can lose jobs or refuse them: what it is, and what to set.

    Reads INFO: CONFIG is forbidden on most hosted Redis.

    Raises:
        ServerError: not answered.
    """
    fields = info_fields(await channel.execute("INFO"))
    return [finding.message for finding in of_server(read_server(fields))]
