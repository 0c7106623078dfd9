"""The outbox: messages to publish on JetStream, added in the transaction that they report."""
