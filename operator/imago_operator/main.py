"""The `imago-operator` command: Kopf, with handlers of a few lines around `reconcile()` and `finalize()`."""

import asyncio
import logging
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kopf
import prometheus_client
import structlog
from pydantic import ValidationError

from imago.nats.streams import StreamManager
from imago.settings import Settings
from imago.telemetry.logs import configure_logging
from imago_operator import metrics
from imago_operator.context import Context
from imago_operator.deletion import finalize
from imago_operator.imago_api import ImagoApi
from imago_operator.kubernetes import (
    FIELD_MANAGER,
    Kubernetes,
    KubernetesUnavailable,
    Object,
    Refused,
    find_credentials,
)
from imago_operator.passes import Result
from imago_operator.reconcile import reconcile
from imago_operator.resource import FINALIZER, GROUP, KOPF_PREFIX, PLURAL, VERSION, ref_of
from imago_operator.settings import OperatorSettings
from imago_operator.sweep import Sweeper
from imago_operator.workers import TemplatesInvalid, read_templates

log = structlog.get_logger(__name__)

# Between two tries of a pass that failed: enough for a hiccup at first, and soon enough after a long outage.
FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 30.0

# What ends sooner won't get better by beginning anew in the same process.
SHORTEST_LIFE = 10.0

# How long to wait for the CRD: a release installs it and this process at once.
CRD_TRIES, CRD_SECONDS = 30, 2.0


class Handlers:
    """What Kopf calls."""

    def __init__(self, context: Context, sweeper: Sweeper) -> None:
        self._context = context
        self._sweeper = sweeper

    def serves(self, spec: kopf.Spec, **_: Any) -> bool:
        """Tell whether a resource is this installation's; others have an operator of their own."""
        return bool(spec.get("installation", "default") == self._context.settings.installation)

    async def handle_change(self, body: kopf.Body, retry: int, **_: Any) -> None:
        """Take up a new, changed or just found resource."""
        await self._run("change", reconcile, body, retry)

    async def handle_interval(self, body: kopf.Body, retry: int = 0, **_: Any) -> None:
        """Look at a resource again: time passes, and people delete things by hand."""
        await self._run("interval", reconcile, body, retry)

    async def handle_deletion(self, body: kopf.Body, retry: int, **_: Any) -> None:
        """Clean up behind a resource."""
        await self._run("deletion", finalize, body, retry)

    def first_look(self, body: kopf.Body, **_: Any) -> float:
        """Return when the timer begins: at once for a restored resource, which Kopf takes for one it has handled."""
        interval = self._context.settings.resync_seconds
        restored = not (body.get("status") or {}).get("clientId") and any(
            name.startswith(f"{KOPF_PREFIX}/") for name in body.metadata.annotations
        )
        # Spread, so that after a restart they don't all come at the same moment for ever.
        return 0.0 if restored else interval * random.uniform(0.3, 1.0)  # noqa: S311 - it spreads load, and is no secret

    async def probe(self, **_: Any) -> str:
        """Say that the background work goes on; a failure fails the liveness probe, and the process is restarted."""
        trouble = self._sweeper.trouble()
        if trouble is not None:
            log.error("this process should be restarted", trouble=trouble)
            raise kopf.PermanentError(trouble)
        return "alive"

    async def _run(self, trigger: str, work: Any, body: kopf.Body, retry: int) -> None:
        ref = ref_of(body)
        self._context.note_pass(ref)
        with (
            structlog.contextvars.bound_contextvars(namespace=ref.namespace, name=ref.name, trigger=trigger),
            metrics.RECONCILE_SECONDS.labels(trigger).time(),
        ):
            try:
                result: Result = await work(self._context, ref)
            except Exception as error:
                metrics.RECONCILES.labels(trigger, "error").inc()
                metrics.ERRORS.labels(type(error).__name__).inc()
                if isinstance(error, (KubernetesUnavailable, Refused)):
                    log.warning("a pass didn't reach its end", error=f"{type(error).__name__}: {error}")
                else:
                    log.exception("a pass failed")
                raise kopf.TemporaryError(type(error).__name__, delay=_backoff(retry)) from None
            if result.failed:
                metrics.RECONCILES.labels(trigger, "failed").inc()
                metrics.ERRORS.labels(str(result.reason)).inc()
                log.warning("a pass didn't reach its end", reason=str(result.reason))
                raise kopf.TemporaryError(str(result.reason), delay=_backoff(retry))
            metrics.RECONCILES.labels(trigger, "done" if result.again is None else "waiting").inc()
            tell = log.debug if trigger == "interval" else log.info
            tell("a pass is done", reason=str(result.reason), again=result.again)
            if result.again is not None:
                raise kopf.TemporaryError(str(result.reason), delay=result.again)


def build_registry(handlers: Handlers, *, resync_seconds: float) -> kopf.OperatorRegistry:
    """Tell Kopf what to call, and when."""
    registry = kopf.OperatorRegistry()
    ours: dict[str, Any] = {"registry": registry, "when": handlers.serves}
    for decorator in (kopf.on.create, kopf.on.update, kopf.on.resume):
        decorator(GROUP, VERSION, PLURAL, id="reconcile", **ours)(handlers.handle_change)
    kopf.on.delete(GROUP, VERSION, PLURAL, id="finalize", **ours)(handlers.handle_deletion)
    kopf.timer(
        GROUP, VERSION, PLURAL, id="interval", interval=resync_seconds, initial_delay=handlers.first_look, **ours
    )(handlers.handle_interval)
    kopf.on.login(registry=registry)(log_in)
    kopf.on.probe(registry=registry, id="sweeper")(handlers.probe)
    return registry


def log_in(**_: Any) -> kopf.ConnectionInfo:
    """Give Kopf the credentials that the rest of the operator has."""
    return find_credentials()


def build_kopf_settings() -> kopf.OperatorSettings:
    """Return Kopf's settings; what is stored in resources must stay as it is for ever."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=KOPF_PREFIX, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=KOPF_PREFIX, v1=False)
    # Neither namespaces nor CRDs may be listed: what is served is named, and the CRD is waited for.
    settings.scanning.disabled = True
    # Watches went deaf in the past (kopf #585, #698).
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    # An API server that is upgraded is away for minutes; afterwards a restart of this process is no loss.
    settings.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, 21, 30, 30, 30, 30)
    settings.posting.reporting_component = "imago-operator"
    settings.posting.reporting_instance = "imago-operator"
    settings.posting.event_name_prefix = "imago-"
    # It would kill this process that long after a watch was forbidden, too; Kubernetes has a grace period of its own.
    settings.process.ultimate_exiting_timeout = None
    return settings


@asynccontextmanager
async def operating(settings: OperatorSettings, shared: Settings) -> AsyncIterator[tuple[Context, Sweeper]]:
    """Give the operator's parts, connected; the sweeper runs for as long."""
    templates = templates_of(settings)
    streams = StreamManager(shared, name="operator")
    async with (
        Kubernetes(timeout=settings.timeout) as kubernetes,
        ImagoApi(
            settings.api_url,
            settings.api_key.get_secret_value(),
            timeout=settings.timeout,
            parallel=settings.parallel,
        ) as api,
    ):
        await streams.start()
        context = Context(settings, kubernetes, api, streams, templates, announce)
        sweeper = Sweeper(context)
        sweeping = asyncio.create_task(sweeper.run(), name="sweeper")
        try:
            yield context, sweeper
        finally:
            sweeping.cancel()
            await streams.close()


def templates_of(settings: OperatorSettings) -> tuple[Object, ...]:
    """Return the templates of dedicated workers, none where dedicated lanes aren't offered; raise TemplatesInvalid."""
    if not settings.dedicated_enabled or settings.dedicated_templates is None:
        return ()
    return read_templates(settings.dedicated_templates)


def announce(body: Object, *, warning: bool, reason: str, message: str) -> None:
    """Post a Kubernetes Event about a resource."""
    kopf.event(kopf.Body(body), type="Warning" if warning else "Normal", reason=reason, message=message)  # type: ignore[arg-type]  # Kopf means Bodies too.


async def wait_for_crd(kubernetes: Kubernetes) -> None:
    """Wait until the API server serves ImagoClients; Kopf looks for them once, when it starts."""
    for _ in range(CRD_TRIES):
        try:
            served = await kubernetes.get(f"/apis/{GROUP}/{VERSION}") or {}
            if any(resource["name"] == PLURAL for resource in served.get("resources", ())):
                return
            trouble = "the CRD isn't installed"
        except KubernetesUnavailable as error:
            trouble = f"the API server can't be asked: {error}"
        log.warning("waiting for the API server to serve ImagoClients", trouble=trouble)
        await asyncio.sleep(CRD_SECONDS)
    raise kopf.PermanentError(f"no ImagoClients: {trouble}")


async def serve(settings: OperatorSettings, shared: Settings) -> None:
    """Run until a signal."""
    if settings.metrics_port is not None:
        prometheus_client.start_http_server(settings.metrics_port, addr=settings.host)
    while await serve_namespaces(settings, shared):
        pass


async def serve_namespaces(settings: OperatorSettings, shared: Settings) -> bool:
    """Serve the namespaces that can be read, until a signal; True where others can be since, and all has to begin anew.

    All of it, connections too: when Kopf ends it cancels every task that was begun since it started.
    """
    async with operating(settings, shared) as (context, sweeper):
        await wait_for_crd(context.kubernetes)
        namespaces = await sweeper.choose_namespaces()
        began = time.monotonic()
        try:
            await kopf.operator(
                registry=build_registry(Handlers(context, sweeper), resync_seconds=settings.resync_seconds),
                settings=build_kopf_settings(),
                # Kopf would ask for the user's name, which a uid of the platform's choosing doesn't have.
                identity=FIELD_MANAGER,  # type: ignore[arg-type]  # A NewType of str, which Kopf keeps to itself.
                standalone=True,
                clusterwide=settings.everywhere,
                namespaces=namespaces,
                liveness_endpoint=f"http://{settings.host}:{settings.liveness_port}/healthz",
                stop_flag=sweeper.namespaces_changed,
            )
        except Exception as error:
            # Kopf ends where one of its watches is forbidden: in a namespace that was deleted with the Role in it, and
            # for a moment behind an API server that has just started.
            if time.monotonic() - began < SHORTEST_LIFE and await sweeper.choose_namespaces() == namespaces:
                raise
            metrics.ERRORS.labels(type(error).__name__).inc()
            log.warning("Kopf has ended, beginning anew", error=type(error).__name__, namespaces=namespaces)
            return True
        return sweeper.namespaces_changed.is_set()


def _backoff(retry: int) -> float:
    ceiling: float = min(FIRST_BACKOFF * 2 ** min(retry, 10), LONGEST_BACKOFF)
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load, and is no secret


class ObjectNames(logging.Filter):
    """Puts the resource's name into what Kopf logs about it, as its own formatters would."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; drop those about passes that come back later, which are told of in their own words."""
        if "failed temporarily" in str(record.msg):
            return False
        ref = getattr(record, "k8s_ref", None)
        if ref and not getattr(record, "named", False):
            record.named = True
            record.msg = f"[{ref.get('namespace')}/{ref.get('name')}] {record.msg}"
        return True


def main() -> None:
    """Run the operator by the environment; exit 2 where that is wrong."""
    try:
        settings, shared = OperatorSettings(), Settings()
        templates_of(settings)
        find_credentials()
    except ValidationError as error:
        # Without the values: one of them is a key.
        wrong = ", ".join(f"{'_'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        sys.exit(f"imago-operator: the settings are wrong: {wrong}")
    except (TemplatesInvalid, kopf.LoginError, OSError) as error:
        sys.exit(f"imago-operator: {error}")
    configure_logging(level="debug" if settings.debug else settings.log_level, console=settings.debug)
    objects = logging.getLogger("kopf.objects")
    objects.addFilter(ObjectNames())
    if not settings.debug:
        # At level info it tells of every round of every timer.
        objects.setLevel(logging.WARNING)
    try:
        asyncio.run(serve(settings, shared))
    except kopf.PermanentError as error:
        sys.exit(f"imago-operator: {error}")


if __name__ == "__main__":
    main()
