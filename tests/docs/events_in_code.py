"""Which events the code says, read from its syntax: their names, levels, loggers and facts."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from flowq._runtime.events import _LOGGERS, JOB, WORKER

ROOT = Path(__file__).resolve().parents[2]
METHODS = {name: name.upper() for name in ("debug", "info", "warning", "error", "critical")} | {
    "exception": "ERROR"
}
Definition = ast.FunctionDef | ast.AsyncFunctionDef


@attrs.define
class Event:
    """What all places in the code together say of an event."""

    levels: set[str] = attrs.field(factory=set[str])
    loggers: set[str] = attrs.field(factory=set[str])
    facts: set[str] = attrs.field(factory=set[str])
    perhaps: set[str] = attrs.field(factory=set[str])
    """Facts that are added on some ways through the function only."""


def events_of_the_code() -> dict[str, Event]:
    """Every event that ``flowq`` says."""
    found: dict[str, Event] = {}
    for path in sorted((ROOT / "flowq").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, Definition):
                for name, said in _said_in(function, tree):
                    event = found.setdefault(name, Event())
                    event.levels |= said.levels
                    event.loggers |= said.loggers
                    event.facts |= said.facts
                    event.perhaps |= said.perhaps
    return dict(sorted(found.items()))


def _said_in(function: Definition, tree: ast.Module) -> Iterator[tuple[str, Event]]:
    for call in _calls(function):
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        extra = next((k.value for k in call.keywords if k.arg == "extra"), None)
        if method == "say" and len(call.args) >= 3:
            facts = {k.arg for k in call.keywords if k.arg and k.arg != "error"}
            for event in _texts(call.args[1], function):
                logger = _LOGGERS.get(event.partition(".")[0], WORKER).name
                yield event, Event(_levels(call.args[0]), {logger}, facts)
        elif extra is not None:
            fields = _fields(extra, function)
            if "event" not in fields or isinstance(fields["event"], ast.Name):
                continue  # the one place through which all events of ``say`` go
            facts, perhaps = set(fields) - {"event", "facts"}, set[str]()
            if "facts" in fields:
                facts |= set(_fields(fields["facts"], function))
                perhaps = set(_fields(fields["facts"], function, enlarged=True)) - facts
            levels = {METHODS[method]} if method in METHODS else _levels(call.args[0])
            for event in _texts(fields["event"], function):
                yield event, Event(levels, {_logger(call, tree)}, facts, perhaps)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls in a function, those of functions inside it left out: they come by themselves."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Definition):
            if isinstance(child, ast.Call):
                yield child
            yield from _calls(child)


def _assigned(name: str, function: Definition, *, enlarged: bool = False) -> Iterator[ast.AST]:
    """What a local name is bound to, and what it is ``enlarged`` by."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.AST() as value) if found == name:
                yield value
            case ast.AugAssign(target=ast.Name(id=found), value=value) if found == name and enlarged:
                yield value


def _fields(node: ast.AST, function: Definition, *, enlarged: bool = False) -> Mapping[str, ast.AST]:
    """The string keys of a dict that is written out here, or in the function."""
    match node:
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {k.value: v for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)}
        case ast.BinOp(left=left, right=right):
            return {
                **_fields(left, function, enlarged=enlarged),
                **_fields(right, function, enlarged=enlarged),
            }
        case ast.Name(id=name):
            values = list(_assigned(name, function, enlarged=enlarged))
            return {k: v for value in values for k, v in _fields(value, function).items()}
    return {}


def _texts(node: ast.AST, function: Definition) -> list[str]:
    """The strings that an expression may be."""
    match node:
        case ast.Constant(value=str() as text):
            return [text]
        case ast.IfExp(body=one, orelse=other):
            return _texts(one, function) + _texts(other, function)
        case ast.Name(id=name):
            return [text for value in _assigned(name, function) for text in _texts(value, function)]
    raise AssertionError(f"the name of an event cannot be read from the code: {ast.dump(node)}")


def _levels(node: ast.AST) -> set[str]:
    match node:
        case ast.Constant(value=int() as number):
            return {logging.getLevelName(number)}
        case ast.IfExp(body=one, orelse=other):
            return _levels(one) | _levels(other)
        case ast.Attribute(attr=name):
            return {name}
    raise AssertionError(f"the level of an event cannot be read from the code: {ast.dump(node)}")


def _logger(call: ast.Call, tree: ast.Module) -> str:
    """The name of the logger that is called, by the module's own assignment."""
    match call.func:
        case ast.Attribute(value=ast.Name(id="JOB")):
            return JOB.name
        case ast.Attribute(value=ast.Name(id=name)):
            for node in tree.body:
                match node:
                    case ast.Assign(
                        targets=[ast.Name(id=found)],
                        value=ast.Call(args=[ast.Constant(value=str() as logger)]),
                    ) if found == name:
                        return logger
    raise AssertionError(f"the logger of an event cannot be read from the code: {ast.dump(call.func)}")
