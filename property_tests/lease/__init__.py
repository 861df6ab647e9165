"""The lease machine: the shipped Lua on a real redis-server, with time, identity and faults under control.

``server`` runs the scripts, ``member`` is a worker without a loop, ``ledger`` is what we know by ourselves, ``checks`` are the
promises, ``world`` executes programs (lists of operations), ``machine`` draws them, ``mutants`` breaks the code on purpose.
"""
