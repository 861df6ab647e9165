"""Redis as a place for jobs.

What this room does: talks to one Redis (6.2 or newer) or Valkey, on trio and asyncio alike: an anyio byte stream with hiredis for
the protocol. ``url`` says where, ``dial`` opens the stream, ``connection`` is one thin link over it, ``channel`` shares a link between
many callers, ``blocking`` and ``listener`` own links that wait, ``script`` keeps the Lua, ``replies`` knows what each error reply
proves, ``embedded`` runs a private server.

What it will not do: send anything a second time on its own. A command has three outcomes (done, surely not done, unknown), and
only a reply that proves the second is ever followed by a resend (NOSCRIPT). Everything else is told to the caller as
``Unavailable`` or ``OutcomeUnknown``; client libraries that retry by themselves add an entry twice after a lost reply.

redis-py is used for what does not belong to asyncio: the synchronous client (with its automatic retry off) and its exceptions.
"""
