"""Check the pages: relative links resolve, Python blocks compile, tests that a page names exist.

Usage: ``python docs/check.py [ROOT]``. Prints one line per defect and exits 1 if there is any.
A Python block may use ``await`` and ``async with`` at top level, as the REPL of asyncio does.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

SKIPPED = {"node_modules", "build", "dist"}
FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>```+|~~~+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=mark)",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"!?\[[^\]\n]*\]\(<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
CODE = re.compile(r"`[^`\n]*`")
NAMED_TEST = re.compile(r"`(?P<path>(?:tests|property_tests)/[\w./-]+\.py)(?:::[\w\[\]:-]+)?`")
HEADING = re.compile(r"^#{1,6} +(?P<title>.+?) *#*$", re.MULTILINE)


def pages(root: Path) -> list[Path]:
    """Every Markdown page of the project, its hidden folders and build products left out."""
    return [
        path
        for path in sorted(root.rglob("*.md"))
        if not any(part.startswith(".") or part in SKIPPED for part in path.relative_to(root).parts)
    ]


def anchors(text: str) -> set[str]:
    """The anchors that a Markdown page's headings give, as GitHub spells them."""
    titles = (match["title"] for match in HEADING.finditer(FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> Iterator[str]:
    prose = CODE.sub("", FENCE.sub("", text))
    for match in LINK.finditer(prose):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path = (page.parent / target) if target else page
        if not path.exists():
            yield f"link to {match['target']}: no such file"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text(encoding="utf-8")):
            yield f"link to {match['target']}: no such heading"


def broken_code(text: str) -> Iterator[str]:
    for match in FENCE.finditer(text):
        if match["info"].strip().split(" ")[0] not in {"python", "py"}:
            continue
        line = text.count("\n", 0, match.start()) + 1
        try:
            compile(textwrap.dedent(match["body"]), "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            yield f"Python block at line {line} does not compile: {error.msg} (its line {error.lineno})"


def missing_tests(root: Path, text: str) -> Iterator[str]:
    for match in NAMED_TEST.finditer(text):
        if not (root / match["path"]).is_file():
            yield f"names {match['path']}, which does not exist"


def defects(root: Path) -> list[str]:
    """One line per defect of any page under ``root``."""
    found: list[str] = []
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(root).as_posix()
        found += [f"{name}: {what}" for what in broken_links(page, text)]
        found += [f"{name}: {what}" for what in broken_code(text)]
        found += [f"{name}: {what}" for what in missing_tests(root, text)]
    return found


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = defects(root)
    for line in found:
        print(line)
    print(f"{len(pages(root))} pages, {len(found)} defects")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
