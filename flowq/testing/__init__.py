"""For those who test with flowq, or write a place for jobs.

``conformance`` is the contract of a backend as checks that need no test framework; ``faults`` wraps a backend and makes it fail
in the ways in which the way to a server fails.
"""
