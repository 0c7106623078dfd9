"""The Content-Disposition header (RFC 6266) for names that tenants chose."""

from urllib.parse import quote

from imago.objects.store import Disposition


def content_disposition(disposition: Disposition, filename: str) -> str:
    """Return a header value that no file name can break out of: an ASCII stand-in, and the name itself in UTF-8."""
    ascii_name = "".join(char if char.isascii() and (char.isalnum() or char in " ._-") else "_" for char in filename)
    encoded = quote(filename, safe="", errors="replace")
    return f"{disposition}; filename=\"{ascii_name.strip() or 'image'}\"; filename*=UTF-8''{encoded}"
