"""Places for jobs: what a queue is (``protocol``) and each one that there is (``redis``, ``memory``).

What this room does: keeps jobs, hands them out and takes outcomes back, by the contract in ``protocol``. What it will not do: run
a body, decide a retry, or know who waits for what.
"""
