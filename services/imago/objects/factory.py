"""Creates the object store that the settings select."""

import asyncio

from imago.objects.local import LocalStore
from imago.objects.store import ObjectStore
from imago.runtime.startup import StartupError
from imago.settings.storage import StorageSettings


async def build_store(settings: StorageSettings) -> ObjectStore:
    """Create the object store; raise StartupError if a required setting is missing.

    This doesn't connect to the store, so a process starts while its store is unavailable.
    """
    if settings.storage_backend == "s3":
        # Importing its client takes half a second of CPU time, which delays pods that scale from zero.
        from imago.objects.s3 import S3Store

        s3 = S3Store(settings)
        await s3.open()
        return s3
    if settings.signed_url_secret is None:
        raise StartupError("STORAGE_BACKEND=local needs SIGNED_URL_SECRET")
    store = LocalStore(settings.storage_dir, url_secret=settings.signed_url_secret.get_secret_value())
    try:
        await asyncio.to_thread(store.prepare)
    except OSError as error:
        raise StartupError(f"STORAGE_DIR: cannot write to {settings.storage_dir}: {error.strerror}") from error
    return store
