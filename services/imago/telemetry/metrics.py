"""All metrics of Imago, by the conventions of Prometheus.

The values of labels are bounded: routes by their template, one label for all dedicated lanes, and only the clients in
`METRICS_CLIENTS`, with `other` for the rest. Observations have their trace as an exemplar, which the OpenMetrics format
includes. In `imago dev`, processes share a directory (`PROMETHEUS_MULTIPROC_DIR`), and each can expose the metrics of
all; the library stores no exemplars there.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from opentelemetry import trace
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from imago import __version__
from imago.core.ai_usage.model import BudgetPolicy, CallKind
from imago.core.jobs.stages import Stage
from imago.core.lanes.model import DEDICATED, SHARED_LANES, lane_label
from imago.core.lanes.worker_lanes import WorkerLanes

# The `_created` series would double the number of series, and no query uses them.
disable_created_metrics()

# From a cached read to a large upload over a slow connection.
_HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# From a thumbnail to a slow provider.
_STAGE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# From a small model to the timeout of a large one.
_AI_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
# From a small text model to the longest wait of a search.
_QUERY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30)
# From idle workers to a backlog of an hour.
_DONE_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
# From an idle connection to `DATABASE_TIMEOUT`.
_POOL_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)

# How child processes end: memory and CPU limits, crashes, and unhandled exceptions.
_CHILD_ENDS = ("SIGKILL", "SIGXCPU", "SIGSEGV", "SIGABRT", "SIGBUS", "exit 1")

# The label of all clients that are not in `METRICS_CLIENTS`.
OTHER = "other"

BUILD_INFO = Gauge(
    "imago_build_info",
    "Always 1, with the version and the kind of process as labels.",
    ["version", "process"],
    multiprocess_mode="livemax",
)

QUERY_READINGS = Counter(
    "imago_query_readings_total",
    "Queries read by a model (`concepts`, `embedding`), by outcome: read, busy (no model was free in time), failed.",
    ["model", "outcome"],
)
QUERY_SECONDS = Histogram(
    "imago_query_reading_duration_seconds",
    "Seconds until a query was read by a model, with its time in the queue; queries that were remembered don't count.",
    ["model"],
    buckets=_QUERY_BUCKETS,
)

HTTP_REQUESTS = Counter("imago_http_requests_total", "HTTP requests by route template.", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "imago_http_request_duration_seconds", "Duration of HTTP requests.", ["method", "route"], buckets=_HTTP_BUCKETS
)
HTTP_IN_FLIGHT = Gauge("imago_http_requests_in_flight", "HTTP requests in progress.", multiprocess_mode="livesum")
CONNECTIONS_CLOSED = Counter(
    "imago_connections_closed_total",
    "Connections closed because the client kept them waiting: no-header, slow-reader; or to make room: idle.",
    ["reason"],
)
CONNECTIONS_REFUSED = Counter("imago_connections_refused_total", "Connections beyond MAX_CONNECTIONS.")
MEMORY_HELD = Gauge(
    "imago_request_memory_bytes", "Memory held by requests in progress, as accounted.", multiprocess_mode="livesum"
)
MEMORY_LIMIT = Gauge("imago_request_memory_limit_bytes", "REQUEST_MEMORY_MB, in bytes.", multiprocess_mode="livesum")
MEMORY_REFUSED = Counter(
    "imago_request_memory_refused_total",
    "Requests refused for lack of memory, by what needed it, and by whose limit it was: client or process.",
    ["of", "limit"],
)
UPLOADS = Counter(
    "imago_uploads_total",
    "Uploads by outcome: accepted, replayed, or an error code.",
    ["outcome", "client"],
)
UPLOAD_BYTES = Counter("imago_upload_bytes_total", "Bytes of accepted uploads.")

EVENT_LISTENERS = Gauge("imago_event_listeners", "Open event streams.", multiprocess_mode="livesum")
EVENT_LISTENERS_DROPPED = Counter(
    "imago_event_listeners_dropped_total", "Event streams closed because the client read too slowly."
)

STAGE_RUNS = Counter(
    "imago_stage_runs_total",
    "Attempts of stages by outcome: done, retrying, parked, dead, lost, released.",
    ["stage", "lane", "outcome"],
)
STAGE_SECONDS = Histogram(
    "imago_stage_duration_seconds", "Duration of an attempt of a stage.", ["stage", "lane"], buckets=_STAGE_BUCKETS
)
STAGE_WAIT_SECONDS = Histogram(
    "imago_stage_wait_seconds",
    "Time from the acceptance of an image to the first attempt of a stage.",
    ["stage", "lane"],
    buckets=_DONE_BUCKETS,
)
JOBS_RUNNING = Gauge("imago_worker_jobs_running", "Jobs in progress.", ["worker"], multiprocess_mode="livesum")
STAGE_CAPACITY = Gauge(
    "imago_stage_capacity",
    "Job slots of the workers that serve a stage and lane; the stages and lanes of a worker share its slots.",
    ["stage", "lane"],
    multiprocess_mode="livesum",
)
JOBS_LIMIT = Gauge(
    "imago_worker_jobs_limit", "Maximum number of concurrent jobs.", ["worker"], multiprocess_mode="livesum"
)
DEAD_LETTERS = Counter("imago_dead_letters_total", "Stages that ended as a dead letter.", ["stage", "error_code"])
DEAD_LETTERS_REPLAYED = Counter("imago_dead_letters_replayed_total", "Dead letters that were replayed.")
CHILD_EXITS = Counter("imago_child_exits_total", "Child processes that ended unexpectedly, by cause.", ["cause"])

# The metrics collector reads these from the database and the streams, so that they exist while no worker runs.
IMAGES_DONE = Counter(
    "imago_images_done_total", "Images whose first run of all stages ended, by status.", ["client", "status"]
)
IMAGE_DONE_SECONDS = Histogram(
    "imago_image_done_seconds",
    "Time from the acceptance of an image until its first run of all stages ended.",
    ["lane", "client"],
    buckets=_DONE_BUCKETS,
)
QUEUE_MESSAGES = Gauge(
    "imago_queue_messages",
    "Messages of a stage in the streams: pending, or delivered and not acknowledged. KEDA scales by the sum.",
    ["stage", "lane", "state"],
    multiprocess_mode="mostrecent",
)
QUEUE_OLDEST = Gauge(
    "imago_queue_oldest_seconds",
    "Age of the oldest message waiting for a worker.",
    ["stage", "lane"],
    multiprocess_mode="mostrecent",
)
OPEN_STAGES = Gauge(
    "imago_open_stages",
    "Stages that have not ended: waiting, running, retrying, or parked until a provider's quota or a budget allows.",
    ["stage", "lane", "state"],
    multiprocess_mode="mostrecent",
)
CLIENT_OPEN_STAGES = Gauge(
    "imago_client_open_stages", "Stages of a client that have not ended.", ["client"], multiprocess_mode="mostrecent"
)
CLIENT_OLDEST = Gauge(
    "imago_client_oldest_open_seconds",
    "Age of a client's oldest message waiting for a worker.",
    ["client"],
    multiprocess_mode="mostrecent",
)
RECENT_DEAD_LETTERS = Gauge(
    "imago_dead_letters_last_hour",
    "Dead letters of the last hour that were not replayed.",
    ["stage", "error_code", "client"],
    multiprocess_mode="mostrecent",
)
QUOTA_USED = Gauge(
    "imago_client_quota_used_ratio",
    "Used fraction of a quota; for `other`, the highest among its clients.",
    ["client", "quota"],
    multiprocess_mode="mostrecent",
)
TASK_RUNS = Counter(
    "imago_chore_runs_total",
    "Runs of periodic maintenance tasks by outcome: done, waited (a dependency was unavailable), failed.",
    ["chore", "outcome"],
)
TASK_LAST_SUCCESS = Gauge(
    "imago_chore_last_success_timestamp_seconds",
    "Time of the last successful run of a maintenance task by this process.",
    ["chore"],
    multiprocess_mode="mostrecent",
)

AI_CALLS = Counter(
    "imago_ai_calls_total",
    "Requests to AI providers by outcome: ok, invalid, blocked, refused, throttled, unavailable, misconfigured, "
    "error, timeout.",
    ["provider", "kind", "outcome"],
)
AI_CALL_SECONDS = Histogram(
    "imago_ai_call_duration_seconds",
    "Duration of requests to AI providers.",
    ["provider", "kind"],
    buckets=_AI_BUCKETS,
)
AI_TOKENS = Counter("imago_ai_tokens_total", "Tokens reported by AI providers.", ["provider", "kind", "direction"])
AI_COST = Counter("imago_ai_cost_usd_total", "Cost in US dollars of calls with a known price.", ["provider", "kind"])
AI_UNPRICED_CALLS = Counter("imago_ai_unpriced_calls_total", "Calls with an unknown price.", ["provider", "kind"])
AI_INVALID_ANSWERS = Counter(
    "imago_ai_invalid_answers_total",
    "Responses that do not match the schema, before and after the single repair request.",
    ["provider", "kind"],
)
AI_FALLBACKS = Counter("imago_ai_fallbacks_total", "Responses from a fallback provider.", ["kind", "provider"])
AI_BUDGET_EXHAUSTED = Counter(
    "imago_ai_budget_exhausted_total",
    "Calls rejected or parked because a client's monthly budget is exhausted.",
    ["kind", "policy"],
)
AI_BREAKER_OPEN = Gauge(
    "imago_ai_breaker_open",
    "Whether a provider's circuit breaker is open.",
    ["provider"],
    multiprocess_mode="mostrecent",
)
AI_BREAKER_BLIND = Counter(
    "imago_ai_breaker_blind_total",
    "Uses of a breaker's local copy because its shared state was unavailable.",
)
OCR_READINGS = Counter(
    "imago_ocr_readings_total",
    "Images whose text was read, by the engine whose reading was chosen.",
    ["engine"],
)
MODERATION_SCORES = Histogram(
    "imago_moderation_scores",
    "Moderation scores of images, 0 to 1; only with MODERATION=score.",
    buckets=(0.1, 0.3, 0.5, 0.8, 1),
)
OCR_FALLBACKS = Counter(
    "imago_ocr_fallbacks_total",
    "Pages that OCR read a second time, by the reading used: first, second, failed.",
    ["outcome"],
)

OUTBOX_OVERDUE = Gauge(
    "imago_outbox_overdue", "Outbox rows that are overdue for publication.", multiprocess_mode="mostrecent"
)
OUTBOX_PARKED = Gauge(
    "imago_outbox_parked", "Outbox rows that wait until they are due.", multiprocess_mode="mostrecent"
)
OUTBOX_AGE = Gauge(
    "imago_outbox_oldest_overdue_seconds", "Age of the oldest overdue outbox row.", multiprocess_mode="mostrecent"
)
PUBLISHED = Counter("imago_published_total", "Messages published, by publisher and kind.", ["by", "kind"])
PUBLISH_DUPLICATES = Counter("imago_publish_duplicates_total", "Messages that JetStream dropped as duplicates.")
RECONCILED = Counter("imago_reconciled_total", "Stages whose message was republished, by reason.", ["reason"])
REPROCESSED_IMAGES = Counter(
    "imago_reprocessed_images_total", "Images that reprocess jobs queued, and whose runs have ended.", ["outcome"]
)
REPROCESS_JOBS = Gauge(
    "imago_reprocess_jobs",
    "Reprocess jobs that are not completed, by phase.",
    ["phase"],
    multiprocess_mode="mostrecent",
)
REPROCESS_REMAINING = Gauge(
    "imago_reprocess_remaining_images",
    "Images of running reprocess jobs whose runs have not ended, including those not queued yet.",
    multiprocess_mode="mostrecent",
)
REPROCESS_STALLED = Gauge(
    "imago_reprocess_stalled_seconds",
    "Longest time since a running reprocess job queued an image or one of its images ended.",
    multiprocess_mode="mostrecent",
)
CLEANED_UP = Counter(
    "imago_swept_total", "Items deleted by the object cleaner: intents, objects, idempotency-keys, rates.", ["kind"]
)
OBJECT_DELETION_FAILURES = Counter(
    "imago_sweep_failures_total", "Deletions of objects that failed and will be retried."
)
UNKNOWN_OBJECTS = Gauge(
    "imago_storage_unknown_objects", "Stored objects that are not in the database.", multiprocess_mode="mostrecent"
)
MISSING_OBJECTS = Gauge(
    "imago_storage_missing_objects", "Objects of images that are missing in storage.", multiprocess_mode="mostrecent"
)
DATABASE_CONNECTIONS = Gauge("imago_database_connections", "Database connections in use.", multiprocess_mode="livesum")
DATABASE_CONNECTIONS_LIMIT = Gauge(
    "imago_database_connections_limit", "Maximum size of the database connection pool.", multiprocess_mode="livesum"
)
DATABASE_WAIT_SECONDS = Histogram(
    "imago_database_connection_wait_seconds",
    "Time to check out a database connection from the pool.",
    buckets=_POOL_BUCKETS,
)
RATE_LIMITED = Counter("imago_rate_limited_total", "Requests rejected by a rate limit, by its subject.", ["of"])
RATE_FALLBACK = Counter(
    "imago_rate_limit_fallback_total",
    "Reads rate-limited only within this process because the database was unavailable.",
)
CLIENTS_ERASED = Counter("imago_clients_erased_total", "Clients erased with all of their data.")
FROZEN_SESSIONS = Counter(
    "imago_database_frozen_sessions_ended_total",
    "Database sessions ended because their process froze inside a statement.",
)
NATS_CONNECTED = Gauge(
    "imago_nats_connected", "Whether a process is connected to NATS.", ["process"], multiprocess_mode="livemin"
)

_named_clients: frozenset[str] = frozenset()


def set_client_labels(names: Iterable[str]) -> None:
    """Set the clients of this process that have their own label."""
    global _named_clients
    _named_clients = frozenset(names)


def client_label(name: str) -> str:
    """Return the label of a client: its name, or `other`."""
    return name if name in _named_clients else OTHER


def client_labels() -> tuple[str, ...]:
    """Return all possible labels of clients."""
    return (*sorted(_named_clients), OTHER)


def exemplar() -> dict[str, str] | None:
    """Return the current trace as an exemplar, or None if it is not sampled."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.is_valid and context.trace_flags.sampled else None


def set_build_info(process: str) -> None:
    """Set the build information of this process."""
    BUILD_INFO.labels(__version__, process).set(1)


def init_api_series() -> None:
    """Create the API's series with the value 0, as `init_maintenance_series` does."""
    for of in ("body", "response", "upload", "page"):
        for limit in ("client", "process"):
            MEMORY_REFUSED.labels(of, limit)
    for reason in ("no-header", "slow-reader", "idle"):
        CONNECTIONS_CLOSED.labels(reason)
    for subject in ("client", "address"):
        RATE_LIMITED.labels(subject)
    for status in ("201", "500", "503"):
        HTTP_REQUESTS.labels("POST", "/images/upload", status)
    for kind in (CallKind.SUMMARIZE, CallKind.DRAFT_TASK):
        for policy in BudgetPolicy:
            AI_BUDGET_EXHAUSTED.labels(kind, policy)


def init_maintenance_series(tasks: Iterable[str]) -> None:
    """Create the maintenance series with the value 0: `increase()` misses a series' first increment otherwise."""
    for task in tasks:
        for outcome in ("done", "waited", "failed"):
            TASK_RUNS.labels(task, outcome)
    for reason in ("message-missing", "deliveries-used-up", "given-up", "lane-changed"):
        RECONCILED.labels(reason)
    for client in client_labels():
        UPLOADS.labels("accepted", client)


def init_worker_series(worker: str, stages: Iterable[Stage], *, jobs: int, lanes: WorkerLanes) -> None:
    """Set the capacity of a worker by stage and lane, and create its other series with the value 0."""
    for cause in _CHILD_ENDS:
        CHILD_EXITS.labels(cause)
    if worker in tuple(CallKind):
        for policy in BudgetPolicy:
            AI_BUDGET_EXHAUSTED.labels(worker, policy)
    if worker == Stage.OCR:
        for outcome in ("first", "second", "failed"):
            OCR_FALLBACKS.labels(outcome)
    JOBS_LIMIT.labels(worker).set(jobs)
    JOBS_RUNNING.labels(worker).set(0)
    served = {lane_label(lane) for lane in lanes.named} | ({DEDICATED} if lanes.any_dedicated else set())
    for stage in stages:
        for lane in served:
            STAGE_CAPACITY.labels(stage, lane).set(jobs)
        for lane in (*SHARED_LANES, DEDICATED):
            STAGE_SECONDS.labels(stage, lane)
            STAGE_WAIT_SECONDS.labels(stage, lane)
            for outcome in ("done", "retrying", "parked", "dead", "lost", "released"):
                STAGE_RUNS.labels(stage, lane, outcome)


def exposition(accept: str = "") -> tuple[bytes, str]:
    """Return all metrics in the format that the Accept header selects, and their content type.

    With `PROMETHEUS_MULTIPROC_DIR`, they are those of all processes that share the directory.
    """
    encode, content_type = choose_encoder(accept)
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        return encode(REGISTRY), content_type
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)
    return encode(registry), content_type


def remove_process(pid: int, directory: str | None) -> None:
    """Remove the live gauges of a process that has ended from the shared directory."""
    if directory is not None:
        mark_process_dead(pid, directory)


def clear_directory(directory: Path) -> None:
    """Delete the files of an earlier start, so that counters start at 0 with their processes."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)
