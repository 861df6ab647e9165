"""An exception as texts: what is told of it elsewhere, where its class may not exist."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Final

from flowq._core.outcome import Failure
from flowq._core.retry import leaves
from flowq._runtime.events import printable


def tell(error: BaseException) -> Failure:
    """Type, message and traceback, the latter without the frames of flowq that called the body."""
    first = next(leaves(error))
    kind = type(error if isinstance(error, BaseExceptionGroup) else first)
    name = (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    return Failure(name, _text(error), _traceback(error))


_LOOP_OF_ERROR: Final = {
    "no running event loop": "asyncio",
    "trio.run received unrecognized yield message": "asyncio",
    # asyncio's Event, Queue and Lock, where no loop runs
    "'NoneType' object has no attribute 'create_future'": "asyncio",
    "must be called from async context": "trio",
}


def other_loop(error: BaseException, loop: str) -> str:
    """The cure, if a body failed because it wants another event loop than its worker's: the error itself names none. Else empty."""
    for leaf in leaves(error):
        text = _text(leaf)
        wants = next((wanted for phrase, wanted in _LOOP_OF_ERROR.items() if phrase in text), loop)
        if wants != loop:
            return f'this body needs {wants} and its worker runs {loop}: App(…, backend="{wants}") or flowq run --backend {wants}'
    return ""


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as exc:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"(its message cannot be read: {type(exc).__qualname__})"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, _body_frames(error.__traceback__)))
    except Exception as exc:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"(its traceback cannot be written: {printable(repr(exc))})"


def _body_frames(tb: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames at the top; keep everything if there is nothing else."""
    frame = tb
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith("flowq._runtime."):
        frame = frame.tb_next
    return frame or tb
