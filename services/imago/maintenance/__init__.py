"""What keeps the database and the streams in step: relay, reconciler, sweeper, advisory reader."""
