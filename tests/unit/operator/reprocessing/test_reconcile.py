"""ImagoReprocess: one job for each resource, of clients that its namespace may select."""

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from imago.core.times import utc_now
from imago_operator.apis.imago_api import ApiUnavailable, ClientState, JobState, NothingSelected
from imago_operator.context import OperatorContext
from imago_operator.reprocessing.reconcile import finalize_job, reconcile_job
from imago_operator.resource import ResourceRef
from tests.support.operator import condition
from tests.support.operator_fakes import FakeWorld, Object, owner, resource

COUNTS = {"matched": 3, "queued": 0, "done": 0, "failed": 0, "cancelled": 0, "skipped": 0}
CLIENTS_PATH = "/apis/imago.dev/v1alpha1/namespaces/{}/imagoclients"


@dataclass
class Jobs:
    """Imago's reprocess jobs in memory; they take the place of the fake API's missing methods."""

    world: FakeWorld
    jobs: dict[UUID, JobState] = field(default_factory=dict)
    bodies: list[Object] = field(default_factory=list)
    nothing: bool = False

    async def get_job(self, job: UUID) -> JobState | None:
        self._require()
        return self.jobs.get(job)

    async def create_job(self, body: Any) -> JobState:
        self._require()
        if self.nothing:
            raise NothingSelected("No image matches.")
        self.bodies.append(body)
        uuid = UUID(body["uuid"])
        phase = "suspended" if body["suspended"] else "running"
        job = JobState(1, uuid, phase, body["images_per_minute"], body["suspended"], COUNTS, None)
        return self.jobs.setdefault(uuid, job)

    async def change_job(self, job: UUID, body: Any) -> JobState:
        phase = "suspended" if body["suspended"] else "running"
        self.jobs[job] = replace(self.jobs[job], phase=phase, **body)
        return self.jobs[job]

    async def delete_job(self, job: UUID) -> None:
        self._require()
        self.jobs.pop(job, None)

    def complete(self, job: UUID, *, done: int) -> None:
        counts = {**COUNTS, "queued": 3, "done": done, "failed": 3 - done}
        self.jobs[job] = replace(self.jobs[job], phase="completed", counts=counts, completed_at=utc_now())

    def _require(self) -> None:
        if self.world.faults.api_unavailable:
            raise ApiUnavailable("no reply")


@dataclass
class Setup:
    """A world with one ImagoReprocess and the clients of two namespaces."""

    world: FakeWorld
    jobs: Jobs
    ref: ResourceRef
    own: UUID
    foreign: UUID

    @property
    def operator(self) -> OperatorContext:
        return self.world.operator()

    @property
    def body(self) -> Object:
        return self.world.kubernetes.objects[_path(self.ref)]

    @property
    def ready(self) -> tuple[str, str]:
        ready = condition(self.body, "Ready")
        return str(ready["status"]), str(ready["reason"])


def _path(ref: ResourceRef) -> str:
    return f"/apis/imago.dev/v1alpha1/namespaces/{ref.namespace}/imagoreprocesses/{ref.name}"


def setup(*, namespace: str = "photos", selection: Object | None = None, **spec: Any) -> Setup:
    world = FakeWorld()
    jobs = Jobs(world)
    for name in ("get_job", "create_job", "change_job", "delete_job"):
        setattr(world.api, name, getattr(jobs, name))
    own, foreign = uuid4(), uuid4()
    usage = {"storage_bytes": 0, "images": 0, "ai_calls_this_month": 0}
    listed: list[Object] = []
    for client, name, place in ((own, "atelier", "photos"), (foreign, "studio", "elsewhere")):
        held = owner(name) if place == "photos" else "cluster/other/studio"
        world.api.clients[client] = ClientState(client, held, True, "standard", 0, usage, {}, None)
        body = resource(name, namespace=place)
        body["metadata"]["labels"] = {"tier": "gold" if place == "photos" else "basic"}
        body["status"] = {"clientId": str(client)}
        world.kubernetes.objects[CLIENTS_PATH.format(place)] = {"items": [body]}
        listed.append(body)
    world.kubernetes.objects["/api/v1/namespaces/default"] = {"metadata": {"uid": "release"}}
    body = resource("again", namespace=namespace, selection={"stages": ["ocr"], **(selection or {})}, **spec)
    body["kind"] = "ImagoReprocess"
    meta = body["metadata"]
    ref = ResourceRef(meta["namespace"], meta["name"], meta["uid"])
    world.kubernetes.objects[_path(ref)] = body
    return Setup(world, jobs, ref, own, foreign)


async def test_a_resource_has_one_job_over_the_clients_of_its_namespace() -> None:
    made = setup(imagesPerMinute=30)
    for _ in range(3):
        await reconcile_job(made.operator, made.ref)
    assert made.jobs.bodies == [
        {
            "selection": {"stages": ["ocr"], "clients": [str(made.own)]},
            "images_per_minute": 30,
            "suspended": False,
            "uuid": made.ref.uid,
        }
    ]
    status = made.body["status"]
    assert (status["phase"], status["jobId"], status["counts"]) == ("Running", 1, COUNTS)
    assert made.ready == ("True", "Reconciled")


async def test_a_job_created_before_a_crash_is_found() -> None:
    made = setup()
    await made.jobs.create_job({"uuid": made.ref.uid, "images_per_minute": 60, "suspended": False})
    await reconcile_job(made.operator, made.ref)
    assert len(made.jobs.bodies) == 1
    assert made.body["status"]["jobId"] == 1


@pytest.mark.parametrize("how", ["clientIds", "clients", "clientSelector"])
async def test_a_client_of_another_namespace_is_refused_with_condition_and_event(how: str) -> None:
    made = setup()
    made.body["spec"]["selection"] |= {
        "clientIds": {"clientIds": [str(made.own), str(made.foreign)]},
        "clients": {"clients": ["studio"]},
        "clientSelector": {"clientSelector": {"matchLabels": {"tier": "basic"}}},
    }[how]
    await reconcile_job(made.operator, made.ref)
    assert made.jobs.bodies == []
    assert made.ready == ("False", "ClientForeign")
    assert [reason for reason, _ in made.world.events] == ["ClientForeign"]
    assert made.body["status"]["phase"] == "Pending"


async def test_an_imagoclient_that_claims_a_foreign_client_does_not_make_it_its_own() -> None:
    made = setup(selection={"clients": ["atelier"]})
    listed = made.world.kubernetes.objects[CLIENTS_PATH.format("photos")]["items"]
    listed[0]["status"]["clientId"] = str(made.foreign)
    await reconcile_job(made.operator, made.ref)
    assert made.ready == ("False", "ClientForeign")


async def test_in_the_namespace_of_the_release_any_client_may_be_selected() -> None:
    everybody = setup(namespace="default")
    await reconcile_job(everybody.operator, everybody.ref)
    assert "clients" not in everybody.jobs.bodies[0]["selection"]
    one = setup(namespace="default")
    one.body["spec"]["selection"]["clientIds"] = [str(one.foreign)]
    await reconcile_job(one.operator, one.ref)
    assert one.jobs.bodies[0]["selection"]["clients"] == [str(one.foreign)]


async def test_rate_and_suspension_follow_the_spec() -> None:
    made = setup(suspended=True)
    await reconcile_job(made.operator, made.ref)
    assert (made.body["status"]["phase"], made.ready) == ("Suspended", ("True", "Suspended"))
    made.body["spec"] |= {"suspended": False, "imagesPerMinute": 600}
    await reconcile_job(made.operator, made.ref)
    job = made.jobs.jobs[UUID(made.ref.uid)]
    assert (job.images_per_minute, job.suspended, made.body["status"]["phase"]) == (600, False, "Running")


async def test_a_completed_job_is_reported_once_and_the_resource_deleted_after_its_ttl() -> None:
    made = setup(ttlAfterFinished="1h")
    await reconcile_job(made.operator, made.ref)
    made.jobs.complete(UUID(made.ref.uid), done=2)
    for _ in range(2):
        await reconcile_job(made.operator, made.ref)
    assert made.body["status"]["phase"] == "Completed"
    assert condition(made.body, "Complete")["status"] == "True"
    assert [reason for reason, _ in made.world.events].count("Completed") == 1
    made.body["spec"]["ttlAfterFinished"] = "0s"
    await reconcile_job(made.operator, made.ref)
    assert _path(made.ref) not in made.world.kubernetes.objects


async def test_a_selection_without_images_fails_and_is_not_repeated() -> None:
    made = setup()
    made.jobs.nothing = True
    await reconcile_job(made.operator, made.ref)
    assert (made.body["status"]["phase"], made.ready) == ("Failed", ("False", "NothingSelected"))
    made.jobs.nothing = False
    await reconcile_job(made.operator, made.ref)
    assert made.jobs.bodies == []


async def test_a_job_that_an_administrator_deleted_is_not_created_again() -> None:
    made = setup()
    await reconcile_job(made.operator, made.ref)
    made.jobs.jobs.clear()
    await reconcile_job(made.operator, made.ref)
    assert made.ready == ("False", "JobDeleted")
    assert len(made.jobs.bodies) == 1


async def test_while_the_api_is_unavailable_nothing_changes_and_the_deletion_waits() -> None:
    made = setup()
    await reconcile_job(made.operator, made.ref)
    made.world.faults.api_unavailable = True
    assert (await reconcile_job(made.operator, made.ref)).failed
    assert (await finalize_job(made.operator, made.ref)).failed
    made.world.faults.api_unavailable = False
    assert (await finalize_job(made.operator, made.ref)).is_finished
    assert made.jobs.jobs == {}
