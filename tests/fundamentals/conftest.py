"""The app of each fundamental: a fresh one on the test run's own Redis, on trio and on asyncio."""

from __future__ import annotations

import pytest

import flowq


@pytest.fixture
def app(redis_url: str, app_name: str) -> flowq.App[None]:
    """In your program: ``app = flowq.App("shop")``, with the URL in ``FLOWQ_URL``.

    The lease is short, because a server that nobody knows yet makes limited tasks wait for one lease.
    """
    return flowq.App(app_name, redis_url, lease_ttl=1.0)
