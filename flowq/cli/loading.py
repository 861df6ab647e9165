"""From ``module:app`` on a command line to the app."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from flowq._app import App
from flowq._collection import Tasks
from flowq._errors import FlowqError


class LoadError(FlowqError):
    """The app cannot be had from what was written; ends a command with ``Exit.USAGE``."""


def load_app(target: str) -> App[Any]:
    """Import the module and take the app out of it. The working directory is searched first, as by ``python -m``.

    Args:
        target: ``package.module:name``; the name may have dots.

    Raises:
        LoadError: says what of it is wrong, and what would be right. Its text holds the user's traceback if the module raised.
    """
    module_name, separator, attribute = target.partition(":")
    if not separator or not attribute:
        raise LoadError(
            f"{target!r} does not say where the app is: write module:app, for example {_guess(target)}:app"
        )
    if module_name.endswith(".py") or "/" in module_name:
        raise LoadError(
            f"{target!r}: write a module as in an import, not a file: {_guess(module_name)}:{attribute}"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _import(module_name, target)
    module = found
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise LoadError(
                f"{target!r}: module {module_name!r} has no {attribute!r}{_apps_in(module)}"
            ) from None
    if isinstance(found, App):
        return found
    raise LoadError(f"{target!r} {_instead(found)}{_apps_in(module)}")


def _import(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise LoadError(
                f"{target!r}: there is no module {error.name!r} in {Path.cwd()} or on Python's path; "
                f"run flowq where `python -c 'import {name}'` works"
            ) from None
        raise LoadError(_raised(target, error)) from error
    except Exception as error:  # a module may raise anything
        raise LoadError(_raised(target, error)) from error
    except SystemExit as error:
        raise LoadError(
            f"{target!r}: importing {name!r} ends the program (SystemExit: {error}): guard it by __name__"
        ) from None


def _raised(target: str, error: BaseException) -> str:
    # our own frames and the import machinery's say nothing to the user
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if f.filename != __file__ and "importlib" not in f.filename
    ]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return f"{target!r}: importing the module failed\n" + "".join(lines).rstrip()


def _apps_in(module: ModuleType) -> str:
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    return f"; it has {', '.join(f'{module.__name__}:{name}' for name in sorted(apps))}" if apps else ""


def _instead(found: Any) -> str:
    if isinstance(found, type) or (callable(found) and not isinstance(found, Tasks)):
        return (
            "is something to call, not a flowq.App: functions that make apps are not called here; "
            "write `app = make_app()` in the module and name that"
        )
    if isinstance(found, Tasks):
        return "is a collection of tasks, not a flowq.App: include it in one, `app.include(tasks)`, and name that"
    return f"is a {type(found).__name__}, not a flowq.App"


def _guess(text: str) -> str:
    return text.removeprefix("./").removesuffix(".py").replace("/", ".").strip(".:") or "shop"
