"""NATS JetStream: the connection, streams, publisher, consumers, shared breaker state and the embedded server."""
