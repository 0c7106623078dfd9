"""The metrics of Imago, by the conventions of Prometheus: all of them, in one place.

Labels are bounded: routes by their template, lanes with one label for all clients' own, and clients by the names in
`METRICS_CLIENTS` alone, all others together as `other`. Observations carry the trace they belong to as an exemplar,
which OpenMetrics shows. In `imago dev` several processes share a directory (`PROMETHEUS_MULTIPROC_DIR`) and any of them
can show all metrics; there the library keeps no exemplars.
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

# They would double the series for the time each began at, which no query of ours asks for.
disable_created_metrics()

# From a cached read to a large upload over a slow line.
_HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# From a thumbnail to a slow provider.
_STAGE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# From a small model to the patience for a large one.
_AI_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
# From idle workers to a backlog of an hour.
_DONE_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
# From a free connection to `DATABASE_TIMEOUT`.
_POOL_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)

# What ends child processes: the kernel for their memory or CPU time, their own crashes, and errors of ours.
_CHILD_ENDS = ("SIGKILL", "SIGXCPU", "SIGSEGV", "SIGABRT", "SIGBUS", "exit 1")

# The label of all clients that have none of their own.
OTHER = "other"

BUILD_INFO = Gauge(
    "imago_build_info",
    "1, with the version and the kind of process.",
    ["version", "process"],
    multiprocess_mode="livemax",
)

HTTP_REQUESTS = Counter("imago_http_requests_total", "HTTP requests, by route template.", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "imago_http_request_duration_seconds", "Time to answer a request.", ["method", "route"], buckets=_HTTP_BUCKETS
)
HTTP_IN_FLIGHT = Gauge("imago_http_requests_in_flight", "Requests being answered now.", multiprocess_mode="livesum")
UPLOADS = Counter(
    "imago_uploads_total",
    "Uploads, by what became of them (accepted, replayed, or a problem's code).",
    ["outcome", "client"],
)
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
STAGE_CAPACITY = Gauge(
    "imago_stage_capacity",
    "Job slots of the workers that serve a stage and lane; stages and lanes of a worker share them.",
    ["stage", "lane"],
    multiprocess_mode="livesum",
)
JOBS_LIMIT = Gauge(
    "imago_worker_jobs_limit", "Jobs that may be in work at once.", ["worker"], multiprocess_mode="livesum"
)
DEAD_LETTERS = Counter("imago_dead_letters_total", "Stages that died.", ["stage", "error_code"])
DEAD_LETTERS_REPLAYED = Counter("imago_dead_letters_replayed_total", "Dead letters that were given a new run.")
CHILD_EXITS = Counter("imago_child_exits_total", "Child processes that ended by themselves, by cause.", ["cause"])

# What the observer reads from the database and the streams, so that it shows while no worker runs.
IMAGES_DONE = Counter(
    "imago_images_done_total", "Images whose first pass ended, by their status.", ["client", "status"]
)
IMAGE_DONE_SECONDS = Histogram(
    "imago_image_done_seconds",
    "Time from acceptance until all stages ended, of first passes.",
    ["lane", "client"],
    buckets=_DONE_BUCKETS,
)
QUEUE_MESSAGES = Gauge(
    "imago_queue_messages",
    "Messages of a stage in the streams: pending, or delivered and not settled; the sum is what KEDA scales by.",
    ["stage", "lane", "state"],
    multiprocess_mode="mostrecent",
)
QUEUE_OLDEST = Gauge(
    "imago_queue_oldest_seconds",
    "Age of the oldest message that waits for a worker.",
    ["stage", "lane"],
    multiprocess_mode="mostrecent",
)
OPEN_STAGES = Gauge(
    "imago_open_stages",
    "Stages that aren't over: waiting, running, retrying, or parked until a provider's quota or a budget allows.",
    ["stage", "lane", "state"],
    multiprocess_mode="mostrecent",
)
CLIENT_OPEN_STAGES = Gauge(
    "imago_client_open_stages", "Stages of a client that aren't over.", ["client"], multiprocess_mode="mostrecent"
)
CLIENT_OLDEST = Gauge(
    "imago_client_oldest_open_seconds",
    "Age of a client's oldest message that waits for a worker.",
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
    "Part of a quota that is used; of the clients without a label, the one that uses most.",
    ["client", "quota"],
    multiprocess_mode="mostrecent",
)
TASK_RUNS = Counter(
    "imago_chore_runs_total", "Turns of the upkeep's chores: done, waited, failed.", ["chore", "outcome"]
)
TASK_LAST_SUCCESS = Gauge(
    "imago_chore_last_success_timestamp_seconds",
    "When a chore was last done by this process.",
    ["chore"],
    multiprocess_mode="mostrecent",
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
CLEANED_UP = Counter("imago_swept_total", "What the sweeper cleared: intents, objects, keys.", ["kind"])
OBJECT_DELETION_FAILURES = Counter(
    "imago_sweep_failures_total", "Deletions of objects that failed and are tried again later."
)
UNKNOWN_OBJECTS = Gauge(
    "imago_storage_unknown_objects", "Objects the database doesn't know.", multiprocess_mode="mostrecent"
)
MISSING_OBJECTS = Gauge(
    "imago_storage_missing_objects", "Objects that images need and storage lacks.", multiprocess_mode="mostrecent"
)
DATABASE_CONNECTIONS = Gauge(
    "imago_database_connections", "Connections of the pool in use.", multiprocess_mode="livesum"
)
DATABASE_CONNECTIONS_LIMIT = Gauge(
    "imago_database_connections_limit", "Connections that the pool may open.", multiprocess_mode="livesum"
)
DATABASE_WAIT_SECONDS = Histogram(
    "imago_database_connection_wait_seconds", "Time until the pool gave a connection.", buckets=_POOL_BUCKETS
)
RATE_LIMITED = Counter("imago_rate_limited_total", "Requests refused for coming too often, by whose they were.", ["of"])
RATE_FALLBACK = Counter(
    "imago_rate_limit_fallback_total", "Reads counted in this process alone, because the database was away."
)
CLIENTS_ERASED = Counter("imago_clients_erased_total", "Clients that were erased, with all that was theirs.")
FROZEN_SESSIONS = Counter(
    "imago_database_frozen_sessions_ended_total", "Sessions of processes that froze within a statement, ended by us."
)
NATS_CONNECTED = Gauge(
    "imago_nats_connected", "Whether the process is connected to NATS.", ["process"], multiprocess_mode="livemin"
)

_named_clients: frozenset[str] = frozenset()


def set_client_labels(names: Iterable[str]) -> None:
    """Give these clients a label of their own, from now on and for the whole process."""
    global _named_clients
    _named_clients = frozenset(names)


def client_label(name: str) -> str:
    """Return the label of a client."""
    return name if name in _named_clients else OTHER


def client_labels() -> tuple[str, ...]:
    """Return all labels that clients can have."""
    return (*sorted(_named_clients), OTHER)


def exemplar() -> dict[str, str] | None:
    """Return the present trace for an observation to point to, where it is being recorded."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.is_valid and context.trace_flags.sampled else None


def set_build_info(process: str) -> None:
    """Tell that a process of a kind is there, before anything has happened in it."""
    BUILD_INFO.labels(__version__, process).set(1)


def init_api_series() -> None:
    """Show the counters that an API's alerts look at from zero on, as `announce_upkeep` does."""
    for status in ("201", "500", "503"):
        HTTP_REQUESTS.labels("POST", "/images/upload", status)
    for kind in (CallKind.SUMMARIZE, CallKind.DRAFT_TASK):
        for policy in BudgetPolicy:
            AI_BUDGET_EXHAUSTED.labels(kind, policy)


def init_maintenance_series(chores: Iterable[str]) -> None:
    """Show the counters of a process with upkeep from zero on: a rate begins with the second value that is seen."""
    for chore in chores:
        for outcome in ("done", "waited", "failed"):
            TASK_RUNS.labels(chore, outcome)
    for reason in ("message-missing", "deliveries-used-up", "given-up", "lane-changed"):
        RECONCILED.labels(reason)
    for client in client_labels():
        UPLOADS.labels("accepted", client)


def init_worker_series(worker: str, stages: Iterable[Stage], *, jobs: int, lanes: WorkerLanes) -> None:
    """Show how much a worker may do and for which lanes, and its counters from zero on."""
    for cause in _CHILD_ENDS:
        CHILD_EXITS.labels(cause)
    if worker in tuple(CallKind):
        for policy in BudgetPolicy:
            AI_BUDGET_EXHAUSTED.labels(worker, policy)
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
    """Return all metrics in the format that an Accept header asks for, and their content type.

    Of every process that shares the directory, where there is one.
    """
    encode, content_type = choose_encoder(accept)
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        return encode(REGISTRY), content_type
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)
    return encode(registry), content_type


def remove_process(pid: int, directory: str | None) -> None:
    """Drop the live gauges that a process which ended left in the shared directory."""
    if directory is not None:
        mark_process_dead(pid, directory)


def clear_directory(directory: Path) -> None:
    """Remove what processes of an earlier start left; counters begin anew with the processes."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("*.db"):
        file.unlink(missing_ok=True)
