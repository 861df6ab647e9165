"""One program, one trace: the same operations on a reference model, on the memory backend, and on the shipped Lua on real servers.

What this room does: draws programs of protocol-level operations, runs each on every place in lockstep, and compares every reply and,
after every step, a dump of the state, with ids and fences replaced by names. Time and the server's identity are the test's.

::

    words      what a program says, and what a place answers     memory     the memory backend as a place
    model      the reference: jobs, tokens, owners, plainly       real       the shipped scripts on a real redis-server
    served     names for ids, for the two that have ids           program    operations drawn, run and compared

What it will not do: rings (``flowq.testing.conformance.doorbell`` holds both to them), faults of a connection and worker's rules
(``property_tests/lease``), every order of few operations (``property_tests/model``).

Where the places may differ, and what is done about it:

- *Ids and fences* are compared by name and by order.
- *The order of lanes* within a claim is nobody's promise (SMEMBERS on the one side, the lane after the last one on the other). A
  program says with which lane each claim begins, and no member serves more than two.
- *When an expiry is noticed*: by the memory backend at every call, by the scripts at each claim and join (every worker claims once a
  second). Here each step of time is followed by a claim of nobody.
- *Real time*: records, batch markers and hungry marks are kept by Redis's own expiry, which runs on the server's own clock, not on the
  test's. Programs are over long before, and a batch is sent again within its window only.
- *The hint* ``ready`` may be stale in Redis: a claim may look into a lane that has nothing, and then forgets that its member was hungry
  there. Stale hints are taken out before each claim.
- *Jobs due in the same millisecond* enter their stream in any order: no two here are.
- *Ids of a lost tail* may be given out again by a server whose clock stands behind: after a failover, time goes forward only.
- *A leave after the lease has ended* hands back uncounted, or leaves the entries to be adopted as crashed if its pool is gone with it
  in Redis: not drawn. So is ``extra`` room for lanes of sync tasks: no worker asks for it.
- *More than 100 due at once, or 50 dead entries ahead of the room*: Redis takes the rest in the next call; programs are smaller.
- *Changes of the lease TTL* are not drawn: ``tests/runtime/test_lease_ttl.py`` and the model have them.
- *Statistics* are Redis's alone; they are compared with the model's.
"""
