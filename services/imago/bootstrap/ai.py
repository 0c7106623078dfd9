"""The AI providers of a process, with what they share across processes: the ledger and the breakers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from imago.ai.factory import Providers, build_providers
from imago.ai.provider_client import PATIENCES
from imago.core.ai_usage.ledger import DatabaseLedger
from imago.db.engine import Database
from imago.nats.breaker_store import SharedBreaker
from imago.nats.connection import NatsConnection
from imago.settings import Settings
from imago.telemetry.provider_calls import ProviderCalls


@asynccontextmanager
async def ai_providers(settings: Settings, db: Database, nats: NatsConnection) -> AsyncIterator[Providers]:
    """Give the AI providers with their ledger, breakers and metrics; raise ProviderUnavailable."""
    observer = ProviderCalls()
    # As long as one answer may take with its retry, its repair and a second provider.
    probe = timedelta(seconds=PATIENCES * settings.ai_timeout)
    breaker = SharedBreaker(nats, probe=probe, observer=observer)
    providers = build_providers(settings, ledger=DatabaseLedger(db), breaker=breaker, observer=observer)
    try:
        yield providers
    finally:
        await providers.close()
