"""Whole workers in one trio loop under a virtual clock, behind bad lines; see docs/simulation.md.

::

    plan        what happens, as data              checker    what must hold of a history
    strategies  how Hypothesis draws a plan        history    what was seen from outside
    run         one simulation                     place      the witness at the server's door
    fleet       workers, and what befalls them     gate       freezes workers, counts steps, notes await points
    app         lanes and bodies                   points     all await points of the runtime
    lives       crash points of a job's lives      mutants    broken variants that must be caught
"""
