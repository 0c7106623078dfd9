"""The pod of `helm test`: makes a client, uploads an image, waits for its stages, reads it back, erases the client."""

import io
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any

from PIL import Image, ImageDraw

URL = os.environ["IMAGO_URL"]
DEADLINE = time.monotonic() + float(os.environ.get("TIMEOUT", "300"))


def call(method: str, path: str, key: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
    """Send a request and return the answer's JSON; ends the test where the answer is no success."""
    request = urllib.request.Request(URL + path, data=body, method=method, headers={"X-API-Key": key})
    if body is not None:
        request.add_header("Content-Type", content_type)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path} answered {error.code}: {error.read().decode(errors='replace')[:500]}")


def wait_reachable() -> None:
    """Wait until the Service answers: names and endpoints of a fresh installation take a moment to get around."""
    while True:
        try:
            with urllib.request.urlopen(f"{URL}/health", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > DEADLINE:
                sys.exit(f"{URL} can't be reached: {error}")
            time.sleep(1)


def photo() -> bytes:
    """Return an image with words on it, another one each time."""
    image = Image.new("RGB", (640, 400), "white")
    ImageDraw.Draw(image).text((40, 150), f"IMAGO {uuid.uuid4().hex[:8]}", fill="black", font_size=48)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def upload(key: str, data: bytes) -> Any:
    """Upload a file as a form and return the answer."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="test.png"\r\n'
    form = f"{head}Content-Type: image/png\r\n\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return call("POST", "/images/upload", key, form, f"multipart/form-data; boundary={boundary}")


def read_back(key: str, image: int, data: bytes) -> str:
    """Compare the stored original with what was sent, where its URL leads to this API."""
    where = call("GET", f"/images/{image}/download-url", key)["url"]
    host = urllib.parse.urlsplit(where).netloc
    if host != urllib.parse.urlsplit(URL).netloc:
        return f"not downloaded: its URL leads to {host}"
    with urllib.request.urlopen(where, timeout=30) as answer:
        if answer.read() != data:
            sys.exit("the stored original differs from what was uploaded")
    return "downloaded, and equal"


def run(key: str) -> None:
    """Upload, wait until the image has ended, read it back."""
    data = photo()
    image = upload(key, data)["id"]
    print(f"uploaded image {image}")
    status: Any = {}
    while status.get("status") not in ("done", "partial", "failed"):
        if time.monotonic() > DEADLINE:
            sys.exit(f"not ended in time: {json.dumps(status)}")
        time.sleep(1)
        status = call("GET", f"/images/{image}/status", key)
    print("stages: " + ", ".join(f"{name} {stage['status']}" for name, stage in status["stages"].items()))
    if status["status"] != "done":
        sys.exit(f"the image ended as {status['status']}: {json.dumps(status)}")
    detail = call("GET", f"/images/{image}", key)
    if (detail["width"], detail["height"], detail["format"].lower()) != (640, 400, "png"):
        sys.exit(f"the image's detail is not right: {json.dumps(detail)}")
    print(f"original: {read_back(key, image, data)}")


def main() -> None:
    """Make the client, run, and erase the client whatever came of it."""
    admin = os.environ["ADMIN_API_KEY"]
    wait_reachable()
    body = json.dumps({"name": f"helm-test-{uuid.uuid4().hex[:8]}", "plan": "free"}).encode()
    made = call("POST", "/auth/clients", admin, body)
    try:
        run(made["api_key"])
    finally:
        call("DELETE", f"/auth/clients/{made['uuid']}?erase=true", admin)
    print("the installation works")


if __name__ == "__main__":
    main()
