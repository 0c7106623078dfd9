"""The AI providers, which share their ledger and circuit breakers across processes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from imago.ai.factory import Providers, build_providers
from imago.ai.provider_client import REQUEST_TIMEOUTS
from imago.core.ai_usage.ledger import DatabaseLedger
from imago.db.engine import Database
from imago.nats.breaker_store import SharedBreaker
from imago.nats.connection import NatsConnection
from imago.settings import Settings
from imago.telemetry.provider_calls import ProviderCalls


@asynccontextmanager
async def ai_providers(settings: Settings, db: Database, nats: NatsConnection) -> AsyncIterator[Providers]:
    """Provide the AI providers; raise StartupError if a setting is missing or wrong."""
    observer = ProviderCalls()
    # The longest time that one call may take, including its retries.
    probe = timedelta(seconds=REQUEST_TIMEOUTS * settings.ai_timeout)
    breaker = SharedBreaker(nats, probe=probe, observer=observer)
    providers = build_providers(settings, ledger=DatabaseLedger(db), breaker=breaker, observer=observer)
    try:
        yield providers
    finally:
        await providers.close()
