"""How long Hypothesis looks, and the server fixtures of tests/conftest.py.

``FLOWQ_EXAMPLES`` is the number of examples of each property (100). A test sets no ``max_examples`` of its own, so that this
one number scales all of them: ``FLOWQ_EXAMPLES=5000 nox -s property``.
"""

from __future__ import annotations

import os

from hypothesis import settings

from tests.conftest import (
    anyio_backend,
    app_name,
    new_redis,
    no_leaks,
    pytest_runtest_makereport,
    redis_server,
    redis_url,
)

__all__ = [
    "anyio_backend",
    "app_name",
    "new_redis",
    "no_leaks",
    "pytest_runtest_makereport",
    "redis_server",
    "redis_url",
]

settings.register_profile(
    "flowq",
    max_examples=int(os.environ.get("FLOWQ_EXAMPLES", "100")),
    deadline=None,  # a slow machine is no failure
    derandomize="CI"
    in os.environ,  # CI judges a change, not its luck; the search for new examples is `nox -s property`
    print_blob=True,
)
settings.load_profile("flowq")
