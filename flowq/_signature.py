"""A function's signature as the wire sees it: what goes into ``args``, what into ``kwargs``, and in which types.

What this room does: reads a signature once, at registration; puts a call into its one canonical form; checks it. What it will
not do: write or read bytes of a job (that is the codec's).

Canonical form: everything that can be given by position is in ``args``; ``kwargs`` holds keyword-only parameters and ``**kwargs``.
A parameter that is skipped in the middle is filled with its default where JSON can hold that; otherwise the later ones go by name.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

import attrs
import msgspec

from flowq._convert import conform, decoder, encode, why_unservable
from flowq._errors import ConfigurationError, InvalidArguments, UnservableSignature

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Misfit(Exception):
    """Arguments that do not fit, as a sentence: a caller's fault at enqueue, version skew in a worker."""


@attrs.frozen(eq=False)
class Parameter:
    """One parameter. ``read`` decodes its value from JSON; ``fill`` is set if its default may be written into a job."""

    name: str
    kind: int
    annotation: Any
    required: bool
    default: Any
    fill: bool
    read: Callable[[bytes | msgspec.Raw], Any]


@attrs.frozen(eq=False)
class Signature:
    """What a task's function takes and returns."""

    task: str
    plain: inspect.Signature
    positional: tuple[Parameter, ...]
    keywords: dict[str, Parameter]
    rest: Parameter | None
    others: Parameter | None
    returns: Any
    least: int
    """Positional arguments that must be there. With a required keyword-only parameter no call is canonical without keywords."""

    @classmethod
    def of(cls, fn: Callable[..., Any], task: str) -> Signature:
        """Read a function's signature.

        Raises:
            UnservableSignature: an annotation that cannot be resolved, or that JSON cannot give back.
        """
        plain = inspect.signature(fn)
        hints = _hints(fn, task)
        parameters = [_parameter(p, hints.get(p.name, Any), task) for p in plain.parameters.values()]
        positional = tuple(p for p in parameters if p.kind in BY_POSITION)
        returns = hints.get("return", Any)
        if complaint := why_unservable(returns):
            raise UnservableSignature(_unservable(task, "its return value", returns, complaint))
        return cls(
            task=task,
            plain=plain,
            positional=positional,
            keywords={p.name: p for p in parameters if p.kind == inspect.Parameter.KEYWORD_ONLY},
            rest=next((p for p in parameters if p.kind == inspect.Parameter.VAR_POSITIONAL), None),
            others=next((p for p in parameters if p.kind == inspect.Parameter.VAR_KEYWORD), None),
            returns=returns,
            least=sum(p.required for p in positional),
        )

    @property
    def needs_keywords(self) -> bool:
        return any(p.required for p in self.keywords.values())

    def canonical(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Bring a call into its canonical form and check the type of each argument.

        Raises:
            InvalidArguments: names the task and the parameter.
        """
        if kwargs or self.needs_keywords or not self.least <= len(args) <= len(self.positional):
            try:
                bound = self.plain.bind(*args, **kwargs)
            except TypeError as exc:
                raise InvalidArguments(f"task {self.task!r}: {exc}{self._did_you_mean(kwargs)}") from None
            args, kwargs = self._spread(bound.arguments)
        for parameter, value in self.pairs(args, kwargs):
            try:
                conform(value, parameter.annotation)
            except Exception as exc:  # noqa: BLE001 - a dataclass or a model may refuse with anything
                raise InvalidArguments(f"task {self.task!r}, parameter {parameter.name!r}: {exc}") from None
        return args, dict(kwargs)

    def pairs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[Parameter, Any]]:
        """Each given argument with its parameter.

        Raises:
            Misfit: too many, unknown, given twice, or missing.
        """
        if len(args) > len(self.positional) and self.rest is None:
            raise Misfit(f"takes {len(self.positional)} positional arguments, {len(args)} were given")
        for i, value in enumerate(args):
            parameter = self.positional[i] if i < len(self.positional) else self.rest
            assert parameter is not None
            yield parameter, value
        by_name = {
            p.name: i for i, p in enumerate(self.positional) if p.kind != inspect.Parameter.POSITIONAL_ONLY
        }
        for name, value in kwargs.items():
            if name in by_name:
                if by_name[name] < len(args):
                    raise Misfit(f"parameter {name!r} was given twice")
                yield self.positional[by_name[name]], value
            elif (found := self.keywords.get(name, self.others)) is not None:
                yield found, value
            else:
                raise Misfit(f"has no parameter {name!r}")
        for parameter in (*self.positional[len(args) :], *self.keywords.values()):
            if parameter.required and (
                parameter.name not in kwargs or parameter.kind == inspect.Parameter.POSITIONAL_ONLY
            ):
                raise Misfit(f"needs the parameter {parameter.name!r}")

    def read(
        self, args: Sequence[msgspec.Raw], kwargs: Mapping[str, msgspec.Raw]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode arguments one by one, by position and by name: for calls that are not in canonical form.

        Raises:
            Misfit: they do not fit; names the parameter.
        """
        values = [_read(parameter, raw) for parameter, raw in self.pairs(args, kwargs)]
        return tuple(values[: len(args)]), dict(zip(kwargs, values[len(args) :], strict=True))

    def _spread(self, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positional: list[Any] = []
        keyword: dict[str, Any] = {}
        last = max((i for i, p in enumerate(self.positional) if p.name in given), default=-1)
        gap = False
        for parameter in self.positional[: last + 1]:
            if parameter.name not in given:
                gap = gap or not parameter.fill
                if not gap:
                    positional.append(parameter.default)
            elif gap:
                keyword[parameter.name] = given[parameter.name]
            else:
                positional.append(given[parameter.name])
        if self.rest is not None:
            positional.extend(given.get(self.rest.name, ()))
        keyword.update((name, given[name]) for name in self.keywords if name in given)
        if self.others is not None:
            keyword.update(given.get(self.others.name, {}))
        return tuple(positional), keyword

    def _did_you_mean(self, kwargs: Mapping[str, Any]) -> str:
        known = [*(p.name for p in self.positional), *self.keywords]
        for name in kwargs:
            if name not in known and (close := difflib.get_close_matches(name, known, n=1)):
                return f" (did you mean {close[0]!r}?)"
        return ""


def _hints(fn: Callable[..., Any], task: str) -> dict[str, Any]:
    try:
        return get_type_hints(fn, include_extras=True)
    except Exception as exc:  # an annotation is evaluated here, and may raise anything
        raise UnservableSignature(
            f"task {task!r}: its annotations cannot be resolved: {exc}. Import the type at run time (not under TYPE_CHECKING) "
            f"and define it at module level, above the task."
        ) from exc


def _parameter(p: inspect.Parameter, annotation: Any, task: str) -> Parameter:
    if complaint := why_unservable(annotation):
        raise UnservableSignature(_unservable(task, f"parameter {p.name!r}", annotation, complaint))
    read = decoder(annotation)
    required = p.default is inspect.Parameter.empty and p.kind not in (
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    )
    return Parameter(p.name, p.kind, annotation, required, p.default, _can_fill(p, annotation, read), read)


def _can_fill(p: inspect.Parameter, annotation: Any, read: Callable[[bytes], Any]) -> bool:
    """An implicit ``x: int = None`` or a sentinel default stays out of the job: the worker's own default applies."""
    if p.default is inspect.Parameter.empty or p.kind not in BY_POSITION:
        return False
    try:
        conform(p.default, annotation)
        return bool(read(encode(p.default)) == p.default)
    except Exception:  # noqa: BLE001 - whatever a default's own methods raise
        return False


def _read(parameter: Parameter, raw: msgspec.Raw) -> Any:
    try:
        return parameter.read(raw)
    except Exception as exc:  # a dataclass or a model may refuse with anything
        raise Misfit(f"parameter {parameter.name!r}: {exc}") from exc


def _unservable(task: str, where: str, annotation: Any, complaint: str) -> str:
    return (
        f"task {task!r}, {where} is annotated {inspect.formatannotation(annotation)}: {complaint}. Use builtins, datetime, UUID, "
        f"Decimal, Enum, set, bytes, a dataclass, an attrs class, a TypedDict or a pydantic model."
    )


def check_function(fn: Callable[..., Any]) -> bool:
    """Whether a task function is a plain ``def`` (True) or a coroutine function (False).

    Raises:
        ConfigurationError: it is neither.
    """
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise ConfigurationError(
            f"{fn.__qualname__} is a generator function: a task returns one value; collect, then return it"
        )
    if not inspect.isroutine(fn) or not hasattr(fn, "__name__"):
        raise ConfigurationError(f"a task is a function, def or async def, not {fn!r}")
    return not inspect.iscoroutinefunction(fn)
