"""The peer's configuration, from the environment."""

import os
from pathlib import Path

DATABASE_URL = os.environ["PEER_DATABASE_URL"]
REDIS_PORT = int(os.environ["PEER_REDIS_PORT"])
STORAGE = Path(os.environ["PEER_STORAGE"])
PEPPER = os.environ["PEER_PEPPER"].encode()
MODEL = Path(os.environ.get("PEER_MODEL", "model.onnx"))
TESSDATA = os.environ.get("PEER_TESSDATA")

# By default FastAPI validates every response against its model; Imago builds responses without such a check.
VALIDATE_ANSWERS = os.environ.get("PEER_VALIDATE_ANSWERS") == "1"
STAGES = tuple(os.environ.get("PEER_STAGES", "exif,ocr,vision").split(","))
OCR_LANGUAGES = os.environ.get("PEER_OCR_LANGUAGES", "fra+eng")

# By default ARQ polls for jobs every half second, which would dominate its latency.
POLL_DELAY = float(os.environ.get("PEER_POLL_DELAY", "0.01"))
MAX_JOBS = int(os.environ.get("PEER_MAX_JOBS", "10"))
MAX_TRIES = 3
KEEP_RESULT = 120.0

MAX_UPLOAD_BYTES = int(os.environ.get("PEER_MAX_UPLOAD_MB", "50")) * 2**20
MAX_PIXELS = 50_000_000
POOL_SIZE = 20
POOL_TIMEOUT = 60.0

THUMBNAIL_SIDE = 512
THUMBNAIL_FORMAT = os.environ.get("PEER_THUMBNAIL_FORMAT", "webp")
THUMBNAIL_QUALITY = 80
