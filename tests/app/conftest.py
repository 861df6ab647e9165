"""An app on the memory backend for each test of the surface."""

from __future__ import annotations

import pytest

import flowq


@pytest.fixture
def app() -> flowq.App[None]:
    """An app in this process; not open."""
    return flowq.App("shop", "memory://")
