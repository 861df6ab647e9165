"""Explicit-state model of the member lease: the rules of ``docs/lease-model.md``, searched breadth first.

What this package does: says the rules a second time, as small pure functions over tuples, and visits every state that workers,
faults and time can reach. What it will not do: run Lua, Redis or the runtime; the machines beside it do that.

Read ``world`` (what a row may switch on), ``state`` (the nouns), ``claim`` and ``scripts`` (the server's rules), ``worker`` and
``loop`` (the client's), ``surroundings`` (faults and time), ``spec`` (what must hold), ``check`` (the search), ``rows`` and
``mutants`` (what is run).
"""
