"""Search by meaning: which concepts a query is about, by a text embedding that needs no network."""
