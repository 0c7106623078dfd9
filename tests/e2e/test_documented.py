"""A running instance matches its OpenAPI document: examples agree, a generated client works, no secret leaks."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from devtools.instance import Instance
from devtools.photos import COFFEE
from imago.api.openapi.document import EXAMPLES
from imago.core.clients import keys
from tests.support.images import encoded, picture
from tests.support.pages import ENGLISH, page

OPERATOR_KEY = "the operator's key of the documented instance"

# Values that differ between runs must have the form of the example's value; all others must equal it.
FORMS = {
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z",
    "key": r"imago_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}",
    "key id": r"[0-9A-Za-z]{8}",
    "token": r"[\w-]+\.[\w-]+\.[\w-]+",
    "url": r"http://127\.0\.0\.1:\d+/files/signed/[\w.-]+",
    "request id": r"[0-9a-f]{32}",
}
# These fields need only have the type of the example's value.
VARYING = {
    *("id", "image_id", "next_cursor", "started_at", "done_at", "last_used_at", "attempts", "seconds", "confidence"),
    *("score", "cosine", "different_bits", "oldest_wait_seconds"),
    # They differ between releases of Imago and of image encoders.
    *("size_bytes", "sha256", "storage_bytes", "storage_used_bytes", "version"),
}
# A worker may start before the response is built.
RACING = {"POST /images/{id}/reprocess.stages.vision.status"}

# `IMAGO_RECORD_EXAMPLES=file` writes the responses to a file, as new examples, instead of comparing them.
RECORDING = os.environ.get("IMAGO_RECORD_EXAMPLES")


@dataclass
class Documented:
    """A running instance, its OpenAPI document, all of its responses, and the secrets among them."""

    instance: Instance
    http: httpx.Client
    document: dict[str, Any]
    secrets: set[str] = field(default_factory=set)
    responses: list[str] = field(default_factory=list)
    recorded: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, headers: dict[str, str], **options: Any) -> httpx.Response:
        """Send a request and keep the response."""
        response = self.http.request(method, path, headers=headers, **options)
        self.responses.append(f"{response.status_code} {response.headers} {response.text}")
        return response

    def example(self, operation: str, key: str, *, expected: int, **parts: object) -> Any:
        """Call an operation with its example body, or with `files`, and compare the response with its example."""
        method, template = operation.split(" ")
        described = self.document["paths"][template][method.lower()]
        options: dict[str, Any] = {"params": parts.pop("params", None), "files": parts.pop("files", None)}
        bodies = described.get("requestBody", {}).get("content", {})
        if "application/json" in bodies:
            options["json"] = parts.pop("json", None) or bodies["application/json"]["example"]
        response = self.call(method, template.format(**parts), {"X-API-Key": key}, **options)
        assert response.status_code == expected, f"{operation}: {response.text}"
        self.secrets |= set(re.findall(FORMS["key"], response.text))
        if expected == 204:
            return None
        body = response.json()
        self.recorded.setdefault(operation, {"responses": {}})["responses"][str(expected)] = body
        if not RECORDING:
            (media,) = described["responses"][str(expected)]["content"].values()
            compare(media["example"], body, operation)
        return body

    @property
    def admin(self) -> str:
        """The administrator's key."""
        saved: dict[str, str] = json.loads((self.instance.data_dir / "secrets.json").read_text())
        return saved["ADMIN_API_KEY"]


@dataclass(frozen=True)
class Tenant:
    """A client that was created from the documented example."""

    ref: str
    key: str


def compare(example: Any, actual: Any, where: str) -> None:
    """Compare a response with its example."""
    if isinstance(example, dict):
        assert isinstance(actual, dict), where
        assert set(example) == set(actual), where
        for name, value in example.items():
            compare(value, actual[name], f"{where}.{name}")
    elif isinstance(example, list):
        assert isinstance(actual, list), where
        assert len(example) == len(actual), where
        for number, pair in enumerate(zip(example, actual, strict=True)):
            compare(*pair, f"{where}[{number}]")
    elif where.rsplit(".", 1)[-1] in VARYING or where in RACING:
        assert isinstance(actual, type(example)) or None in (actual, example), f"{where}: {actual!r}"
    elif isinstance(example, str) and (form := form_of(example)) is not None:
        assert form_of(str(actual)) == form, f"{where}: {actual!r} does not have the form {form}"
    else:
        assert actual == example, where


def form_of(text: str) -> str | None:
    """Return the name of the form that a text has."""
    return next((name for name, pattern in FORMS.items() if re.fullmatch(pattern, text)), None)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    """One instance for all tests of this file."""
    folder = tmp_path_factory.mktemp("documented")
    running = Instance(folder / "data", OPERATOR_API_KEY=OPERATOR_KEY, LOG_LEVEL="debug").start(timeout=150)
    assert running.process is not None
    # At LOG_LEVEL=debug it prints all logs. If nobody read them, the pipe would fill, and it could not stop.
    threading.Thread(target=deque, args=(running.process.stdout, 0), daemon=True).start()
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=60) as http:
        document = http.get("/openapi.json").json()
        saved = json.loads((running.data_dir / "secrets.json").read_text())
        documented = Documented(running, http, document, {OPERATOR_KEY, running.key, *saved.values()})
        yield documented
    if RECORDING:
        Path(RECORDING).write_text(json.dumps(documented.recorded, indent=2))
    running.stop(timeout=120)
    running.kill()


@pytest.fixture
def tenant(documented: Documented) -> Iterator[Tenant]:
    """A new client; it is deactivated after the test, so that lists of active clients contain only one."""
    created = documented.example("POST /auth/clients", documented.admin, expected=201)
    yield Tenant(created["uuid"], created["api_key"])
    documented.http.delete(f"/auth/clients/{created['uuid']}", headers={"X-API-Key": documented.admin})


@pytest.fixture
def image(documented: Documented, tenant: Tenant, tmp_path: Path) -> int:
    """The id of the client's first image, whose stages are done."""
    files = {"file": ("photo.jpg", photo(tmp_path).read_bytes(), "image/jpeg")}
    uploaded: int = documented.example("POST /images/upload", tenant.key, expected=201, files=files)["id"]
    wait_ended(documented, tenant.key, uploaded)
    return uploaded


def photo(folder: Path) -> Path:
    """Return a photo with the EXIF data of a camera."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "NIKON", "COOLPIX P6000"
    exif.get_ifd(0x8769).update({0x9003: "2008:10:22 16:28:39", 0x829D: (59, 10), 0x829A: (1, 75), 0x8827: 64})
    exif.get_ifd(0x8825).update({1: "N", 2: (43.0, 28.0, 2.81), 3: "E", 4: (11.0, 53.0, 6.46)})
    path = folder / "photo.jpg"
    Image.open(COFFEE).convert("RGB").save(path, quality=90, exif=exif)
    return path


def wait_ended(documented: Documented, key: str, image: object) -> None:
    """Wait until all stages of an image have ended."""
    deadline = time.monotonic() + 120
    while documented.http.get(f"/images/{image}/status", headers={"X-API-Key": key}).json()["status"] in (
        "pending",
        "processing",
    ):
        assert time.monotonic() < deadline, "the image did not end"
        time.sleep(0.2)


def test_a_new_client_sees_its_limits_and_usage(documented: Documented, tenant: Tenant) -> None:
    documented.example("GET /auth/me", tenant.key, expected=200)


def test_a_key_makes_a_token(documented: Documented, tenant: Tenant) -> None:
    token = documented.example("POST /auth/token", tenant.key, expected=201)["token"]
    documented.secrets.add(token)
    assert documented.http.get("/images", headers={"Authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize("path", ["", "/status", "/exif", "/ocr", "/ai"])
def test_an_image_is_shown_with_its_results(documented: Documented, tenant: Tenant, image: int, path: str) -> None:
    params = {"include": "readings,words"} if path == "/ocr" else None
    documented.example(f"GET /images/{{id}}{path}", tenant.key, expected=200, id=image, params=params)


@pytest.mark.parametrize("path", ["download-url", "thumbnail-url"])
def test_a_signed_url_opens_without_a_key(documented: Documented, tenant: Tenant, image: int, path: str) -> None:
    url = documented.example(f"GET /images/{{id}}/{path}", tenant.key, expected=200, id=image)["url"]
    documented.secrets.add(url.rsplit("/", 1)[1])
    assert documented.http.get(url).status_code == 200


def test_user_words_appear_in_the_image_in_lists_and_in_tags(
    documented: Documented, tenant: Tenant, image: int
) -> None:
    documented.example("PATCH /images/{id}", tenant.key, expected=200, id=image)
    documented.example("GET /images", tenant.key, expected=200)
    documented.example("GET /images/tags/all", tenant.key, expected=200)


def test_a_smaller_copy_is_similar(documented: Documented, tenant: Tenant, image: int, tmp_path: Path) -> None:
    copy = tmp_path / "photo-small.jpg"
    with Image.open(photo(tmp_path)) as opened:
        opened.reduce(2).save(copy, quality=80)
    files = {"file": (copy.name, copy.read_bytes(), "image/jpeg")}
    uploaded = documented.call("POST", "/images/upload", {"X-API-Key": tenant.key}, files=files).json()["id"]
    wait_ended(documented, tenant.key, uploaded)
    documented.example("GET /images/{id}/similar", tenant.key, expected=200, id=image)


def test_a_stage_runs_again_on_request(documented: Documented, tenant: Tenant, image: int) -> None:
    documented.example("POST /images/{id}/reprocess", tenant.key, expected=202, id=image)
    wait_ended(documented, tenant.key, image)


def test_a_deleted_image_is_not_found(documented: Documented, tenant: Tenant, image: int) -> None:
    documented.example("DELETE /images/{id}", tenant.key, expected=204, id=image)
    assert documented.call("GET", f"/images/{image}", {"X-API-Key": tenant.key}).status_code == 404


def test_a_task_is_drafted_from_a_description(documented: Documented, tenant: Tenant) -> None:
    documented.example("POST /ai/draft-task", tenant.key, expected=200)


def test_a_stage_in_progress_is_in_the_queues(documented: Documented, tenant: Tenant) -> None:
    part = page(ENGLISH)
    dense = Image.new("L", (2 * part.width, 4 * part.height), 255)
    for number in range(8):
        dense.paste(part, (number % 2 * part.width, number // 2 * part.height))
    files = {"file": ("page.jpg", encoded("jpeg", dense, quality=60), "image/jpeg")}
    uploaded = documented.call("POST", "/images/upload", {"X-API-Key": tenant.key}, files=files).json()["id"]
    deadline = time.monotonic() + 60
    # OCR of such a page takes seconds; the other stages have ended by then.
    while [(item["stage"], item["running"]) for item in queues(documented)] != [("ocr", 1)]:
        assert time.monotonic() < deadline, "OCR is not in progress"
        time.sleep(0.1)
    documented.example("GET /admin/queues", documented.admin, expected=200)
    wait_ended(documented, tenant.key, uploaded)


def queues(documented: Documented) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = documented.call("GET", "/admin/queues", {"X-API-Key": documented.admin}).json()[
        "items"
    ]
    return items


def test_a_stage_that_failed_is_a_dead_letter_that_can_be_replayed(documented: Documented, tenant: Tenant) -> None:
    truncated = encoded("png", picture(900, 900))[:60]
    files = {"file": ("cut.png", truncated, "image/png")}
    uploaded = documented.call("POST", "/images/upload", {"X-API-Key": tenant.key}, files=files).json()["id"]
    wait_ended(documented, tenant.key, uploaded)
    query = {"client": tenant.ref, "stage": "ocr"}
    letters = documented.example("GET /admin/dead-letters", documented.admin, expected=200, params=query)
    replayed = {"ids": [letters["items"][0]["id"]]}
    documented.example("POST /admin/dead-letters/replay", documented.admin, expected=202, json=replayed)
    wait_ended(documented, tenant.key, uploaded)


@pytest.mark.usefixtures("image")
def test_old_images_are_reprocessed_by_a_job(documented: Documented, tenant: Tenant) -> None:
    selection = {"stages": ["ocr"], "clients": [tenant.ref], "engine_not": "tesserocr"}
    body = {"selection": selection, "suspended": True}
    jobs = "/admin/reprocess-jobs"
    documented.example(f"POST {jobs}", documented.admin, expected=200, json={**body, "dry_run": True})
    job = documented.example(f"POST {jobs}", documented.admin, expected=201, json=body)["uuid"]
    documented.example(f"GET {jobs}", documented.admin, expected=200)
    documented.example(f"GET {jobs}/{{id}}", documented.admin, expected=200, id=job)
    documented.example(f"PATCH {jobs}/{{id}}", documented.admin, expected=200, id=job)
    resumed = documented.call("PATCH", f"{jobs}/{job}", {"X-API-Key": documented.admin}, json={"suspended": False})
    deadline = time.monotonic() + 120
    while resumed.json()["phase"] != "completed":
        assert time.monotonic() < deadline, resumed.text
        time.sleep(0.5)
        resumed = documented.call("GET", f"{jobs}/{job}", {"X-API-Key": documented.admin})
    assert resumed.json()["counts"]["done"] == 1
    documented.example(f"DELETE {jobs}/{{id}}", documented.admin, expected=204, id=job)


@pytest.mark.usefixtures("image")
def test_an_administrator_lists_shows_and_changes_a_client(documented: Documented, tenant: Tenant) -> None:
    active = {"plan": "standard", "active": "true"}
    documented.example("GET /auth/clients", documented.admin, expected=200, params=active)
    documented.example("GET /auth/clients/{id}", documented.admin, expected=200, id=tenant.ref)
    documented.example("PATCH /auth/clients/{id}", documented.admin, expected=200, id=tenant.ref)


def test_a_rotation_returns_a_new_key_and_is_in_the_audit_log(documented: Documented, tenant: Tenant) -> None:
    documented.example("POST /auth/clients/{id}/rotate-key", documented.admin, expected=200, id=tenant.ref)
    query = {"client": tenant.ref, "action": "key.rotated"}
    documented.example("GET /admin/audit", documented.admin, expected=200, params=query)


def test_the_key_of_a_deactivated_client_is_rejected(documented: Documented, tenant: Tenant) -> None:
    documented.example("DELETE /auth/clients/{id}", documented.admin, expected=204, id=tenant.ref)
    # Replicas cache keys for some seconds.
    deadline = time.monotonic() + 10
    while documented.http.get("/auth/me", headers={"X-API-Key": tenant.key}).status_code != 401:
        assert time.monotonic() < deadline, "the key is still accepted"
        time.sleep(0.2)


def test_the_operator_manages_a_client_that_an_administrator_erases(documented: Documented) -> None:
    owned = {"id": str(uuid4())}
    key = {**owned, "key_id": "q8Zt3LwA"}
    documented.example("PUT /auth/clients/{id}", OPERATOR_KEY, expected=201, **owned)
    documented.example("PUT /auth/clients/{id}/keys/{key_id}", OPERATOR_KEY, expected=201, **key)
    documented.example("DELETE /auth/clients/{id}/keys/{key_id}", OPERATOR_KEY, expected=204, **key)
    documented.example("DELETE /auth/clients/{id}", documented.admin, expected=202, params={"erase": "true"}, **owned)


@pytest.mark.parametrize("path", ["/", "/health", "/health/ready", "/health/detailed"])
def test_the_service_reports_its_version_and_health(documented: Documented, path: str) -> None:
    documented.example(f"GET {path}", documented.instance.key, expected=200)


def test_every_example_was_compared(documented: Documented, request: pytest.FixtureRequest) -> None:
    """Runs after the tests above, and only together with all of them."""
    selected = {getattr(item, "originalname", "") for item in request.session.items if item.path == request.path}
    if not {name for name in globals() if name.startswith("test_")} <= selected:
        pytest.skip("needs all tests of this file")
    # Tests do not fetch pages from the internet; test_ai.py checks this example.
    assert set(EXAMPLES) - set(documented.recorded) == {"POST /ai/summarize"}


def test_every_operation_with_json_has_an_example(documented: Documented) -> None:
    lacking = []
    for path, item in documented.document["paths"].items():
        for method, operation in item.items():
            responses = [
                response["content"]["application/json"]
                for status, response in operation["responses"].items()
                if status.startswith("2") and "application/json" in response.get("content", {})
            ]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {"example": None})
            if path != "/openapi.json" and (
                "example" not in body or (responses and not any("example" in response for response in responses))
            ):
                lacking.append(f"{method.upper()} {path}")
    assert not lacking


CALL = """
import json, sys
from pathlib import Path

from imago_client import AuthenticatedClient
from imago_client.api.images import get_images_id, post_images_upload
from imago_client.models import Problem, PostImagesUploadBody
from imago_client.types import File

url, key, path = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=key, prefix="", auth_header_name="X-API-Key") as client:
    with open(path, "rb") as photo:
        file = File(payload=photo, file_name="photo.jpg", mime_type="image/jpeg")
        accepted = post_images_upload.sync(client=client, body=PostImagesUploadBody(file=file))
    shown = get_images_id.sync(id=accepted.id, client=client)
    missing = get_images_id.sync(id=999999, client=client)
    assert isinstance(missing, Problem), missing
print(json.dumps([accepted.to_dict(), shown.to_dict(), missing.to_dict()]))
"""


def test_a_client_generated_from_the_document_uploads_and_reads_an_image(
    documented: Documented, tmp_path: Path
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(documented.document))
    # The generator's default hooks would format the code.
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    generate = [Path(sys.executable).parent / "openapi-python-client", "generate", "--meta", "none"]
    files = ["--path", "openapi.json", "--output-path", "imago_client", "--config", "config.yaml"]
    subprocess.run([*generate, *files], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(documented.http.base_url), documented.instance.key, photo(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    accepted, shown, missing = json.loads(done.stdout)
    assert (shown["uuid"], shown["original_name"], shown["width"]) == (accepted["uuid"], "photo.jpg", 600)
    assert missing["code"] == "not-found"


def test_secrets_appear_only_in_the_response_that_creates_them(documented: Documented, tmp_path: Path) -> None:
    """Runs last, so that it also examines what the tests above left in logs and files."""
    instance, unknown = documented.instance, keys.generate()
    documented.secrets |= {unknown.reveal(), unknown.secret, unknown.wire_digest.hex(), mistyped(instance.key)}
    events: list[bytes] = []
    url = f"{documented.http.base_url}/images/events"
    threading.Thread(target=_listen, args=(url, instance.key, events), daemon=True).start()
    _send_invalid_credentials(documented, unknown.reveal())
    _send_keys_in_wrong_places(documented, unknown)
    _send_malformed_http(documented)
    instance.upload(photo(tmp_path))
    _wait_for(b"image.done", events)
    documented.secrets |= {secret.split("_")[2] for secret in documented.secrets if re.fullmatch(FORMS["key"], secret)}

    _assert_no_secret_in_files(documented)
    metrics = documented.http.get("/metrics").text
    assert "imago_http_requests_total" in metrics
    rejections = [response for response in documented.responses if re.match(r"(HTTP/\S+ )?4\d\d ", response)]
    assert len(rejections) >= 14
    received = b"".join(tuple(events))
    for secret in documented.secrets:
        assert secret not in metrics
        assert secret.encode() not in received
        assert not any(secret in response for response in rejections)
        # A key, a token and a signed URL appear only in the response that creates them.
        assert sum(secret in response for response in documented.responses) <= 1


def mistyped(key: str) -> str:
    """Return a key with another last letter, so that its checksum is wrong."""
    return key[:-1] + ("0" if key[-1] != "0" else "1")


def _send_invalid_credentials(documented: Documented, unknown: str) -> None:
    key = documented.instance.key
    for headers in (
        {"X-API-Key": unknown},
        {"X-API-Key": mistyped(key)},
        {"X-API-Key": f"{key} x"},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"Basic {key}"},
        {"Cookie": f"key={key}"},
    ):
        assert documented.call("GET", "/images", headers).status_code == 401


def _send_keys_in_wrong_places(documented: Documented, unknown: Any) -> None:
    for method, path, options in (
        ("GET", f"/images/{unknown.reveal()}", {}),
        ("GET", "/images", {"params": {"api_key": unknown.reveal()}}),
        ("GET", f"/files/signed/{unknown.reveal()}", {}),
        ("POST", "/ai/summarize", {"json": {"url": f"http://me:{unknown.secret}@127.0.0.1/"}}),
        ("POST", "/ai/summarize", {"json": {"url": f"http://127.0.0.1/?key={unknown.secret}"}}),
        ("POST", "/auth/token", {"json": {"scopes": [unknown.reveal()]}}),
        ("POST", "/ai/draft-task", {"content": unknown.reveal().encode()}),
    ):
        response = documented.call(method, path, {"X-API-Key": documented.instance.key}, **options)
        assert response.status_code in (400, 404, 422)


def _send_malformed_http(documented: Documented) -> None:
    with socket.create_connection(("127.0.0.1", documented.instance.port)) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {documented.instance.key}\0\r\n\r\n".encode())
        documented.responses.append(raw.recv(65536).decode())


def _assert_no_secret_in_files(documented: Documented) -> None:
    data_dir = documented.instance.data_dir
    meant_for_secrets = {data_dir / "default-client.json", data_dir / "secrets.json"}
    examined = 0
    for path in data_dir.rglob("*"):
        # The running instance creates and deletes journals meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path not in meant_for_secrets:
                data = path.read_bytes()
                found = [secret for secret in documented.secrets if secret.encode() in data]
                assert not found, f"{path.relative_to(data_dir)} contains {len(found)} secrets"
                examined += 1
    assert examined > 20
    logs = "".join(path.read_text(errors="replace") for path in data_dir.rglob("*.log"))
    assert "request.invalid-http" in logs, "this test does not find the logs"


def _wait_for(name: bytes, events: list[bytes]) -> None:
    deadline = time.monotonic() + 30
    while name not in b"".join(tuple(events)):
        assert time.monotonic() < deadline, f"no event {name.decode()}"
        time.sleep(0.05)


def _listen(url: str, key: str, events: list[bytes]) -> None:
    opened = httpx.stream("GET", url, headers={"X-API-Key": key}, timeout=60)
    with contextlib.suppress(httpx.HTTPError), opened as stream:
        for data in stream.iter_bytes():
            events.append(data)
