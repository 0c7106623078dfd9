"""Who a key is, and creating clients."""

from aiohttp import web

from imago.api import shapes
from imago.api.access import ADMIN, ANY_CLIENT, access, client_of
from imago.api.answer_schemas import MeAnswer, NewClientAnswer
from imago.api.answers import json_answer
from imago.api.documentation import documented, reads_json
from imago.api.request_schemas import NewClientBody
from imago.api.services import PRINCIPAL, services_of
from imago.database.clients import NewClient, create_client, get_usage
from imago.domain import keys
from imago.domain.clients import Pipeline, Plan, default_scopes
from imago.domain.problems import Unavailable, Unprocessable
from imago.domain.quotas import quota_json
from imago.domain.scopes import tenant_scopes
from imago.domain.stages import Stage

routes = web.RouteTableDef()


@routes.get("/auth/me", allow_head=False)
@documented(
    tag="auth", summary="Show whose key this is", answers={200: (MeAnswer, "The client, its limits and its usage.")}
)
@access(ANY_CLIENT)
async def me(request: web.Request) -> web.Response:
    """Shows the client that the key belongs to, what it may and what it uses."""
    client = client_of(request)
    usage = await get_usage(services_of(request).db, client.id)
    return json_answer(
        {
            "client": {"uuid": str(client.uuid), "name": client.name},
            "plan": str(client.plan),
            "scopes": sorted(request[PRINCIPAL].scopes),
            "limits": client.limits.to_json(),
            "quota": quota_json(usage, client.limits),
            "usage": {
                "storage_bytes": usage.storage_bytes,
                "images": usage.images,
                "ai_calls_this_month": usage.ai_calls_this_month,
            },
        }
    )


@routes.post("/auth/clients")
@documented(
    tag="auth",
    summary="Create a client",
    answers={201: (NewClientAnswer, "The client, and its key: the only time it is shown.")},
    problems=(Unprocessable,),
)
@reads_json(NewClientBody)
@access(ADMIN)
async def create(request: web.Request) -> web.Response:
    """Creates a client with the limits of its plan, and shows its first key once."""
    services = services_of(request)
    pepper = services.settings.api_key_pepper
    if pepper is None:
        raise Unavailable("The server has no API_KEY_PEPPER.")
    body = request["json"]
    wanted = body.get("pipeline", {})
    ordinary = Pipeline()
    key = keys.generate()
    client = await create_client(
        services.db,
        NewClient(
            name=body["name"],
            plan=Plan(body["plan"]),
            scopes=tenant_scopes(body["scopes"]) if "scopes" in body else default_scopes(),
            limits=body.get("limits", {}),
            pipeline=Pipeline(
                stages=tuple(Stage(name) for name in dict.fromkeys(wanted.get("stages", ordinary.stages))),
                ocr_languages=tuple(dict.fromkeys(wanted.get("ocr_languages", ()))),
                description_language=wanted.get("description_language", ordinary.description_language),
            ),
        ),
        key=key,
        pepper=pepper.get_secret_value(),
    )
    return json_answer({**shapes.client(client), "api_key": key.reveal()}, status=201)
