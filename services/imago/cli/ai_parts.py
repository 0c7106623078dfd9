"""The AI providers of a process, with what they share across processes: the ledger and the breakers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from imago.ai.calling import PATIENCES
from imago.ai.providers import Providers, build_providers
from imago.bus.breakers import SharedBreaker
from imago.bus.connection import Bus
from imago.database.ai_calls import DatabaseLedger
from imago.database.engine import Database
from imago.settings import Settings
from imago.telemetry.provider_calls import ProviderCalls


@asynccontextmanager
async def ai_providers(settings: Settings, db: Database, bus: Bus) -> AsyncIterator[Providers]:
    """Give the AI providers with their ledger, breakers and metrics; raise ProviderUnavailable."""
    observer = ProviderCalls()
    # As long as one answer may take with its retry, its repair and a second provider.
    probe = timedelta(seconds=PATIENCES * settings.ai_timeout)
    breaker = SharedBreaker(bus, probe=probe, observer=observer)
    providers = build_providers(settings, ledger=DatabaseLedger(db), breaker=breaker, observer=observer)
    try:
        yield providers
    finally:
        await providers.close()
