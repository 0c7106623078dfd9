"""Problems: the errors of the API, each with a stable code that clients can rely on (RFC 9457)."""

from collections.abc import Mapping


class Problem(Exception):
    """A refused request: `code` is stable, `detail` is for a person, `extra` for a program.

    `retry_after` is in seconds. `imago.api.http.errors` assigns HTTP statuses.
    """

    code = "bad-request"
    title = "Bad request"

    def __init__(
        self,
        detail: str,
        *,
        extra: Mapping[str, object] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = dict(extra or {})
        self.retry_after = retry_after


class Unauthenticated(Problem):
    """The key is missing, malformed, unknown, expired or revoked."""

    code = "unauthenticated"
    title = "Authentication required"


class MissingScope(Problem):
    """The key is valid but lacks the scope that the route requires."""

    code = "missing-scope"
    title = "Missing scope"


class KeyNeeded(Problem):
    """The request has a token, but the route requires a key."""

    code = "key-needed"
    title = "Key required"


class NotATenant(Problem):
    """A platform key (admin, operator) cannot use a route for a client's own data."""

    code = "not-a-tenant"
    title = "Client key required"


class NotFound(Problem):
    """The client has nothing with this id; the response is the same if another client has."""

    code = "not-found"
    title = "Not found"


class NoThumbnail(Problem):
    """The thumbnail could not be created and will not be retried."""

    code = "no-thumbnail"
    title = "No thumbnail"


class NotReady(Problem):
    """The requested result is still being processed."""

    code = "not-ready"
    title = "Not ready"


class Conflict(Problem):
    """The request conflicts with the current state."""

    code = "conflict"
    title = "Conflict"


class StageDisabled(Problem):
    """The server has disabled this stage."""

    code = "stage-disabled"
    title = "Stage disabled"


class NothingSelected(Problem):
    """No image matches the selection of a reprocess job."""

    code = "nothing-selected"
    title = "No image selected"


class IdempotencyInFlight(Problem):
    """Another request with the same Idempotency-Key is in progress."""

    code = "idempotency-in-flight"
    title = "Request in progress"


class IdempotencyMismatch(Problem):
    """The Idempotency-Key was used for another file."""

    code = "idempotency-mismatch"
    title = "Idempotency-Key used for another request"


class ClientOwned(Problem):
    """The client belongs to another owner."""

    code = "client-owned"
    title = "Client has another owner"


class TooLarge(Problem):
    """The file exceeds the server's limit."""

    code = "file-too-large"
    title = "File too large"


class RequestTooLarge(Problem):
    """The JSON body exceeds the server's limit."""

    code = "request-too-large"
    title = "Request too large"


class TooManyPixels(Problem):
    """The image exceeds the server's limit of pixels."""

    code = "too-many-pixels"
    title = "Too many pixels"


class QuotaExceeded(Problem):
    """The upload would exceed the client's quota; the response contains usage and limits."""

    code = "quota-exceeded"
    title = "Quota exceeded"


class UnsupportedMediaType(Problem):
    """The file is not an image in a supported format."""

    code = "unsupported-media-type"
    title = "Unsupported file type"


class Unprocessable(Problem):
    """A field is missing, unknown or invalid."""

    code = "validation-failed"
    title = "Validation failed"


class UnreadableImage(Problem):
    """The format is supported, but the header is unreadable."""

    code = "unreadable-image"
    title = "Unreadable image"


class EmptyFile(Problem):
    """The file is empty."""

    code = "empty-file"
    title = "Empty file"


class RateLimited(Problem):
    """Too many requests; `Retry-After` says when the next one is allowed."""

    code = "rate-limited"
    title = "Too many requests"


class TooManyUploads(Problem):
    """The client has too many concurrent uploads; the response contains the limits."""

    code = "too-many-uploads"
    title = "Too many concurrent uploads"


class TooMuchInFlight(Problem):
    """The client's requests in progress use all that one client may; the response names the limit."""

    code = "too-much-in-flight"
    title = "Too much in progress"


class Overloaded(Problem):
    """The requests of all clients use all that a process has; the response names the limit."""

    code = "overloaded"
    title = "Server overloaded"


class InternalError(Problem):
    """An error in Imago; the log has the details under the request's id."""

    code = "internal-error"
    title = "Internal error"


class Unavailable(Problem):
    """A dependency is unavailable; nothing was changed."""

    code = "unavailable"
    title = "Temporarily unavailable"


class RequestTimeout(Problem):
    """The request body arrived too slowly."""

    code = "request-timeout"
    title = "Request too slow"


class UploadExpired(Problem):
    """The upload took so long that its intent expired and its object is deleted."""

    code = "upload-expired"
    title = "Upload expired"


class UrlRefused(Problem):
    """Imago does not fetch this URL: it is not on the public web, or it uses an unusual form."""

    code = "url-refused"
    title = "URL refused"


class HostNotFound(UrlRefused):
    """The name of the URL's host does not exist."""

    code = "host-not-found"
    title = "Host not found"


class FetchTooLarge(Problem):
    """The decompressed page exceeds the limit."""

    code = "fetch-too-large"
    title = "Page too large"


class NotAPage(Problem):
    """The response of the URL is not a text page."""

    code = "not-a-page"
    title = "Not a text page"


class NoText(Problem):
    """No text was found in the page within the limits."""

    code = "no-text"
    title = "No text found"


class FetchFailed(Problem):
    """The page's server is unreachable or returned an error."""

    code = "fetch-failed"
    title = "Page unavailable"


class FetchTimeout(Problem):
    """The page's server did not respond in time."""

    code = "fetch-timeout"
    title = "Page timed out"


class AiFailed(Problem):
    """The AI provider failed permanently; retrying does not help."""

    code = "ai-failed"
    title = "AI provider failed"


class AiBudgetUsedUp(Problem):
    """The client's AI calls of this month are used up; the response contains the limit and the time of the reset."""

    code = "ai-budget-exhausted"
    title = "AI budget exhausted"


class AiUnavailable(Problem):
    """The AI provider is unavailable or throttles requests; a later retry may succeed."""

    code = "ai-unavailable"
    title = "AI provider unavailable"
