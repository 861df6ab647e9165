"""Apache Kafka carries fresh jobs; Redis stays for leases, limits, timers, results, retries and dead letters.

What this room does: produce, fetch, remember per partition what has been finished, commit that. ``tracker`` and ``offset_map`` decide
and wait for nothing; ``consumer`` owns the client. What it will not do: run a job, or look into a record.

Needs the extra ``trio-flowq[kafka]``; nothing else of flowq imports it before a broker's URL is given.
"""
