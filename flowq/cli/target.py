"""Which app on which server a command means: ``-n NAME -u URL --namespace NS``, or what ``FLOWQ_…`` says, without the app's code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from flowq._errors import BadURL, ConfigurationError, NoServer
from flowq._open import embedded_folder
from flowq._settings import resolve
from flowq.backends.redis.admin import Admin, apps, open_admin
from flowq.backends.redis.keys import full_name
from flowq.backends.redis.url import Address, parse_url

Name = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--name",
        help="The app's name, as in App(name). Not needed if the server holds one app. (FLOWQ_NAME)",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "-u", "--url", help="Where Redis is: redis://, rediss://, unix://, embedded://DIR. (FLOWQ_URL)"
    ),
]
Namespace = Annotated[str | None, typer.Option("--namespace", help="The app's namespace. (FLOWQ_NAMESPACE)")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def address_of(url: str | None, name: str | None = None) -> Address:
    """The server that a command means.

    Args:
        url: what was said on the command line.
        name: the app's name: ``embedded://`` without a directory is one server per app.

    Raises:
        NoServer, BadURL: there is none, or it cannot be understood.
    """
    said: str | None = resolve("url", argument=url).value
    if not said:
        raise NoServer("no server was named: pass -u redis://host:port/0, or set FLOWQ_URL")
    if said.startswith("embedded://"):
        return _embedded(said, name)
    if said.startswith("memory://"):
        raise BadURL("memory:// lives inside one process: only that process can look at it")
    return parse_url(said)


def _embedded(url: str, name: str | None) -> Address:
    if not name and not url.removeprefix("embedded://"):
        raise BadURL(
            "embedded:// without a directory is one server per app: name the app with -n, or the directory, embedded://DIR"
        )
    directory = embedded_folder(url, name or "")
    if not directory.is_dir():
        raise ConfigurationError(f"there is no directory {directory}: no embedded server has ever run there")
    from flowq.backends.redis.embedded import start_embedded

    # this process is one more user of that server until it ends; if nobody else is, the server starts for that long
    return parse_url(start_embedded(directory).url)


@contextmanager
def the_app(name: str | None, url: str | None, namespace: str | None) -> Iterator[Admin]:
    """The app that a command means; the server must have heard of it.

    Raises:
        ConfigurationError: no such app there, or several and none was named.
    """
    name = name or os.environ.get("FLOWQ_NAME") or None
    namespace = resolve("namespace", argument=namespace).value
    address = address_of(url, name)
    if name is None:
        name, namespace = _only_one(address, namespace)
    with open_admin(address, name, namespace) as admin:
        if not admin.exists():
            raise ConfigurationError(f"{address} has no app {full_name(name, namespace)!r}{_others(address)}")
        yield admin


def _only_one(address: Address, namespace: str | None) -> tuple[str, str | None]:
    found = [row for row in apps(address) if namespace is None or row.namespace == namespace]
    if len(found) == 1:
        return found[0].name, found[0].namespace
    if not found:
        raise ConfigurationError(
            f"{address} has no app of flowq{f' in namespace {namespace!r}' if namespace else ''} yet"
        )
    raise ConfigurationError(f"which app? name one with -n{_others(address)}")


def _others(address: Address) -> str:
    rows = [full_name(row.name, row.namespace) for row in apps(address)]
    return f"; there are: {', '.join(rows)}" if rows else "; it has none of flowq's"
