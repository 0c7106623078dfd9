"""The database: connections, tables, prepared statements and migrations, for PostgreSQL and SQLite."""
