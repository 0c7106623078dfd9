"""Problems: the refusals of Imago, each with a stable code that clients may rely on (RFC 9457)."""

from collections.abc import Mapping


class Problem(Exception):
    """A request that is refused: `code` is stable, `detail` is for a person, `extra` for a program.

    `status` is the HTTP status it answers with; it stands here, with its code, so that a code has one meaning
    wherever it is raised. `retry_after` is in seconds.
    """

    status = 400
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
    """No key, a malformed one, or one that is unknown, expired or revoked."""

    status = 401
    code = "unauthenticated"
    title = "Authentication needed"


class MissingScope(Problem):
    """The key is good, but doesn't hold the scope that the route asks for."""

    status = 403
    code = "missing-scope"
    title = "Scope missing"


class KeyNeeded(Problem):
    """A token where only a key will do."""

    status = 403
    code = "key-needed"
    title = "A key is needed"


class NotATenant(Problem):
    """A platform key (admin, operator) on a route that works on a client's own data."""

    status = 403
    code = "not-a-tenant"
    title = "Only for a client's key"


class NotFound(Problem):
    """Nothing of this client's has that id; another client's answers the same."""

    status = 404
    code = "not-found"
    title = "Not found"


class NoThumbnail(Problem):
    """The thumbnail could not be made, and won't be."""

    status = 404
    code = "no-thumbnail"
    title = "No thumbnail"


class NotReady(Problem):
    """What is asked for is still being made."""

    status = 409
    code = "not-ready"
    title = "Not ready yet"


class Conflict(Problem):
    """The request doesn't fit what is there."""

    status = 409
    code = "conflict"
    title = "Conflict"


class StageDisabled(Problem):
    """A stage that the server has switched off."""

    status = 409
    code = "stage-disabled"
    title = "Stage disabled"


class IdempotencyInFlight(Problem):
    """Another request with the same Idempotency-Key is still under way."""

    status = 409
    code = "idempotency-in-flight"
    title = "Same request under way"


class IdempotencyMismatch(Problem):
    """The Idempotency-Key was used for another file."""

    status = 422
    code = "idempotency-mismatch"
    title = "Idempotency-Key used for another request"


class ClientOwned(Problem):
    """The client belongs to another owner."""

    status = 409
    code = "client-owned"
    title = "Client has another owner"


class TooLarge(Problem):
    """The file is larger than the server takes."""

    status = 413
    code = "file-too-large"
    title = "File too large"


class RequestTooLarge(Problem):
    """A body of JSON is larger than any that makes sense."""

    status = 413
    code = "request-too-large"
    title = "Request too large"


class TooManyPixels(Problem):
    """The image has more pixels than the server decodes."""

    status = 413
    code = "too-many-pixels"
    title = "Too many pixels"


class QuotaExceeded(Problem):
    """The upload would pass the client's quota; the numbers are in the answer."""

    status = 413
    code = "quota-exceeded"
    title = "Quota exceeded"


class UnsupportedMediaType(Problem):
    """The bytes are no image of a format that Imago takes."""

    status = 415
    code = "unsupported-media-type"
    title = "Not a supported image"


class Unprocessable(Problem):
    """A field is missing, has a wrong name or a wrong value."""

    status = 422
    code = "validation-failed"
    title = "Validation failed"


class UnreadableImage(Problem):
    """The format is known, but the header can't be read."""

    status = 422
    code = "unreadable-image"
    title = "Unreadable image"


class EmptyFile(Problem):
    """The file has no bytes."""

    status = 422
    code = "empty-file"
    title = "Empty file"


class RateLimited(Problem):
    """Too many requests; `Retry-After` says when the next one fits."""

    status = 429
    code = "rate-limited"
    title = "Too many requests"


class TooManyUploads(Problem):
    """The client has as many uploads under way as it may; the limits are in the answer."""

    status = 429
    code = "too-many-uploads"
    title = "Too many uploads at once"


class InternalError(Problem):
    """A bug of Imago's; what it was stands in the log under the request's id."""

    status = 500
    code = "internal-error"
    title = "Internal error"


class Unavailable(Problem):
    """A part that the request needs is away; nothing was done."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"


class RequestTimeout(Problem):
    """The request's body came too slowly."""

    status = 408
    code = "request-timeout"
    title = "Upload too slow"


class UploadExpired(Problem):
    """The upload took so long that what it had stored was given up."""

    status = 408
    code = "upload-expired"
    title = "Upload expired"


class UrlRefused(Problem):
    """The URL is none that Imago fetches: not the public web, or written in a way that nobody needs."""

    status = 422
    code = "url-refused"
    title = "URL refused"


class FetchTooLarge(Problem):
    """The page is larger than Imago reads, once it is decompressed."""

    status = 422
    code = "fetch-too-large"
    title = "Page too large"


class NotAPage(Problem):
    """What the URL answers is no page of text."""

    status = 422
    code = "not-a-page"
    title = "Not a page of text"


class NoText(Problem):
    """The page holds no text that could be worked on, or none that could be found within the limits."""

    status = 422
    code = "no-text"
    title = "No text found"


class FetchFailed(Problem):
    """The page's server can't be reached, or doesn't give the page."""

    status = 502
    code = "fetch-failed"
    title = "Page not to be had"


class FetchTimeout(Problem):
    """The page's server is too slow."""

    status = 504
    code = "fetch-timeout"
    title = "Page too slow"


class AiFailed(Problem):
    """The AI provider can't do it, however often it is asked."""

    status = 502
    code = "ai-failed"
    title = "AI provider failed"


class AiBudgetUsedUp(Problem):
    """The client's AI calls of this month are used up; the limit and when the next month begins are in the answer."""

    status = 429
    code = "ai-budget-exhausted"
    title = "AI calls used up"


class AiUnavailable(Problem):
    """The AI provider is away or asks for a pause; the same request may work later."""

    status = 503
    code = "ai-unavailable"
    title = "AI provider unavailable"
