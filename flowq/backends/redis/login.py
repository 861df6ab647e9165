"""The first words on a new connection: who we are, and who answers.

HELLO with AUTH and SETNAME does all of it in one round trip; where HELLO is refused (old proxies, narrow ACLs): AUTH, CLIENT ID, INFO,
CLIENT SETNAME. SELECT goes with either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

from flowq._errors import BadURL, ServerTooOld
from flowq.backends.redis.replies import ErrorReply, as_error, as_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowq.backends.redis.connection import Arg, Connection
    from flowq.backends.redis.url import Address

OLDEST: Final = (6, 2, 0)

_NAME_FORBIDS = re.compile(r"[^\x21-\x7e]+")
_VERSION = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")


async def log_in(connection: Connection, name: str, protocol: Literal[2, 3]) -> None:
    """Log in and note what the server said of itself.

    Raises:
        AuthenticationFailed, ServerTooOld, BadURL: as ``connect``. OutcomeUnknown: the connection was lost.
    """
    address = connection.address
    name = _NAME_FORBIDS.sub("-", name)
    hello: list[Arg] = ["HELLO", protocol]
    if address.password is not None:
        hello += ["AUTH", address.username or "default", address.password]
    hello_reply, *selected = await connection.raw_many([[*hello, "SETNAME", name], *_select(address)])
    if isinstance(hello_reply, ErrorReply):
        # unknown command, a protocol that it does not speak, forbidden by the ACL; anything else is the answer
        if hello_reply.code not in ("ERR", "NOPERM"):
            raise as_error(hello_reply, connection.where)
        await _log_in_without_hello(connection, name)
        return
    _check_selected(selected, connection)
    facts = as_map(hello_reply)
    connection.protocol = 3 if facts[b"proto"] == 3 else 2
    connection.client_id = int(facts[b"id"])
    connection.role = facts.get(b"role", b"").decode()
    _set_version(connection, facts[b"version"].decode())


async def _log_in_without_hello(connection: Connection, name: str) -> None:
    """For servers and proxies that refuse HELLO, and users whose ACL forbids it."""
    address = connection.address
    if address.password is not None:
        user = [] if address.username is None else [address.username]
        await connection.execute("AUTH", *user, address.password)
    commands: list[list[Arg]] = [
        ["CLIENT", "ID"],
        ["INFO", "server"],
        ["CLIENT", "SETNAME", name],
        *_select(address),
    ]
    # a refused SETNAME only makes CLIENT LIST poorer
    client_id, info, _, *selected = await connection.raw_many(commands)
    for reply in (client_id, info):
        if isinstance(reply, ErrorReply):
            raise as_error(reply, connection.where)
    _check_selected(selected, connection)
    connection.client_id = int(client_id)
    facts = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    _set_version(connection, facts.get("redis_version", ""))


def _select(address: Address) -> list[list[Arg]]:
    return [["SELECT", address.db]] if address.db else []


def _check_selected(replies: Sequence[Any], connection: Connection) -> None:
    for reply in replies:
        if isinstance(reply, ErrorReply):
            if reply.code != "ERR":
                raise as_error(reply, connection.where)
            raise BadURL(
                f"database {connection.address.db} cannot be used: {connection.where} answered: {reply.text}"
            )


def _set_version(connection: Connection, text: str) -> None:
    connection.server_version = read_version(text, connection.where)


def read_version(text: str, where: str) -> tuple[int, int, int]:
    """A server's version, if it is one that flowq can work with.

    Args:
        where: names the server, without its password.

    Raises:
        ServerTooOld: it is not.
    """
    found = _VERSION.match(text)
    if found is None:
        raise ServerTooOld(
            f"{where} does not say its version ({text[:40]!r}); flowq needs Redis 6.2 or newer, or Valkey"
        )
    major, minor, patch = (int(part or 0) for part in found.groups())
    if (major, minor, patch) < OLDEST:
        raise ServerTooOld(
            f"{where} is Redis {text}; flowq needs 6.2 or newer (or Valkey): upgrade the server"
        )
    return major, minor, patch
