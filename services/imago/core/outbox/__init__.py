"""The outbox: messages that a transaction announces on JetStream."""
