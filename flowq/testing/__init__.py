"""For those who test with flowq, or write a place for jobs.

``worker`` runs an app with a real worker and no server; ``as_job`` lets a body be called directly. ``conformance`` is the contract
of a backend as checks that need no test framework; ``faults`` wraps a backend and makes it fail in the ways in which the way to a
server fails.
"""

from flowq.testing.as_job import as_job
from flowq.testing.recorder import DeadJob, EnqueuedJob
from flowq.testing.worker import MemoryWorker, worker

__all__ = ["DeadJob", "EnqueuedJob", "MemoryWorker", "as_job", "worker"]
