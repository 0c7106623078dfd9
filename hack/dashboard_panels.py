"""What the Grafana dashboards show: tables of panels, each with its queries and what it tells whom."""

from collections.abc import Sequence
from dataclasses import dataclass

# The panels that need it say so in their title; everything else is Imago's own.
KUBE_STATE_METRICS = "(kube-state-metrics)"


@dataclass(frozen=True)
class Panel:
    """One panel: its queries with their legends, the unit in Grafana's words, and what it tells whom."""

    title: str
    unit: str
    description: str
    queries: Sequence[tuple[str, str]]
    stack: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: rows of panels, by the rows' titles."""

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
    """One process tells it for all; for a moment after a change of hands, two do."""
    return f"max by ({by}) ({_of(metric, *matchers)})"


def _total(metric: str, by: str, *matchers: str) -> str:
    return f"sum by ({by}) ({_of(metric, *matchers)})"


DONE_P50 = Panel(
    "Upload to done, median by lane",
    "s",
    "Half of the images were done sooner after their acceptance; first passes only.",
    [(_quantile(0.5, "imago_image_done_seconds", "lane"), "{{lane}}")],
)
DONE_P95 = Panel(
    "Upload to done, 95th percentile by lane",
    "s",
    "What the slowest of twenty images waited. A lane that is high alone points at its backlog; all lanes at a stage.",
    [(_quantile(0.95, "imago_image_done_seconds", "lane"), "{{lane}}")],
)
OPEN_WORK = Panel(
    "Waiting and working, by stage and lane",
    "short",
    "Stages that aren't over. Much waiting, little running: too few workers; parked: a provider's quota or a budget.",
    [(_latest("imago_open_stages", "stage, lane, state") + " > 0", "{{stage}} {{lane}} {{state}}")],
    stack=True,
)
QUEUE_AGE = Panel(
    "Oldest waiting message, by stage and lane",
    "s",
    "How long the next message of each queue has waited for a worker; parked work isn't counted.",
    [(_latest("imago_queue_oldest_seconds", "stage, lane"), "{{stage}} {{lane}}")],
)
LAG = Panel(
    "Queue lag, by stage and lane",
    "short",
    "Messages pending and delivered, summed: what KEDA scales the workers by.",
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
    "Jobs in work beside those that could be. At the limit with a lag: more workers are needed, or a slow stage.",
    [
        (_total("imago_worker_jobs_running", "worker"), "{{worker}} running"),
        (_total("imago_worker_jobs_limit", "worker"), "{{worker}} limit"),
    ],
)
REPLICAS = Panel(
    f"Worker pods {KUBE_STATE_METRICS}",
    "short",
    "Ready pods beside what the autoscaler wants: a gap is a pod that can't be scheduled or doesn't become ready.",
    [
        (_total("kube_deployment_status_replicas_ready", "deployment", 'deployment=~".*-worker-.*"'), "{{deployment}}"),
        (_total("kube_deployment_spec_replicas", "deployment", 'deployment=~".*-worker-.*"'), "{{deployment}} wanted"),
    ],
)
STAGE_P95 = Panel(
    "Time in a stage, 95th percentile",
    "s",
    "How long one try takes once a worker has it. High here: the stage itself is slow, not the queue.",
    [(_quantile(0.95, "imago_stage_duration_seconds", "stage"), "{{stage}}")],
)
WAIT_P95 = Panel(
    "Wait for a stage, 95th percentile",
    "s",
    "From acceptance to a stage's first try. High here and not in the stage: workers are too few or away.",
    [(_quantile(0.95, "imago_stage_wait_seconds", "stage, lane"), "{{stage}} {{lane}}")],
)
OUTBOX = Panel(
    "Outbox, oldest overdue row",
    "s",
    "Age of what was accepted and not yet published. Above seconds: the relay or NATS is away.",
    [(f"max({_of('imago_outbox_oldest_overdue_seconds')})", "oldest overdue")],
)
DEAD = Panel(
    "Dead letters of the last hour",
    "short",
    "Stages that died and weren't replayed, by error and client.",
    [(_latest("imago_dead_letters_last_hour", "stage, error_code, client"), "{{stage}} {{error_code}} {{client}}")],
)
API_RATE = Panel(
    "API requests, by route",
    "reqps",
    "Requests a second, by the route's template.",
    [(_rate("imago_http_requests_total", "method, route"), "{{method}} {{route}}")],
)
_ANSWERS = f"sum(rate({_of('imago_http_requests_total')}[$__rate_interval]))"
API_ERRORS = Panel(
    "API answers that are errors",
    "percentunit",
    "Part of all answers that were 5xx (ours) and 4xx (the caller's).",
    [
        (
            _ANSWERS.replace("}", f',status=~"{digit}.."}}', 1) + f" / {_ANSWERS}",
            f"{digit}xx",
        )
        for digit in (5, 4)
    ],
)
API_P95 = Panel(
    "API duration, 95th percentile by route",
    "s",
    "Time to answer. Slow everywhere: the database or its pool; slow uploads alone: storage or the caller's line.",
    [(_quantile(0.95, "imago_http_request_duration_seconds", "method, route"), "{{method}} {{route}}")],
)
TOP_OPEN = Panel(
    "Clients with the most open work",
    "short",
    "For whom it is slow: stages that aren't over. Clients without a label of their own (METRICS_CLIENTS) are `other`.",
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
    "Used part of a quota; at 1 uploads are refused. `other` shows the fullest of the clients without a label.",
    [(f"topk(10, {_latest('imago_client_quota_used_ratio', 'client, quota')})", "{{client}} {{quota}}")],
)

OVERVIEW = Dashboard(
    "overview",
    "Imago / Overview",
    "Why is it slow, and for whom: read from top to bottom.",
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
    "Stages, queues, publication and upkeep in detail.",
    {
        "Stages": [
            Panel(
                "Tries, by outcome",
                "ops",
                "Tries of stages a second; lost: the lease ended; released: the worker was stopping.",
                [(_rate("imago_stage_runs_total", "stage, outcome"), "{{stage}} {{outcome}}")],
            ),
            STAGE_P95,
            WAIT_P95,
        ],
        "Queues": [OPEN_WORK, QUEUE_AGE, LAG, CAPACITY, REPLICAS, DEAD],
        "Publication and upkeep": [
            OUTBOX,
            Panel(
                "Outbox rows",
                "short",
                "Rows the relay should have published, and rows that wait for their time.",
                [
                    (f"max({_of('imago_outbox_overdue')})", "overdue"),
                    (f"max({_of('imago_outbox_parked')})", "parked"),
                ],
            ),
            Panel(
                "Publications",
                "ops",
                "Messages published a second, by who did it; the relay alone means that the fast path fails.",
                [(_rate("imago_published_total", "by, kind"), "{{by}} {{kind}}")],
            ),
            Panel(
                "Stages published anew",
                "ops",
                "What the reconciler found; anything but a changed lane means that messages were lost.",
                [(_rate("imago_reconciled_total", "reason"), "{{reason}}")],
            ),
            Panel(
                "Chores, by outcome",
                "ops",
                "Turns of the upkeep: done, waited for another process, failed.",
                [(_rate("imago_chore_runs_total", "chore, outcome"), "{{chore}} {{outcome}}")],
            ),
            Panel(
                "Connected to NATS",
                "bool",
                "0 where a process of this kind has no connection.",
                [(f"min by (process) ({_of('imago_nats_connected')})", "{{process}}")],
            ),
            Panel(
                "Database connections",
                "short",
                "Connections in use and what the pools may open.",
                [
                    (f"sum({_of('imago_database_connections')})", "in use"),
                    (f"sum({_of('imago_database_connections_limit')})", "limit"),
                ],
            ),
            Panel(
                "Wait for a database connection, 95th percentile",
                "s",
                "Time until the pool gave one. Above milliseconds: the pool is too small or statements are slow.",
                [(_quantile(0.95, "imago_database_connection_wait_seconds", ""), "p95")],
            ),
            Panel(
                "Objects out of step",
                "short",
                "Objects that the database doesn't know, and objects that images need and storage lacks.",
                [
                    (f"max({_of('imago_storage_unknown_objects')})", "unknown"),
                    (f"max({_of('imago_storage_missing_objects')})", "missing"),
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
                "Uploads a second: accepted, replayed, or refused with a problem's code.",
                [(_rate("imago_uploads_total", "outcome", _CLIENT), "{{outcome}}")],
            ),
            Panel(
                "Images whose first pass ended",
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
                "Stages of the client that aren't over.",
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
                "Used part of every quota; at 1 uploads are refused.",
                [(_latest("imago_client_quota_used_ratio", "client, quota", _CLIENT), "{{client}} {{quota}}")],
            ),
            Panel(
                "Dead letters of the last hour",
                "short",
                "Stages of the client that died and weren't replayed.",
                [(_latest("imago_dead_letters_last_hour", "stage, error_code", _CLIENT), "{{stage}} {{error_code}}")],
            ),
        ]
    },
    by_client=True,
)

AI_COST = Dashboard(
    "ai-cost",
    "Imago / AI cost",
    "What AI providers cost, how they answer, and when budgets and breakers step in.",
    {
        "Cost": [
            Panel(
                "Cost of a day at the present rate",
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
                "Calls without a price, and calls a budget refused",
                "ops",
                "The first are missing from the cost; the second by the budget's policy.",
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
                "Time until a provider answered.",
                [(_quantile(0.95, "imago_ai_call_duration_seconds", "provider, kind"), "{{provider}} {{kind}}")],
            ),
            Panel(
                "Providers left alone",
                "bool",
                "1 while a breaker is open: calls go to the next provider, or are parked.",
                [(_latest("imago_ai_breaker_open", "provider"), "{{provider}}")],
            ),
            Panel(
                "Fallbacks and invalid answers",
                "ops",
                "Answers by another provider than the first, and answers that fit no schema.",
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
    "What the operator does with ImagoClient resources.",
    {
        "Resources": [
            Panel(
                "Resources, by condition",
                "short",
                "Ready=False with a reason is a resource to look at: kubectl describe shows its events.",
                [
                    (
                        _total("imago_operator_clients", "condition, status, reason"),
                        "{{condition}}={{status}} {{reason}}",
                    )
                ],
            ),
            Panel(
                "Passes, by trigger and outcome",
                "ops",
                "Passes over resources a second.",
                [(_rate("imago_operator_reconciles_total", "trigger, outcome"), "{{trigger}} {{outcome}}")],
            ),
            Panel(
                "Pass duration, 95th percentile",
                "s",
                "Time a pass took; slow passes wait for Imago's API or for Kubernetes.",
                [(_quantile(0.95, "imago_operator_reconcile_duration_seconds", "trigger"), "{{trigger}}")],
            ),
            Panel(
                "Passes that failed, by reason",
                "ops",
                "Passes that didn't reach their end; they are tried again.",
                [(_rate("imago_operator_errors_total", "reason"), "{{reason}}")],
            ),
            Panel(
                "Requests to Imago's API",
                "reqps",
                "By request and status: 401 is the operator's key, 5xx Imago's API.",
                [(_rate("imago_operator_api_requests_total", "request, status"), "{{request}} {{status}}")],
            ),
            Panel(
                "Overdue rotations",
                "short",
                "Resources whose key should have been replaced by now; paused ones are among them.",
                [(_total("imago_operator_rotations_overdue", "namespace"), "{{namespace}}")],
            ),
            Panel(
                "Keys made, things swept",
                "ops",
                "Keys by why they were made; what nobody owned and was removed; sweeps that failed.",
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
