"""flowq on a real Apache Kafka broker, and on librdkafka's mock cluster where a fault is wanted that a real one gives to nobody on demand."""
