"""Real processes, real signals, a real redis-server; judged from the bodies' own log, never from flowq's counters."""
