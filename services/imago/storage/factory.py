"""Builds the store that the settings name."""

import asyncio

from imago.settings import Settings
from imago.storage.local import LocalStore
from imago.storage.store import ObjectStore


async def build_store(settings: Settings) -> ObjectStore:
    """Build the object store; raise ValueError where a setting it needs is missing."""
    if settings.storage_backend == "s3":
        raise ValueError("STORAGE_BACKEND=s3 is not in this version")
    if settings.signed_url_secret is None:
        raise ValueError("STORAGE_BACKEND=local needs SIGNED_URL_SECRET")
    store = LocalStore(settings.storage_dir, url_secret=settings.signed_url_secret.get_secret_value())
    await asyncio.to_thread(store.prepare)
    return store
