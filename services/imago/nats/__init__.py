"""JetStream: topology, publisher, consumer loop, dead letters, and the embedded server."""
