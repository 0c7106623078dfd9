"""SQLAlchemy tables, queries, the outbox and the migrations, for PostgreSQL and SQLite."""
