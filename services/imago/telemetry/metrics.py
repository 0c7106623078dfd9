"""The metrics of Imago, by the conventions of Prometheus: all of them, in one place.

Labels are bounded: routes by their template, lanes with one label for all clients' own, and never a client. In
`imago dev` several processes share a directory (`PROMETHEUS_MULTIPROC_DIR`) and any of them can show all metrics.
"""

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

# From a cached read to a large upload over a slow line.
_HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# From a thumbnail to a slow provider.
_STAGE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# From a small model to the patience for a large one.
_AI_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
# From idle workers to a backlog of an hour.
_DONE_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

HTTP_REQUESTS = Counter("imago_http_requests_total", "HTTP requests, by route template.", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "imago_http_request_duration_seconds", "Time to answer a request.", ["method", "route"], buckets=_HTTP_BUCKETS
)
HTTP_IN_FLIGHT = Gauge("imago_http_requests_in_flight", "Requests being answered now.", multiprocess_mode="livesum")
UPLOADS = Counter("imago_uploads_total", "Uploads, by what became of them (201, or a problem's code).", ["outcome"])
UPLOAD_BYTES = Counter("imago_upload_bytes_total", "Bytes of accepted uploads.")

EVENT_LISTENERS = Gauge("imago_event_listeners", "Event streams that are open now.", multiprocess_mode="livesum")
EVENT_LISTENERS_DROPPED = Counter("imago_event_listeners_dropped_total", "Event streams ended for reading too slowly.")

STAGE_RUNS = Counter(
    "imago_stage_runs_total",
    "Tries of stages, by outcome: done, retrying, parked, dead, lost, released.",
    ["stage", "lane", "outcome"],
)
STAGE_SECONDS = Histogram(
    "imago_stage_duration_seconds", "Time a try of a stage took.", ["stage", "lane"], buckets=_STAGE_BUCKETS
)
STAGE_WAIT_SECONDS = Histogram(
    "imago_stage_wait_seconds", "Time from acceptance to a stage's first try.", ["stage", "lane"], buckets=_DONE_BUCKETS
)
JOBS_RUNNING = Gauge("imago_worker_jobs_running", "Jobs in work now.", ["worker"], multiprocess_mode="livesum")
DEAD_LETTERS = Counter("imago_dead_letters_total", "Stages that died.", ["stage", "error_code"])
DEAD_LETTERS_REPLAYED = Counter("imago_dead_letters_replayed_total", "Dead letters that were given a new run.")
CHILD_EXITS = Counter("imago_child_exits_total", "Child processes that ended by themselves, by cause.", ["cause"])
IMAGE_DONE_SECONDS = Histogram(
    "imago_image_done_seconds", "Time from acceptance until all stages ended.", ["lane"], buckets=_DONE_BUCKETS
)

AI_CALLS = Counter(
    "imago_ai_calls_total",
    "Requests to AI providers, by outcome: ok, invalid, blocked, refused, throttled, unavailable, misconfigured, "
    "error, timeout.",
    ["provider", "kind", "outcome"],
)
AI_CALL_SECONDS = Histogram(
    "imago_ai_call_duration_seconds",
    "Time a request to an AI provider took.",
    ["provider", "kind"],
    buckets=_AI_BUCKETS,
)
AI_TOKENS = Counter("imago_ai_tokens_total", "Tokens, as providers report them.", ["provider", "kind", "direction"])
AI_COST = Counter("imago_ai_cost_usd_total", "Cost in US dollars of calls with a known price.", ["provider", "kind"])
AI_UNPRICED_CALLS = Counter("imago_ai_unpriced_calls_total", "Calls whose price nobody knows.", ["provider", "kind"])
AI_INVALID_ANSWERS = Counter(
    "imago_ai_invalid_answers_total",
    "Answers that fit no schema, before the one repair and after.",
    ["provider", "kind"],
)
AI_FALLBACKS = Counter(
    "imago_ai_fallbacks_total", "Answers given by another provider than the first, by which.", ["kind", "provider"]
)
AI_BUDGET_EXHAUSTED = Counter(
    "imago_ai_budget_exhausted_total", "Calls that a client's monthly budget didn't allow.", ["kind", "policy"]
)
AI_BREAKER_OPEN = Gauge(
    "imago_ai_breaker_open",
    "Whether a provider is left alone for a while.",
    ["provider"],
    multiprocess_mode="mostrecent",
)
AI_BREAKER_BLIND = Counter(
    "imago_ai_breaker_blind_total",
    "Looks at breakers while their shared state was out of reach.",
)
OCR_FALLBACKS = Counter(
    "imago_ocr_fallbacks_total", "Pages read a second time, by the reading chosen: first, second, failed.", ["outcome"]
)

OUTBOX_OVERDUE = Gauge("imago_outbox_overdue", "Rows the relay should have published.", multiprocess_mode="mostrecent")
OUTBOX_PARKED = Gauge("imago_outbox_parked", "Rows that wait for their time.", multiprocess_mode="mostrecent")
OUTBOX_AGE = Gauge(
    "imago_outbox_oldest_overdue_seconds", "Age of the oldest overdue row.", multiprocess_mode="mostrecent"
)
PUBLISHED = Counter("imago_published_total", "Messages published, by who did it.", ["by", "kind"])
PUBLISH_DUPLICATES = Counter("imago_publish_duplicates_total", "Publications that JetStream dropped as duplicates.")
RECONCILED = Counter("imago_reconciled_total", "Stages that were published anew, by why.", ["reason"])
SWEPT = Counter("imago_swept_total", "What the sweeper cleared: intents, objects, keys.", ["kind"])
SWEEP_FAILURES = Counter("imago_sweep_failures_total", "Deletions of objects that failed and are tried again later.")
UNKNOWN_OBJECTS = Gauge(
    "imago_storage_unknown_objects", "Objects the database doesn't know.", multiprocess_mode="mostrecent"
)
MISSING_OBJECTS = Gauge(
    "imago_storage_missing_objects", "Objects that images need and storage lacks.", multiprocess_mode="mostrecent"
)
DATABASE_CONNECTIONS = Gauge(
    "imago_database_connections", "Connections of the pool in use.", multiprocess_mode="livesum"
)
RATE_LIMITED = Counter("imago_rate_limited_total", "Requests refused for coming too often, by whose they were.", ["of"])
RATE_FALLBACK = Counter(
    "imago_rate_limit_fallback_total", "Reads counted in this process alone, because the database was away."
)
CLIENTS_ERASED = Counter("imago_clients_erased_total", "Clients that were erased, with all that was theirs.")
FROZEN_SESSIONS = Counter(
    "imago_database_frozen_sessions_ended_total", "Sessions of processes that froze within a statement, ended by us."
)
BUS_CONNECTED = Gauge("imago_nats_connected", "Whether the process is connected to NATS.", multiprocess_mode="livemin")


def exposition() -> tuple[bytes, str]:
    """Return all metrics and their content type; of every process that shares the directory, where there is one."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_process(pid: int, directory: str | None) -> None:
    """Drop the live gauges that a process which ended left in the shared directory."""
    if directory is not None:
        mark_process_dead(pid, directory)


def clear_directory(directory: Path) -> None:
    """Remove what processes of an earlier start left; counters begin anew with the processes."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)
