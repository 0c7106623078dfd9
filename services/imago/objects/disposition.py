"""The Content-Disposition header (RFC 6266) for file names that clients chose."""

from urllib.parse import quote

from imago.objects.store import Disposition


def content_disposition(disposition: Disposition, filename: str) -> str:
    """Return a header value with an ASCII fallback and the UTF-8 file name, both escaped."""
    ascii_name = "".join(char if char.isascii() and (char.isalnum() or char in " ._-") else "_" for char in filename)
    encoded = quote(filename, safe="", errors="replace")
    return f"{disposition}; filename=\"{ascii_name.strip() or 'image'}\"; filename*=UTF-8''{encoded}"
