"""Clients and uploads for tests below the API."""

from datetime import timedelta
from uuid import uuid4

from imago.core.clients import keys
from imago.core.clients.changes import NewClient, create_client
from imago.core.clients.model import Client, Pipeline, Plan
from imago.core.clients.scopes import CLIENT_SCOPES
from imago.core.images.model import ImageFormat, ImageHeader, original_key
from imago.core.uploads.model import AcceptedImage, NewImage
from imago.core.uploads.transactions import Uploads
from imago.db.engine import Database

PEPPER = "pepper of the tests"


async def make_client(db: Database, name: str = "someone", **limits: int) -> Client:
    """Create a client on the free plan, with the given limits."""
    new = NewClient(name, Plan.FREE, CLIENT_SCOPES, limits, Pipeline())
    return await create_client(db, new, key=keys.generate(), pepper=PEPPER)


async def make_image(
    db: Database,
    client: Client,
    *,
    name: str = "photo.jpg",
    size: int = 1000,
    sha256: str | None = None,
    uploads: Uploads | None = None,
) -> AcceptedImage:
    """Accept an image without real bytes; calls that share `uploads` may share transactions."""
    uploads = uploads or Uploads(db)
    uuid = uuid4()
    key = original_key("", client.uuid, uuid)
    intent = await uploads.begin(client, image=uuid, object_key=key, ttl=timedelta(minutes=20))
    header = ImageHeader(ImageFormat.JPEG, 640, 480, 1)
    digest = sha256 or uuid.hex * 2
    return await uploads.accept(client, NewImage(intent, uuid, name, header, size, digest, key, {}))
