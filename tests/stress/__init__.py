"""The chaos run, ``nox -s stress``: real processes, real signals, a real redis-server, judged by an independent witness.

What runs: ``worker`` (with the bodies of ``app``), ``producer``, ``server`` (redis-server), ``proxy`` (each worker's way to it) with ``wire`` (what its traps look for).
What hurts: ``plan`` (which faults, and when, from a seed), ``victims`` (whom), ``chaos`` (does it, and keeps the killer's log).
What judges: ``logbook`` (the log files), ``aof`` (outcomes as Redis wrote them to disk), ``witness`` and ``tokens`` (the verdict).
These import nothing of flowq. What shows: ``report`` (table and JSON), ``picture`` (SVG). Can it fail: ``broken``.
"""
