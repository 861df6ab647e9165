"""The commands of a manual's page, in their order."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Each line of the page's shell blocks that calls flowq."""
    text = (DOCS / page).read_text()
    lines = [line.strip() for _, block in BLOCK.findall(text) for line in block.splitlines()]
    return [line for line in lines if line.startswith("flowq ")]
