"""Jobs in Apache Kafka: fresh ones wait in a topic for each task; Redis keeps leases, limits, timers, results and retries beside it."""
