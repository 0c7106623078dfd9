"""A whole instance as its document describes it: every example is what it answers, a client generated from the document
works, and after all of that no secret stands anywhere but where it was shown.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
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

OPERATOR_KEY = "the operator's key of the documented instance"

# What differs from one run to the next: these agree with their example in form, everything else to the letter.
FORMS = {
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z",
    "key": r"imago_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}",
    "key id": r"[0-9A-Za-z]{8}",
    "token": r"[\w-]+\.[\w-]+\.[\w-]+",
    "url": r"http://127\.0\.0\.1:\d+/files/signed/[\w.-]+",
    "request id": r"[0-9a-f]{32}",
}
VARYING = {
    *("id", "image_id", "next_cursor", "started_at", "done_at", "last_used_at", "attempts", "seconds", "confidence"),
    # Encoders and releases differ.
    *("size_bytes", "sha256", "storage_bytes", "storage_used_bytes", "version"),
}
# A worker may be faster than the answer.
RACING = {"POST /images/{id}/reprocess.stages.vision.status"}


@dataclass
class Documented:
    """A running instance, its document, everything it answered, and what was secret of it."""

    instance: Instance
    http: httpx.Client
    document: dict[str, Any]
    secrets: set[str] = field(default_factory=set)
    answers: list[str] = field(default_factory=list)
    recorded: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, headers: dict[str, str], **options: Any) -> httpx.Response:
        """Make a request and keep what was answered."""
        answer = self.http.request(method, path, headers=headers, **options)
        self.answers.append(f"{answer.status_code} {answer.headers} {answer.text}")
        return answer

    def example(self, operation: str, key: str, *, expected: int, **parts: object) -> Any:
        """Call an operation with its example, or its form, and hold the answer against the one documented."""
        method, template = operation.split(" ")
        form = parts.pop("files", None)
        query = parts.pop("params", None)
        described = self.document["paths"][template][method.lower()]
        options: dict[str, Any] = {"params": query, "files": form}
        bodies = described.get("requestBody", {}).get("content", {})
        if "application/json" in bodies:
            options["json"] = parts.pop("json", None) or bodies["application/json"]["example"]
        answer = self.call(method, template.format(**parts), {"X-API-Key": key}, **options)
        assert answer.status_code == expected, f"{operation}: {answer.text}"
        self.secrets |= set(re.findall(FORMS["key"], answer.text))
        if expected == 204:
            return None
        body = answer.json()
        self.recorded.setdefault(operation, {"responses": {}})["responses"][str(expected)] = body
        if not RECORDING:
            (media,) = described["responses"][str(expected)]["content"].values()
            agree(media["example"], body, operation)
        return body

    @property
    def admin(self) -> str:
        """The administrator's key."""
        saved: dict[str, str] = json.loads((self.instance.data_dir / "secrets.json").read_text())
        return saved["ADMIN_API_KEY"]


# `IMAGO_RECORD_EXAMPLES=file` writes down what is answered instead of comparing it, to begin new examples with.
RECORDING = os.environ.get("IMAGO_RECORD_EXAMPLES")


def agree(example: Any, answer: Any, where: str) -> None:
    """Hold an answer against its example."""
    if isinstance(example, dict):
        assert isinstance(answer, dict), where
        assert set(example) == set(answer), where
        for name, value in example.items():
            agree(value, answer[name], f"{where}.{name}")
    elif isinstance(example, list):
        assert isinstance(answer, list), where
        assert len(example) == len(answer), where
        for number, pair in enumerate(zip(example, answer, strict=True)):
            agree(*pair, f"{where}[{number}]")
    elif where.rsplit(".", 1)[-1] in VARYING or where in RACING:
        assert isinstance(answer, type(example)) or None in (answer, example), f"{where}: {answer!r}"
    elif isinstance(example, str) and (form := form_of(example)) is not None:
        assert form_of(str(answer)) == form, f"{where}: {answer!r} is no {form}"
    else:
        assert answer == example, where


def form_of(text: str) -> str | None:
    """Return which of the forms a text has."""
    return next((name for name, pattern in FORMS.items() if re.fullmatch(pattern, text)), None)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    """An instance of its own, in which ids begin at 1."""
    folder = tmp_path_factory.mktemp("documented")
    running = Instance(folder / "data", OPERATOR_API_KEY=OPERATOR_KEY, LOG_LEVEL="debug").start(timeout=150)
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=60) as http:
        document = http.get("/openapi.json").json()
        saved = json.loads((running.data_dir / "secrets.json").read_text())
        yield Documented(running, http, document, {OPERATOR_KEY, running.key, *saved.values()})
    running.stop(timeout=120)
    running.kill()


def photo(folder: Path) -> Path:
    """Return a photo with what a camera writes beside it."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "NIKON", "COOLPIX P6000"
    exif.get_ifd(0x8769).update({0x9003: "2008:10:22 16:28:39", 0x829D: (59, 10), 0x829A: (1, 75), 0x8827: 64})
    exif.get_ifd(0x8825).update({1: "N", 2: (43.0, 28.0, 2.81), 3: "E", 4: (11.0, 53.0, 6.46)})
    path = folder / "photo.jpg"
    Image.open(COFFEE).convert("RGB").save(path, quality=90, exif=exif)
    return path


def ended(documented: Documented, key: str, image: object) -> None:
    """Wait until an image's stages have ended."""
    deadline = time.monotonic() + 120
    while documented.http.get(f"/images/{image}/status", headers={"X-API-Key": key}).json()["status"] in (
        "pending",
        "processing",
    ):
        assert time.monotonic() < deadline, "the image did not end"
        time.sleep(0.2)


def test_every_example_is_what_a_running_instance_answers(documented: Documented, tmp_path: Path) -> None:
    ask, admin = documented.example, documented.admin
    made = ask("POST /auth/clients", admin, expected=201)
    ref, key = made["uuid"], made["api_key"]
    ask("GET /auth/me", key, expected=200)
    token = ask("POST /auth/token", key, expected=201)["token"]
    documented.secrets.add(token)
    file = photo(tmp_path).read_bytes()
    image = ask("POST /images/upload", key, expected=201, files={"file": ("photo.jpg", file, "image/jpeg")})["id"]
    ended(documented, key, image)
    ask("GET /images/{id}", key, expected=200, id=image)
    for part in ("status", "exif", "ocr", "ai"):
        ask(f"GET /images/{{id}}/{part}", key, expected=200, id=image)
    for part in ("download-url", "thumbnail-url"):
        url = ask(f"GET /images/{{id}}/{part}", key, expected=200, id=image)["url"]
        documented.secrets.add(url.rsplit("/", 1)[1])
        assert documented.http.get(url).status_code == 200
    ask("PATCH /images/{id}", key, expected=200, id=image)
    ask("GET /images", key, expected=200)
    ask("GET /images/tags/all", key, expected=200)
    ask("POST /images/{id}/reprocess", key, expected=202, id=image)
    ended(documented, key, image)
    ask("POST /ai/draft-task", key, expected=200)

    broken = encoded("jpeg", picture(900, 900))[:5000]
    answer = documented.call(
        "POST", "/images/upload", {"X-API-Key": key}, files={"file": ("cut.jpg", broken, "image/jpeg")}
    )
    cut = answer.json()["id"]
    ended(documented, key, cut)
    letters = ask("GET /admin/dead-letters", admin, expected=200, params={"client": ref, "stage": "ocr"})
    ask("POST /admin/dead-letters/replay", admin, expected=202, json={"ids": [letters["items"][0]["id"]]})
    # A job still under way would be counted by `lane_open` when the client changes its lane below.
    ended(documented, key, cut)
    ask("DELETE /images/{id}", key, expected=204, id=image)

    ask("GET /auth/clients", admin, expected=200, params={"plan": "standard"})
    ask("GET /auth/clients/{id}", admin, expected=200, id=ref)
    ask("PATCH /auth/clients/{id}", admin, expected=200, id=ref)
    ask("POST /auth/clients/{id}/rotate-key", admin, expected=200, id=ref)
    ask("DELETE /auth/clients/{id}", admin, expected=204, id=ref)
    ask("GET /admin/audit", admin, expected=200, params={"client": ref, "action": "key.rotated"})

    owned = str(uuid4())
    ask("PUT /auth/clients/{id}", OPERATOR_KEY, expected=201, id=owned)
    ask("PUT /auth/clients/{id}/keys/{key_id}", OPERATOR_KEY, expected=201, id=owned, key_id="q8Zt3LwA")
    ask("DELETE /auth/clients/{id}/keys/{key_id}", OPERATOR_KEY, expected=204, id=owned, key_id="q8Zt3LwA")
    ask("DELETE /auth/clients/{id}", admin, expected=202, id=owned, params={"erase": "true"})

    for path in ("/", "/health", "/health/ready", "/health/detailed"):
        ask(f"GET {path}", key, expected=200)
    if RECORDING:
        Path(RECORDING).write_text(json.dumps(documented.recorded, indent=2))
    # A page of the web has no place in this test; test_ai.py holds those examples.
    assert set(EXAMPLES) - set(documented.recorded) == {"POST /ai/summarize"}, (
        "an example that nothing was held against"
    )


def test_every_operation_with_json_has_an_example(documented: Documented) -> None:
    lacking = []
    for path, item in documented.document["paths"].items():
        for method, operation in item.items():
            answers = [
                answer["content"]["application/json"]
                for status, answer in operation["responses"].items()
                if status.startswith("2") and "application/json" in answer.get("content", {})
            ]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {"example": None})
            if path != "/openapi.json" and (
                "example" not in body or (answers and not any("example" in answer for answer in answers))
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


def test_a_client_generated_from_the_document_uploads_and_reads_back(documented: Documented, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(documented.document))
    # Its hooks would tidy code that nobody reads.
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


def test_no_secret_is_anywhere_but_where_it_was_shown(documented: Documented, tmp_path: Path) -> None:
    """Goes last: what the tests above did is a part of the run that is looked through."""
    instance, port = documented.instance, documented.instance.port
    mine = {"X-API-Key": instance.key}
    stranger = keys.generate()
    mistyped = instance.key[:-1] + ("0" if instance.key[-1] != "0" else "1")
    documented.secrets |= {stranger.reveal(), stranger.secret, stranger.wire_digest.hex(), mistyped}
    events: list[bytes] = []
    listening = threading.Thread(target=_listen, args=(documented.http.base_url, instance.key, events), daemon=True)
    listening.start()
    for headers in (
        {"X-API-Key": stranger.reveal()},
        {"X-API-Key": mistyped},
        {"X-API-Key": f"{instance.key} x"},
        {"Authorization": f"Bearer {instance.key}"},
        {"Authorization": f"Basic {instance.key}"},
        {"Cookie": f"key={instance.key}"},
    ):
        assert documented.call("GET", "/images", headers).status_code == 401
    # Where a key has no place, and is sent all the same.
    for method, path, options in (
        ("GET", f"/images/{stranger.reveal()}", {}),
        ("GET", "/images", {"params": {"api_key": stranger.reveal()}}),
        ("GET", f"/files/signed/{stranger.reveal()}", {}),
        ("POST", "/ai/summarize", {"json": {"url": f"http://me:{stranger.secret}@127.0.0.1/"}}),
        ("POST", "/ai/summarize", {"json": {"url": f"http://127.0.0.1/?key={stranger.secret}"}}),
        ("POST", "/auth/token", {"json": {"scopes": [stranger.reveal()]}}),
        ("POST", "/ai/draft-task", {"content": stranger.reveal().encode()}),
    ):
        assert documented.call(method, path, mine, **options).status_code in (400, 404, 422)
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {instance.key}\0\r\n\r\n".encode())
        documented.answers.append(raw.recv(65536).decode())
    (tmp_path / "second").mkdir()
    instance.upload(photo(tmp_path / "second"))
    deadline = time.monotonic() + 30
    while b"image.done" not in b"".join(tuple(events)):
        assert time.monotonic() < deadline, "the event stream told of no image that was done"
        time.sleep(0.05)
    documented.secrets |= {secret.split("_")[2] for secret in documented.secrets if re.fullmatch(FORMS["key"], secret)}

    shown_to = {instance.data_dir / "default-client.json", instance.data_dir / "secrets.json"}
    looked_through = 0
    for path in instance.data_dir.rglob("*"):
        if path.is_file() and path not in shown_to:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                # The instance is at work, and its journals come and go.
                continue
            found = [secret for secret in documented.secrets if secret.encode() in data]
            assert not found, f"{path.relative_to(instance.data_dir)} holds {len(found)} secrets"
            looked_through += 1
    assert looked_through > 20
    logs = "".join(path.read_text(errors="replace") for path in instance.data_dir.rglob("*.log"))
    assert "request.invalid-http" in logs, "the logs are not where this test looks"
    metrics = documented.http.get("/metrics").text
    assert "imago_http_requests_total" in metrics
    refusals = [answer for answer in documented.answers if re.match(r"(HTTP/\S+ )?4\d\d ", answer)]
    assert len(refusals) >= 14
    told = b"".join(tuple(events))
    for secret in documented.secrets:
        assert secret not in metrics
        assert secret.encode() not in told
        assert not any(secret in refusal for refusal in refusals)
        # A key, a token and a signed URL are shown in the one answer that makes them.
        assert sum(secret in answer for answer in documented.answers) <= 1


def _listen(base_url: httpx.URL, key: str, events: list[bytes]) -> None:
    opened = httpx.stream("GET", f"{base_url}/images/events", headers={"X-API-Key": key}, timeout=60)
    with contextlib.suppress(httpx.HTTPError), opened as stream:
        for data in stream.iter_bytes():
            events.append(data)
