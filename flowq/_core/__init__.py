"""Decisions: sync functions and small machines of (state, event, now).

What this room does: say what shall happen. Who retries and when, what an exception means for its job, when a renewal is due
and when a lease is over, how much work to ask for, how many tokens a lane has.

What it will not do: wait, read a clock, draw a random number, log, or talk to anybody. Times and draws come in as arguments, in
seconds and in [0, 1); so every rule here can be tried without a loop, a server or luck, and a simulation can drive it.

::

    retry      is it worth another attempt, and when      lease      renew, rest, or too late
    verdict    what an ending means                       prefetch   how much to ask for
    outcome    the ending as one value for the stream     limit      how many local tokens
    batch      what fits into one settle                  deadlines  which body is out of time
    reach      how much may wait for the event loop
"""
