"""The panels of the Grafana dashboards: their queries, units and descriptions."""

from collections.abc import Sequence
from dataclasses import dataclass

# In the title of panels that need kube-state-metrics; all other metrics are Imago's.
KUBE_STATE_METRICS = "(kube-state-metrics)"


@dataclass(frozen=True)
class Panel:
    """One panel: its queries with their legends, the unit as Grafana names it, and a description for the reader."""

    title: str
    unit: str
    description: str
    queries: Sequence[tuple[str, str]]
    stack: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: panels by the title of their row."""

    name: str
    title: str
    description: str
    rows: dict[str, Sequence[Panel]]
    by_client: bool = False


def _of(metric: str, *matchers: str) -> str:
    return metric + "{" + ",".join(('namespace=~"$namespace"', *matchers)) + "}"


def _rate(metric: str, by: str, *matchers: str) -> str:
    return f"sum by ({by}) (rate({_of(metric, *matchers)}[$__rate_interval]))"


def _quantile(quantile: float, metric: str, by: str, *matchers: str) -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, *matchers)})"


def _latest(metric: str, by: str, *matchers: str) -> str:
    """Query a metric that one process emits for all; for a moment after the lease changes hands, two processes do."""
    return f"max by ({by}) ({_of(metric, *matchers)})"


def _total(metric: str, by: str, *matchers: str) -> str:
    return f"sum by ({by}) ({_of(metric, *matchers)})"


_BELOW_HALF = 'le="0.5"'

DONE_P50 = Panel(
    "Upload to done, median by lane",
    "s",
    "Half of the images were done within this time after the upload; only first runs.",
    [(_quantile(0.5, "imago_image_done_seconds", "lane"), "{{lane}}")],
)
DONE_P95 = Panel(
    "Upload to done, 95th percentile by lane",
    "s",
    "Time of the slowest of twenty images. One high lane: its backlog; all lanes high: a slow stage.",
    [(_quantile(0.95, "imago_image_done_seconds", "lane"), "{{lane}}")],
)
OPEN_WORK = Panel(
    "Waiting and working, by stage and lane",
    "short",
    "Stages that have not ended. Many waiting, few running: too few workers; parked: a provider's quota or a budget.",
    [(_latest("imago_open_stages", "stage, lane, state") + " > 0", "{{stage}} {{lane}} {{state}}")],
    stack=True,
)
QUEUE_AGE = Panel(
    "Oldest waiting message, by stage and lane",
    "s",
    "How long the next message of each queue has waited for a worker; parked work is not counted.",
    [(_latest("imago_queue_oldest_seconds", "stage, lane"), "{{stage}} {{lane}}")],
)
LAG = Panel(
    "Queue lag, by stage and lane",
    "short",
    "Sum of pending and delivered messages, by which KEDA scales the workers.",
    [
        (
            f"sum by (stage, lane) ({_latest('imago_queue_messages', 'stage, lane, state')})",
            "{{stage}} {{lane}}",
        )
    ],
)
CAPACITY = Panel(
    "Worker capacity",
    "short",
    "Running jobs and their limit. At the limit with a lag: more workers are needed, or a stage is slow.",
    [
        (_total("imago_worker_jobs_running", "worker"), "{{worker}} running"),
        (_total("imago_worker_jobs_limit", "worker"), "{{worker}} limit"),
    ],
)
REPLICAS = Panel(
    f"Worker pods {KUBE_STATE_METRICS}",
    "short",
    "Ready and requested pods: a gap is a pod that can't be scheduled or doesn't become ready.",
    [
        (_total("kube_deployment_status_replicas_ready", "deployment", 'deployment=~".*-worker-.*"'), "{{deployment}}"),
        (
            _total("kube_deployment_spec_replicas", "deployment", 'deployment=~".*-worker-.*"'),
            "{{deployment}} requested",
        ),
    ],
)
STAGE_P95 = Panel(
    "Time in a stage, 95th percentile",
    "s",
    "Duration of one attempt. High here: the stage itself is slow, not the queue.",
    [(_quantile(0.95, "imago_stage_duration_seconds", "stage"), "{{stage}}")],
)
WAIT_P95 = Panel(
    "Wait for a stage, 95th percentile",
    "s",
    "From the upload to a stage's first attempt. High here and not in the stage: too few workers, or none.",
    [(_quantile(0.95, "imago_stage_wait_seconds", "stage, lane"), "{{stage}} {{lane}}")],
)
OUTBOX = Panel(
    "Outbox, oldest overdue row",
    "s",
    "Age of accepted work that is not published yet. Above seconds: the relay or NATS is unavailable.",
    [(f"max({_of('imago_outbox_oldest_overdue_seconds')})", "oldest overdue")],
)
DEAD = Panel(
    "Dead letters of the last hour",
    "short",
    "Dead letters that were not replayed, by error and client.",
    [(_latest("imago_dead_letters_last_hour", "stage, error_code, client"), "{{stage}} {{error_code}} {{client}}")],
)
API_RATE = Panel(
    "API requests, by route",
    "reqps",
    "Requests a second, by the route's template.",
    [(_rate("imago_http_requests_total", "method, route"), "{{method}} {{route}}")],
)
_RESPONSES = f"sum(rate({_of('imago_http_requests_total')}[$__rate_interval]))"
API_ERRORS = Panel(
    "API error responses",
    "percentunit",
    "Share of responses that were 5xx (server errors) and 4xx (client errors).",
    [
        (
            _RESPONSES.replace("}", f',status=~"{digit}.."}}', 1) + f" / {_RESPONSES}",
            f"{digit}xx",
        )
        for digit in (5, 4)
    ],
)
API_P95 = Panel(
    "API duration, 95th percentile by route",
    "s",
    "Response time. Slow everywhere: the database or its pool; only uploads slow: storage or the client's connection.",
    [(_quantile(0.95, "imago_http_request_duration_seconds", "method, route"), "{{method}} {{route}}")],
)
TOP_OPEN = Panel(
    "Clients with the most open work",
    "short",
    "Stages that have not ended, by client. Clients that METRICS_CLIENTS does not name are `other`.",
    [(f"topk(10, {_latest('imago_client_open_stages', 'client')})", "{{client}}")],
)
TOP_OLDEST = Panel(
    "Clients that wait longest",
    "s",
    "Age of each client's oldest message that waits for a worker.",
    [(f"topk(10, {_latest('imago_client_oldest_open_seconds', 'client')})", "{{client}}")],
)
TOP_QUOTA = Panel(
    "Clients nearest to a quota",
    "percentunit",
    "Used share of a quota; at 1 uploads are rejected. `other` shows the fullest of the clients without a label.",
    [(f"topk(10, {_latest('imago_client_quota_used_ratio', 'client, quota')})", "{{client}} {{quota}}")],
)

OVERVIEW = Dashboard(
    "overview",
    "Imago / Overview",
    "What is slow, and for whom: read from top to bottom.",
    {
        "Is it slow?": [DONE_P50, DONE_P95, API_P95],
        "Where does the time go?": [OPEN_WORK, QUEUE_AGE, LAG, CAPACITY, STAGE_P95, WAIT_P95],
        "For whom?": [TOP_OPEN, TOP_OLDEST, TOP_QUOTA],
        "Is something broken?": [API_RATE, API_ERRORS, OUTBOX, DEAD, REPLICAS],
    },
)

PIPELINE = Dashboard(
    "pipeline",
    "Imago / Pipeline",
    "Stages, queues, publication and maintenance in detail.",
    {
        "Stages": [
            Panel(
                "Attempts, by outcome",
                "ops",
                "Attempts a second; lost: lease expired; released: infrastructure error, or worker stopping.",
                [(_rate("imago_stage_runs_total", "stage, outcome"), "{{stage}} {{outcome}}")],
            ),
            STAGE_P95,
            WAIT_P95,
        ],
        "Queues": [OPEN_WORK, QUEUE_AGE, LAG, CAPACITY, REPLICAS, DEAD],
        "Text, recognition and search": [
            Panel(
                "Text read, by engine",
                "ops",
                "Images a second by the engine whose reading was chosen; many second readings cost CPU time.",
                [
                    (_rate("imago_ocr_readings_total", "engine"), "{{engine}}"),
                    (_rate("imago_ocr_fallbacks_total", "outcome"), "read twice, used: {{outcome}}"),
                ],
            ),
            Panel(
                "Queries read by a model, 95th percentile",
                "s",
                "With the time in the queue; near 3 s, searches begin to do without the model.",
                [(_quantile(0.95, "imago_query_reading_duration_seconds", "model"), "{{model}}")],
            ),
            Panel(
                "Queries read by a model, by outcome",
                "ops",
                "busy: no model was free in time; failed: see the log events search.…-failed.",
                [(_rate("imago_query_readings_total", "model, outcome"), "{{model}} {{outcome}}")],
            ),
            Panel(
                "Images scored 0.5 or more by moderation",
                "percentunit",
                "Share of the scored images; no data without MODERATION=score.",
                [
                    (
                        f"1 - sum(rate({_of('imago_moderation_scores_bucket', _BELOW_HALF)}[$__rate_interval]))"
                        f" / sum(rate({_of('imago_moderation_scores_count')}[$__rate_interval]))",
                        "0.5 or more",
                    )
                ],
            ),
            Panel(
                "Stage embed: waiting messages and oldest",
                "short",
                "Only with a model (EMBED_MODEL_DIR). Messages by lane, and the seconds that the oldest has waited.",
                [
                    (_latest("imago_queue_messages", "lane, state", 'stage="embed"'), "{{lane}} {{state}}"),
                    (_latest("imago_queue_oldest_seconds", "lane", 'stage="embed"'), "{{lane}} oldest, s"),
                ],
            ),
        ],
        "Publication and maintenance": [
            OUTBOX,
            Panel(
                "Outbox rows",
                "short",
                "Rows that the relay should have published, and parked rows.",
                [
                    (f"max({_of('imago_outbox_overdue')})", "overdue"),
                    (f"max({_of('imago_outbox_parked')})", "parked"),
                ],
            ),
            Panel(
                "Publications",
                "ops",
                "Messages published a second, by publisher; only the relay: the fast path fails.",
                [(_rate("imago_published_total", "by, kind"), "{{by}} {{kind}}")],
            ),
            Panel(
                "Stages published again",
                "ops",
                "Findings of the reconciler; any reason but a changed lane means that messages were lost.",
                [(_rate("imago_reconciled_total", "reason"), "{{reason}}")],
            ),
            Panel(
                "Maintenance tasks, by outcome",
                "ops",
                "Runs of periodic tasks: done, left to another process, failed.",
                [(_rate("imago_chore_runs_total", "chore, outcome"), "{{chore}} {{outcome}}")],
            ),
            Panel(
                "Reprocess jobs",
                "short",
                "Images of running jobs that are not finished, images queued and ended a minute, and unfinished jobs.",
                [
                    (f"max({_of('imago_reprocess_remaining_images')})", "remaining images"),
                    (f"60 * {_rate('imago_reprocessed_images_total', 'outcome')}", "{{outcome}} a minute"),
                    (f"max by (phase) ({_of('imago_reprocess_jobs')})", "{{phase}} jobs"),
                ],
            ),
            Panel(
                "Connected to NATS",
                "bool",
                "0 if a process of this kind has no connection.",
                [(f"min by (process) ({_of('imago_nats_connected')})", "{{process}}")],
            ),
            Panel(
                "Database connections",
                "short",
                "Connections in use, and the limit of the pools.",
                [
                    (f"sum({_of('imago_database_connections')})", "in use"),
                    (f"sum({_of('imago_database_connections_limit')})", "limit"),
                ],
            ),
            Panel(
                "Wait for a database connection, 95th percentile",
                "s",
                "Above milliseconds: the pool is too small or statements are slow.",
                [(_quantile(0.95, "imago_database_connection_wait_seconds", ""), "p95")],
            ),
            Panel(
                "Inconsistent objects",
                "short",
                "Objects without an image, and objects of images that are missing in storage.",
                [
                    (f"max({_of('imago_storage_unknown_objects')})", "unknown"),
                    (f"max({_of('imago_storage_missing_objects')})", "missing"),
                ],
            ),
        ],
        "Limits": [
            Panel(
                "Memory of requests, by API pod",
                "percentunit",
                "Share of REQUEST_MEMORY_MB that requests in progress hold. One client alone gets at most two thirds.",
                [
                    (
                        f"{_total('imago_request_memory_bytes', 'instance')}"
                        f" / {_total('imago_request_memory_limit_bytes', 'instance')}",
                        "{{instance}}",
                    )
                ],
            ),
            Panel(
                "Requests and connections refused by limits",
                "reqps",
                "Refusals a second. client: its share is used up; process, connections: add pods, or raise the limit.",
                [
                    (_rate("imago_request_memory_refused_total", "of, limit"), "memory of a {{of}}, by {{limit}}"),
                    (f"sum(rate({_of('imago_connections_refused_total')}[$__rate_interval]))", "connections"),
                    (_rate("imago_rate_limited_total", "of"), "rate of a {{of}}"),
                ],
            ),
            Panel(
                "Connections closed, by reason",
                "ops",
                "no-header and slow-reader: the client kept the server waiting; idle: closed to make room.",
                [(_rate("imago_connections_closed_total", "reason"), "{{reason}}")],
            ),
            Panel(
                "Child processes that ended, by cause",
                "short",
                "Per hour, without those ended by a limit of time. Each ended an attempt of a stage, or read a page.",
                [(f"sum by (cause) (increase({_of('imago_child_exits_total')}[1h]))", "{{cause}}")],
            ),
            Panel(
                "Dead letters of costly files",
                "short",
                "Stages that ended as a dead letter because their file took too much time or memory, per hour.",
                [
                    (
                        "sum by (stage, error_code) (increase("
                        + _of("imago_dead_letters_total", 'error_code=~"cpu-limit|out-of-memory|stage-timeout"')
                        + "[1h]))",
                        "{{stage}} {{error_code}}",
                    )
                ],
            ),
        ],
    },
)

_CLIENT = 'client=~"$client"'

CLIENT = Dashboard(
    "client",
    "Imago / One client",
    "One client's uploads, waits, failures and quotas; clients without a label (METRICS_CLIENTS) are `other`.",
    {
        "Work": [
            Panel(
                "Uploads, by outcome",
                "ops",
                "Uploads a second: accepted, replayed, or rejected with an error code.",
                [(_rate("imago_uploads_total", "outcome", _CLIENT), "{{outcome}}")],
            ),
            Panel(
                "Images whose first runs ended",
                "ops",
                "Images a second, by their status.",
                [(_rate("imago_images_done_total", "status", _CLIENT), "{{status}}")],
            ),
            Panel(
                "Upload to done",
                "s",
                "Median and 95th percentile by lane.",
                [
                    (_quantile(0.5, "imago_image_done_seconds", "lane", _CLIENT), "{{lane}} median"),
                    (_quantile(0.95, "imago_image_done_seconds", "lane", _CLIENT), "{{lane}} p95"),
                ],
            ),
            Panel(
                "Open stages",
                "short",
                "Stages of the client that have not ended.",
                [(_latest("imago_client_open_stages", "client", _CLIENT), "{{client}}")],
            ),
            Panel(
                "Oldest waiting message",
                "s",
                "How long the client's oldest message has waited for a worker.",
                [(_latest("imago_client_oldest_open_seconds", "client", _CLIENT), "{{client}}")],
            ),
            Panel(
                "Quotas used",
                "percentunit",
                "Used share of each quota; at 1 uploads are rejected.",
                [(_latest("imago_client_quota_used_ratio", "client, quota", _CLIENT), "{{client}} {{quota}}")],
            ),
            Panel(
                "Dead letters of the last hour",
                "short",
                "Dead letters of the client that were not replayed.",
                [(_latest("imago_dead_letters_last_hour", "stage, error_code", _CLIENT), "{{stage}} {{error_code}}")],
            ),
        ]
    },
    by_client=True,
)

AI_COST = Dashboard(
    "ai-cost",
    "Imago / AI cost",
    "What AI providers cost, how their calls end, and when budgets and breakers apply.",
    {
        "Cost": [
            Panel(
                "Cost of a day at the current rate",
                "currencyUSD",
                "US dollars, of calls with a known price.",
                [(f"{_rate('imago_ai_cost_usd_total', 'provider, kind')} * 86400", "{{provider}} {{kind}}")],
            ),
            Panel(
                "Tokens",
                "ops",
                "Tokens a second, as providers report them.",
                [(_rate("imago_ai_tokens_total", "provider, kind, direction"), "{{provider}} {{kind}} {{direction}}")],
            ),
            Panel(
                "Calls without a price, and calls rejected by a budget",
                "ops",
                "Unpriced calls are missing in the cost; rejected calls are shown by the budget's policy.",
                [
                    (_rate("imago_ai_unpriced_calls_total", "provider, kind"), "{{provider}} {{kind}} unpriced"),
                    (_rate("imago_ai_budget_exhausted_total", "kind, policy"), "{{kind}} {{policy}}"),
                ],
            ),
        ],
        "Providers": [
            Panel(
                "Calls, by outcome",
                "reqps",
                "Throttled: the provider's limit. Misconfigured: a key or a model is wrong.",
                [(_rate("imago_ai_calls_total", "provider, outcome"), "{{provider}} {{outcome}}")],
            ),
            Panel(
                "Call duration, 95th percentile",
                "s",
                "Time until the provider responded.",
                [(_quantile(0.95, "imago_ai_call_duration_seconds", "provider, kind"), "{{provider}} {{kind}}")],
            ),
            Panel(
                "Open breakers",
                "bool",
                "1 while a breaker is open: calls go to the next provider, or are parked.",
                [(_latest("imago_ai_breaker_open", "provider"), "{{provider}}")],
            ),
            Panel(
                "Fallbacks and invalid responses",
                "ops",
                "Responses of other providers than the first, and responses that do not fit the schema.",
                [
                    (_rate("imago_ai_fallbacks_total", "kind, provider"), "{{kind}} by {{provider}}"),
                    (_rate("imago_ai_invalid_answers_total", "provider, kind"), "{{provider}} {{kind}} invalid"),
                ],
            ),
        ],
    },
)

OPERATOR = Dashboard(
    "operator",
    "Imago / Operator",
    "Reconciliation of ImagoClient resources.",
    {
        "Resources": [
            Panel(
                "Resources, by condition",
                "short",
                "Ready=False with a reason: look at the resource; kubectl describe shows its events.",
                [
                    (
                        _total("imago_operator_clients", "condition, status, reason"),
                        "{{condition}}={{status}} {{reason}}",
                    )
                ],
            ),
            Panel(
                "Reconciles, by trigger and outcome",
                "ops",
                "Reconciles a second.",
                [(_rate("imago_operator_reconciles_total", "trigger, outcome"), "{{trigger}} {{outcome}}")],
            ),
            Panel(
                "Reconcile duration, 95th percentile",
                "s",
                "Duration of a reconcile; slow ones wait for Imago's API or for Kubernetes.",
                [(_quantile(0.95, "imago_operator_reconcile_duration_seconds", "trigger"), "{{trigger}}")],
            ),
            Panel(
                "Failed reconciles, by reason",
                "ops",
                "Reconciles that failed; they are retried.",
                [(_rate("imago_operator_errors_total", "reason"), "{{reason}}")],
            ),
            Panel(
                "Requests to Imago's API",
                "reqps",
                "By request and status; 401: the operator's key is wrong; 5xx: Imago's API fails.",
                [(_rate("imago_operator_api_requests_total", "request, status"), "{{request}} {{status}}")],
            ),
            Panel(
                "Overdue rotations",
                "short",
                "Resources whose key should have been replaced, including paused ones.",
                [(_total("imago_operator_rotations_overdue", "namespace"), "{{namespace}}")],
            ),
            Panel(
                "Keys issued, orphans removed",
                "ops",
                "Issued keys by reason; removed orphans; failed sweeps.",
                [
                    (_rate("imago_operator_keys_issued_total", "reason"), "key: {{reason}}"),
                    (_rate("imago_operator_swept_total", "kind"), "swept: {{kind}}"),
                    (f"sum(rate({_of('imago_operator_sweep_failures_total')}[$__rate_interval]))", "sweeps failed"),
                ],
            ),
        ]
    },
)

DASHBOARDS = (OVERVIEW, PIPELINE, CLIENT, AI_COST, OPERATOR)
