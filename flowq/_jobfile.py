"""Outstanding jobs as JSON lines: what ``flowq export`` writes and ``flowq import`` reads. docs/cli.md describes it for others.

    {"flowq_export":1,"app":"shop","place":"5f…","at":1764000000000}
    {"id":"resize:1764000000000-0","type":"resize","state":"ready","job":{"v":1,"task":"resize","args":["a.png"]}}
    {"id":"resize:d1764000000001-7","type":"resize","state":"delayed","due":1764000600000,"job":{…}}
    {"end":2}

What this room does: lines to records and back, and why a line is none. What it will not do: read files, or know where jobs lie.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, Literal

import msgspec

from flowq._envelope import Undecodable, reencode, why
from flowq._errors import FlowqError
from flowq._options import is_name

VERSION: Final = 1

State = Literal["ready", "delayed", "running"]

_ID = re.compile(r"([^:]+):d?(\d{1,15})-\d{1,15}")


class BadLine(FlowqError):
    """A line that says no job. What it is, is said without its number: the reader knows that."""


class Header(msgspec.Struct, omit_defaults=True):
    """The first line."""

    flowq_export: int
    app: str
    place: str
    """Names the keys that it was read from, through restarts and failovers of their server."""
    at: int
    """Unix ms."""
    namespace: str | None = None


class Footer(msgspec.Struct):
    """The last line; a file without it was cut off."""

    end: int
    """How many jobs there are."""


class Line(msgspec.Struct, omit_defaults=True):
    """One job. Exactly one of ``job`` and ``raw`` is there."""

    id: str
    type: str
    state: State
    due: int = 0
    """Unix ms; 0: not delayed."""
    job: msgspec.Raw = msgspec.Raw()
    """The envelope as it lay in Redis (docs/wire.md)."""
    raw: str = ""
    """Base64 of an entry that is no JSON on one line."""


class Incoming(msgspec.Struct):
    """A job as it is stored: its envelope names no id."""

    id: str
    type: str
    state: State
    due: int
    key: str
    envelope: bytes
    keeps_id: bool
    """False: what it holds cannot be read, so no id can be put into it."""


_read_header = msgspec.json.Decoder(Header).decode
_read_footer = msgspec.json.Decoder(Footer).decode
_read_line = msgspec.json.Decoder(Line).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Known(msgspec.Struct):
    """The fields of an envelope that storing it needs."""

    attempt: int = 1
    key: str = ""


_read_known = msgspec.json.Decoder(_Known).decode


def write(record: Header | Footer | Line) -> bytes:
    """A record as a line."""
    return msgspec.json.encode(record) + b"\n"


def line_of(job_id: str, lane: str, state: State, due: int, envelope: bytes) -> Line:
    """The line of a job whose envelope lies so in Redis."""
    if b"\n" not in envelope and b"\r" not in envelope:
        try:
            envelope.decode()
            _read_fields(envelope)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return Line(job_id, lane, state, due, job=msgspec.Raw(envelope))
    return Line(job_id, lane, state, due, raw=base64.b64encode(envelope).decode())


def read_header(line: bytes) -> Header:
    """The first line.

    Raises:
        BadLine: it is not one, or of a later version of flowq.
    """
    try:
        header = _read_header(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadLine('it does not begin as a file of flowq export does: {"flowq_export":1,…}') from None
    if header.flowq_export != VERSION:
        raise BadLine(
            f"it is of version {header.flowq_export}, this flowq reads version {VERSION}: use the flowq that wrote it"
        )
    return header


def read_line(line: bytes) -> Incoming | Footer:
    """A later line.

    Raises:
        BadLine: why it is none.
    """
    if line.startswith(b'{"end":'):
        try:
            return _read_footer(line)
        except msgspec.DecodeError as error:
            raise BadLine(str(error)) from None
    try:
        found = _read_line(line)
        envelope = bytes(found.job) or base64.b64decode(found.raw, validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, binascii.Error) as error:
        raise BadLine(why(error)) from None
    named = _ID.fullmatch(found.id)
    if named is None or named[1] != found.type or not is_name(found.type):
        raise BadLine(f"{found.id[:100]!r} is no id of a job of type {found.type[:100]!r}")
    if not envelope:
        raise BadLine("it has neither job nor raw")
    if (found.state == "delayed") is not (found.due > 0):
        raise BadLine("due belongs to a delayed job, and to no other")
    return _incoming(found, envelope, enqueued_at=int(named[2]))


def _incoming(found: Line, envelope: bytes, *, enqueued_at: int) -> Incoming:
    try:
        known = _read_known(envelope)
        fields = _read_fields(reencode(envelope, job_id="", attempt=known.attempt, enqueued_at=enqueued_at))
        del fields["id"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Undecodable):
        # it goes as it came, and a worker there makes a dead letter of it
        return Incoming(found.id, found.type, found.state, 0, "", envelope, keeps_id=False)
    return Incoming(
        found.id, found.type, found.state, found.due, known.key, msgspec.json.encode(fields), keeps_id=True
    )
