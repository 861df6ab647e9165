"""How many tokens a lane has inside one worker: the second, independent check of a limit.

The server admits by entries in flight. The worker does not take its word for it: it keeps a limiter per limited lane, and a
grant above the limit that it last heard of is a defect somewhere, which it reports and hands back instead of running it.
"""

from __future__ import annotations


def tokens(outstanding: int, limit: int) -> int:
    """Local tokens of a limited lane.

    Args:
        outstanding: deliveries that were granted to this member and whose settle has not been answered.
        limit: in force, as this member last heard.
    """
    return min(outstanding, limit)


def is_excess(outstanding: int, limit: int) -> bool:
    """Would one more delivery be above the limit, even if no other member held any?"""
    return outstanding >= limit
