"""Rate limits: of clients by their plan, across replicas; of requests without a valid key by address, per process."""

import math

from aiohttp import web
from aiohttp.web_urldispatcher import SystemRoute

from imago.api.auth.permissions import Handler, permission_of
from imago.api.http.request_context import ADDRESS_BLOCKED, PRINCIPAL
from imago.api.http.services import AUTH, SETTINGS
from imago.core.clients.gcra import Rate, Verdict
from imago.core.clients.model import Client
from imago.core.errors import RateLimited, Unauthenticated
from imago.core.forwarded import client_address, subject_of
from imago.db.engine import DatabaseUnavailable
from imago.settings import Settings
from imago.telemetry import metrics

VERDICT: web.RequestKey[Verdict] = web.RequestKey("rate verdict", Verdict)

# Probes and scrapes come from the platform and must succeed under any load.
_UNCOUNTED = frozenset({"/health", "/health/ready", "/health/detailed", "/metrics"})
_FILES = "/files/signed/"
# A page of thumbnails needs as many of these as it shows images, so they have their own rate.
_URL_ROUTES = frozenset({"/images/{id}/thumbnail-url", "/images/{id}/download-url"})
_URLS_PER_REQUEST = 10
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


@web.middleware
async def address_limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Limit requests to public routes, and failed authentications, by address; wraps authentication."""
    if request.path in _UNCOUNTED:
        return await handler(request)
    permission = permission_of(request.match_info.handler)
    if isinstance(request.match_info.route, SystemRoute) or (permission is not None and permission.public):
        _count(request)
        return await handler(request)
    rates, rate = request.app[AUTH].address_rates, _anonymous(request.app[SETTINGS])
    failures = f"failures {address_subject(request)}"
    refused = rates.exhausted(failures, rate)
    if refused is not None:
        # Cached keys are still accepted: other clients may share this address.
        request[ADDRESS_BLOCKED] = refused.retry_after
    try:
        return await handler(request)
    except Unauthenticated:
        verdict = rates.take(failures, rate)
        if not verdict.allowed:
            raise _refusal("address", "Too many requests without a valid key.", verdict) from None
        raise


@web.middleware
async def client_limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Limit the requests of each client; runs inside authentication."""
    principal = request.get(PRINCIPAL)
    if principal is not None and principal.client is not None:
        verdict = await _charge(request, principal.client)
        request[VERDICT] = verdict
        if not verdict.allowed:
            raise _refusal("client", "The client's rate limit is exceeded.", verdict)
    return await handler(request)


async def rate_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Send a client its limit, the remaining requests and the reset (draft-ietf-httpapi-ratelimit-headers)."""
    verdict = request.get(VERDICT)
    if verdict is not None:
        response.headers["RateLimit-Limit"] = str(verdict.limit)
        response.headers["RateLimit-Remaining"] = str(verdict.remaining)
        response.headers["RateLimit-Reset"] = str(math.ceil(verdict.reset))


async def _charge(request: web.Request, client: Client) -> Verdict:
    auth, limits = request.app[AUTH], client.limits
    subject, weight = f"client {client.id}", 1
    resource = request.match_info.route.resource
    if resource is not None and resource.canonical in _URL_ROUTES:
        subject, weight = f"{subject} urls", _URLS_PER_REQUEST
    rate = Rate(limits.requests_per_minute * weight, limits.burst * weight)
    try:
        return await auth.client_rates.spend(subject, rate)
    except DatabaseUnavailable:
        # A write would fail anyway. Reads that need no database are limited per process instead.
        if request.method not in _READS:
            raise
        metrics.RATE_FALLBACK.inc()
        return auth.address_rates.take(subject, rate)


def _count(request: web.Request) -> None:
    rates, settings, subject = request.app[AUTH].address_rates, request.app[SETTINGS], address_subject(request)
    if request.path.startswith(_FILES):
        # A page of thumbnails is a burst of these, and each has a token.
        verdict = rates.take(f"files {subject}", Rate(settings.files_per_minute, settings.files_burst))
    else:
        verdict = rates.take(f"anonymous {subject}", _anonymous(settings))
    if not verdict.allowed:
        raise _refusal("address", "Too many requests from this address.", verdict)


def _anonymous(settings: Settings) -> Rate:
    return Rate(settings.anonymous_per_minute, settings.anonymous_burst)


def address_subject(request: web.Request) -> str:
    """Return what limits by address count: the client's address behind trusted proxies, or its network."""
    forwarded = request.headers.getall("X-Forwarded-For", [])
    return subject_of(client_address(request.remote or "", forwarded, request.app[SETTINGS].trusted_networks))


def _refusal(subject: str, text: str, verdict: Verdict) -> RateLimited:
    metrics.RATE_LIMITED.labels(subject).inc()
    return RateLimited(text, retry_after=verdict.retry_after)
