"""The `imago-operator` command: connects the operator's parts and runs Kopf."""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import kopf
import prometheus_client
import structlog

from imago.nats.streams import StreamManager
from imago.runtime.startup import StartupError
from imago.settings import Settings
from imago.settings.environment import unknown_names
from imago.telemetry.logs import configure_logging
from imago_operator import metrics
from imago_operator.apis.imago_api import ImagoApi
from imago_operator.apis.kubernetes import FIELD_MANAGER, Kubernetes, KubernetesUnavailable, Object, find_credentials
from imago_operator.context import OperatorContext
from imago_operator.handlers import Handlers, build_registry
from imago_operator.reconciler.workers import TemplatesInvalid, read_templates
from imago_operator.resource import FINALIZER, GROUP, KOPF_PREFIX, PLURAL, VERSION
from imago_operator.settings import OperatorSettings, load_operator_settings, settings_names
from imago_operator.sweep import Sweeper

log = structlog.get_logger(__name__)

# If Kopf ends sooner than this, starting it again in the same process would not help.
MIN_RUN_SECONDS = 10.0

# A release installs the CRD and this process at the same time.
CRD_ATTEMPTS, CRD_SECONDS = 30, 2.0


def build_kopf_settings() -> kopf.OperatorSettings:
    """Return Kopf's settings; those about persistence must never change, because Kopf stores its state in resources."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=KOPF_PREFIX, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=KOPF_PREFIX, v1=False)
    # The operator may not list namespaces or CRDs: settings name the namespaces, and `wait_for_crd` checks the CRD.
    settings.scanning.disabled = True
    # Watches without a timeout stopped receiving events (kopf #585, #698).
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    # An upgrade makes the API server unavailable for minutes; if it takes longer, this process may as well restart.
    settings.networking.error_backoffs = (1, 1, 2, 3, 5, 8, 13, 21, 30, 30, 30, 30)
    settings.posting.reporting_component = "imago-operator"
    settings.posting.reporting_instance = "imago-operator"
    settings.posting.event_name_prefix = "imago-"
    # Kopf would kill this process that long after a forbidden watch too; Kubernetes has its own grace period.
    settings.process.ultimate_exiting_timeout = None
    return settings


@asynccontextmanager
async def run_parts(settings: OperatorSettings, shared: Settings) -> AsyncIterator[tuple[OperatorContext, Sweeper]]:
    """Yield the connected parts of the operator, with the sweeper running."""
    templates = load_templates(settings)
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
        context = OperatorContext(settings, kubernetes, api, streams, templates, emit_event)
        sweeper = Sweeper(context)
        sweeping = asyncio.create_task(sweeper.run(), name="sweeper")
        try:
            yield context, sweeper
        finally:
            sweeping.cancel()
            await streams.close()


def load_templates(settings: OperatorSettings) -> tuple[Object, ...]:
    """Return the templates of dedicated workers, none if dedicated lanes are disabled; raise TemplatesInvalid."""
    if not settings.dedicated_enabled or settings.dedicated_templates is None:
        return ()
    return read_templates(settings.dedicated_templates)


def emit_event(body: Object, *, warning: bool, reason: str, message: str) -> None:
    """Post a Kubernetes Event about a resource."""
    kopf.event(kopf.Body(body), type="Warning" if warning else "Normal", reason=reason, message=message)  # type: ignore[arg-type]  # Kopf accepts Bodies too.


async def wait_for_crd(kubernetes: Kubernetes) -> None:
    """Wait until the API server serves ImagoClients, because Kopf discovers the resource only when it starts."""
    for _ in range(CRD_ATTEMPTS):
        try:
            served = await kubernetes.get(f"/apis/{GROUP}/{VERSION}") or {}
            if any(resource["name"] == PLURAL for resource in served.get("resources", ())):
                return
            problem = "the CRD is not installed"
        except KubernetesUnavailable as error:
            problem = f"the API server is unavailable: {error}"
        log.warning("crd.missing", problem=problem)
        await asyncio.sleep(CRD_SECONDS)
    raise kopf.PermanentError(f"ImagoClients are not served: {problem}")


async def serve(settings: OperatorSettings, shared: Settings) -> None:
    """Run until a signal."""
    if settings.metrics_port is not None:
        prometheus_client.start_http_server(settings.metrics_port, addr=settings.host)
    while await serve_namespaces(settings, shared):
        pass


async def serve_namespaces(settings: OperatorSettings, shared: Settings) -> bool:
    """Watch the readable namespaces until a signal; return True if everything has to start again.

    That includes the connections, because Kopf cancels every task that was started after it.
    """
    async with run_parts(settings, shared) as (context, sweeper):
        await wait_for_crd(context.kubernetes)
        namespaces = await sweeper.choose_namespaces()
        started = time.monotonic()
        try:
            await run_kopf(context, sweeper, namespaces)
        except Exception as error:
            # Kopf ends if one of its watches is forbidden: in a namespace that was deleted together with the Role in
            # it, and for a moment after the API server has started.
            if time.monotonic() - started < MIN_RUN_SECONDS and await sweeper.choose_namespaces() == namespaces:
                raise
            metrics.ERRORS.labels(type(error).__name__).inc()
            log.warning("kopf.restarted", error=type(error).__name__, namespaces=namespaces)
            return True
        return sweeper.namespaces_changed.is_set()


async def run_kopf(context: OperatorContext, sweeper: Sweeper, namespaces: tuple[str, ...]) -> None:
    """Run Kopf until a signal, or until the readable namespaces change."""
    settings = context.settings
    await kopf.operator(
        registry=build_registry(Handlers(context, sweeper), resync_seconds=settings.resync_seconds),
        settings=build_kopf_settings(),
        # By default Kopf looks up the user's name, which an arbitrary uid assigned by the platform does not have.
        identity=FIELD_MANAGER,  # type: ignore[arg-type]  # A NewType of str that Kopf does not export.
        standalone=True,
        clusterwide=settings.watches_all_namespaces,
        namespaces=namespaces,
        liveness_endpoint=f"http://{settings.host}:{settings.liveness_port}/healthz",
        stop_flag=sweeper.namespaces_changed,
    )


class ObjectNames(logging.Filter):
    """Adds the resource's name to Kopf's log records, as Kopf's own formatters do."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; drop Kopf's records about retries, which `reconcile.deferred` and its like report."""
        if "failed temporarily" in str(record.msg):
            return False
        ref = getattr(record, "k8s_ref", None)
        if ref and not getattr(record, "named", False):
            record.named = True
            record.msg = f"[{ref.get('namespace')}/{ref.get('name')}] {record.msg}"
        return True


def main() -> None:
    """Run the operator with the settings in the environment; exit with one line if they are invalid."""
    try:
        settings, shared = load_operator_settings()
        warnings = unknown_names([*settings_names(), *Settings.model_fields])
        load_templates(settings)
        find_credentials()
    except (StartupError, TemplatesInvalid, kopf.LoginError, OSError) as error:
        sys.exit(f"imago-operator: {error}")
    configure_logging(level="debug" if settings.debug else settings.log_level, console=settings.debug)
    for warning in warnings:
        log.warning("setting.unknown", message=warning)
    objects = logging.getLogger("kopf.objects")
    objects.addFilter(ObjectNames())
    if not settings.debug:
        # At level info Kopf logs every run of every timer.
        objects.setLevel(logging.WARNING)
    try:
        asyncio.run(serve(settings, shared))
    except kopf.PermanentError as error:
        sys.exit(f"imago-operator: {error}")


if __name__ == "__main__":
    main()
