"""The peer: a tuned implementation of the design that Imago replaces, as the baseline of the benchmark.

It uses FastAPI on uvicorn, SQLAlchemy's async ORM on PostgreSQL, ARQ on Redis, Pillow for thumbnails during the upload,
pytesseract for OCR and piexif for EXIF. It has a separate environment and imports nothing from Imago. Both systems make
the same promises to a client, which `bench.checks` verifies: errors, limits, responses and fsyncs. By design it has no
outbox (a crash between commit and enqueue loses the job), row-level security, idempotency keys or events.
"""
