"""Waiting: one file per child of the worker's tree, named by what it does.

What this room does: run bodies, keep the lease, talk to a place for jobs through ``backends.protocol``. What it will not do:
know which place it is, or decide what ``_core`` can decide.

::

    worker      the tree, and its public face       consumer   bodies, back to back (the hot path)
    shift       the inner nurseries, three endings  judge      what an ending means, written down
    assembly    who knows whom                      floor      the jobs in this worker's hands
    exchange    settle and claim, one turn at a     lanes      a lane as this worker sees it
                time; ends last                     threads    bodies of plain functions
    reconcile   agree with the server again         intake     how much to ask for, and when
    member      who this worker is, until when      reader     the doorbell
    keeper      renews, on a thread of its own      scheduler  what is due, whose lease ends
    watchdog    timeouts, deadline, pulse           control    cancellations from outside
    overrun     deadlines for the supervisor        clock      the one place with clocks
    nursery     one plain error, sheltered tasks    nudge      wake one sleeper
    events      what is said, by name               stats      what can be asked
    options     what was asked for                  failure    an exception as texts
    start       the first join, and its patience
"""
