"""The timeline picture shows what the logs say."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from tests.stress import picture
from tests.stress.by_hand import Case
from tests.stress.canvas import RED

SVG = "{http://www.w3.org/2000/svg}"


def drawn(case: Case) -> ET.Element:
    """The picture of a run in which worker 10 is killed at 5.0 and worker 11 takes its job over."""
    case.happens("birth", 0.0, pid=10, slot=0, how="trio")
    case.happens("birth", 0.0, pid=11, slot=1, how="asyncio")
    case.happens("kill", 5.0, pid=10, slot=0, how="in the body")
    case.happens("death", 5.0, pid=10, slot=0, code=-9)
    case.happens("server", 7.0, until=7.5, how="SIGKILL")
    case.events[1]["at"] = 12.0
    job = case.submit(1)
    case.run(1, 4.0, None, pid=10)
    case.succeed(job, case.run(1, 6.5, 7.0, pid=11, fence=99))
    path = case.folder / "stress.svg"
    picture.draw(path, case.evidence(), "a title & more")
    return ET.parse(path).getroot()


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_it_names_what_happened(tmp_path: Path) -> None:
    """Title, workers with their event loops, the kill with its moment, the server's restart."""
    said = texts(drawn(Case(tmp_path)))
    assert {
        "a title & more",
        "worker 1",
        "trio",
        "worker 2",
        "asyncio",
        "SIGKILL in the body",
        "redis-server killed",
    } <= set(said)


def test_a_killed_body_ends_at_its_death(tmp_path: Path) -> None:
    """Its bar reaches exactly as far as the line that marks the death."""
    root = drawn(Case(tmp_path))
    deaths = [
        p.get("d", "")
        for p in root.iter(f"{SVG}path")
        if p.get("stroke") == RED and p.get("stroke-width") == "1.6"
    ]
    bars = [p.get("d", "") for p in root.iter(f"{SVG}path") if p.get("stroke") == picture.COLOURS[0]]
    [death], [first, _] = deaths, bars
    start, width = float(first[1:].split(" ")[0]), float(first.partition("h")[2])
    assert abs(start + width - float(death[1:].split(" ")[0])) < 0.2


def test_a_long_run_shows_the_part_with_most_kinds_of_faults(tmp_path: Path) -> None:
    """Half a minute of it."""
    case = Case(tmp_path)
    case.events[1]["at"] = 200.0
    for at, kind in ((10, "kill"), (11, "kill"), (12, "kill"), (101, "kill"), (110, "stop"), (120, "link")):
        case.happens(kind, float(at), pid=1, slot=0)
    begin, end = picture.window(case.evidence())
    assert end - begin == picture.SECONDS
    assert begin <= 101
    assert end > 120
