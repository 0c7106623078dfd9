"""The peer: the design that Imago replaces, written as well as its parts allow, to be measured against.

FastAPI on uvicorn, SQLAlchemy's async ORM on PostgreSQL, ARQ on Redis, a thumbnail made by Pillow during the upload,
OCR by pytesseract, EXIF by piexif. It has an environment of its own and imports nothing of Imago's. What both systems
promise to a client is the same (`bench.checks` asks both): the same refusals, limits, answers and fsyncs. What it
lacks by design, and isn't charged for: an outbox (a crash between commit and enqueue loses the job), row-level
security, idempotency keys, events.
"""
