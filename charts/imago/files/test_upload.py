"""The pod of `helm test`: creates a client, uploads an image, checks the results, and erases the client."""

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
    """Send a request and return the JSON reply; exit if the request fails."""
    request = urllib.request.Request(URL + path, data=body, method=method, headers={"X-API-Key": key})
    if body is not None:
        request.add_header("Content-Type", content_type)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path} failed with {error.code}: {error.read().decode(errors='replace')[:500]}")


def wait_reachable() -> None:
    """Wait for the Service: DNS and endpoints of a new installation are not available immediately."""
    while True:
        try:
            with urllib.request.urlopen(f"{URL}/health", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > DEADLINE:
                sys.exit(f"{URL} is unavailable: {error}")
            time.sleep(1)


def photo() -> bytes:
    """Return an image with some text that is unique to this run."""
    image = Image.new("RGB", (640, 400), "white")
    ImageDraw.Draw(image).text((40, 150), f"IMAGO {uuid.uuid4().hex[:8]}", fill="black", font_size=48)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def upload(key: str, data: bytes) -> Any:
    """Upload a file as a form and return the reply."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="test.png"\r\n'
    form = f"{head}Content-Type: image/png\r\n\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return call("POST", "/images/upload", key, form, f"multipart/form-data; boundary={boundary}")


def compare_original(key: str, image: int, data: bytes) -> str:
    """Compare the stored original with the uploaded data, if its URL refers to this API."""
    url = call("GET", f"/images/{image}/download-url", key)["url"]
    host = urllib.parse.urlsplit(url).netloc
    if host != urllib.parse.urlsplit(URL).netloc:
        return f"not downloaded, because its URL refers to {host}"
    with urllib.request.urlopen(url, timeout=30) as response:
        if response.read() != data:
            sys.exit("the stored original differs from the uploaded image")
    return "downloaded and identical"


def run(key: str) -> None:
    """Upload an image, wait until its stages have finished, and check the results."""
    data = photo()
    image = upload(key, data)["id"]
    print(f"uploaded image {image}")
    status: Any = {}
    while status.get("status") not in ("done", "partial", "failed"):
        if time.monotonic() > DEADLINE:
            sys.exit(f"the image did not finish in time: {json.dumps(status)}")
        time.sleep(1)
        status = call("GET", f"/images/{image}/status", key)
    print("stages: " + ", ".join(f"{name} {stage['status']}" for name, stage in status["stages"].items()))
    if status["status"] != "done":
        sys.exit(f"the image finished as {status['status']}: {json.dumps(status)}")
    detail = call("GET", f"/images/{image}", key)
    if (detail["width"], detail["height"], detail["format"].lower()) != (640, 400, "png"):
        sys.exit(f"unexpected image details: {json.dumps(detail)}")
    print(f"original: {compare_original(key, image, data)}")


def main() -> None:
    """Create a client, run the test, and erase the client."""
    admin = os.environ["ADMIN_API_KEY"]
    wait_reachable()
    body = json.dumps({"name": f"helm-test-{uuid.uuid4().hex[:8]}", "plan": "free"}).encode()
    client = call("POST", "/auth/clients", admin, body)
    try:
        run(client["api_key"])
    finally:
        call("DELETE", f"/auth/clients/{client['uuid']}?erase=true", admin)
    print("the installation works")


if __name__ == "__main__":
    main()
