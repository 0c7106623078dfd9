"""Problems: the refusals of Imago, each with a stable code that clients may rely on (RFC 9457)."""

from collections.abc import Mapping


class Problem(Exception):
    """A refused request: `code` is stable, `detail` is for a person, `extra` for a program.

    `retry_after` is in seconds. `imago.api.errors` assigns HTTP statuses.
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
    """No key, a malformed one, or one that is unknown, expired or revoked."""

    code = "unauthenticated"
    title = "Authentication needed"


class MissingScope(Problem):
    """The key is good, but doesn't hold the scope that the route asks for."""

    code = "missing-scope"
    title = "Scope missing"


class KeyNeeded(Problem):
    """A token where only a key will do."""

    code = "key-needed"
    title = "A key is needed"


class NotATenant(Problem):
    """A platform key (admin, operator) on a route that works on a client's own data."""

    code = "not-a-tenant"
    title = "Only for a client's key"


class NotFound(Problem):
    """Nothing of this client's has that id; another client's answers the same."""

    code = "not-found"
    title = "Not found"


class NoThumbnail(Problem):
    """The thumbnail could not be made, and won't be."""

    code = "no-thumbnail"
    title = "No thumbnail"


class NotReady(Problem):
    """What is asked for is still being made."""

    code = "not-ready"
    title = "Not ready yet"


class Conflict(Problem):
    """The request doesn't fit what is there."""

    code = "conflict"
    title = "Conflict"


class StageDisabled(Problem):
    """A stage that the server has switched off."""

    code = "stage-disabled"
    title = "Stage disabled"


class IdempotencyInFlight(Problem):
    """Another request with the same Idempotency-Key is still under way."""

    code = "idempotency-in-flight"
    title = "Same request under way"


class IdempotencyMismatch(Problem):
    """The Idempotency-Key was used for another file."""

    code = "idempotency-mismatch"
    title = "Idempotency-Key used for another request"


class ClientOwned(Problem):
    """The client belongs to another owner."""

    code = "client-owned"
    title = "Client has another owner"


class TooLarge(Problem):
    """The file is larger than the server takes."""

    code = "file-too-large"
    title = "File too large"


class RequestTooLarge(Problem):
    """A body of JSON is larger than any that makes sense."""

    code = "request-too-large"
    title = "Request too large"


class TooManyPixels(Problem):
    """The image has more pixels than the server decodes."""

    code = "too-many-pixels"
    title = "Too many pixels"


class QuotaExceeded(Problem):
    """The upload would pass the client's quota; the numbers are in the answer."""

    code = "quota-exceeded"
    title = "Quota exceeded"


class UnsupportedMediaType(Problem):
    """The bytes are no image of a format that Imago takes."""

    code = "unsupported-media-type"
    title = "Not a supported image"


class Unprocessable(Problem):
    """A field is missing, has a wrong name or a wrong value."""

    code = "validation-failed"
    title = "Validation failed"


class UnreadableImage(Problem):
    """The format is known, but the header can't be read."""

    code = "unreadable-image"
    title = "Unreadable image"


class EmptyFile(Problem):
    """The file has no bytes."""

    code = "empty-file"
    title = "Empty file"


class RateLimited(Problem):
    """Too many requests; `Retry-After` says when the next one fits."""

    code = "rate-limited"
    title = "Too many requests"


class TooManyUploads(Problem):
    """The client has as many uploads under way as it may; the limits are in the answer."""

    code = "too-many-uploads"
    title = "Too many uploads at once"


class InternalError(Problem):
    """A bug of Imago's; what it was stands in the log under the request's id."""

    code = "internal-error"
    title = "Internal error"


class Unavailable(Problem):
    """A part that the request needs is away; nothing was done."""

    code = "unavailable"
    title = "Temporarily unavailable"


class RequestTimeout(Problem):
    """The request's body came too slowly."""

    code = "request-timeout"
    title = "Upload too slow"


class UploadExpired(Problem):
    """The upload took so long that what it had stored was given up."""

    code = "upload-expired"
    title = "Upload expired"


class UrlRefused(Problem):
    """The URL is none that Imago fetches: not the public web, or written in a way that nobody needs."""

    code = "url-refused"
    title = "URL refused"


class FetchTooLarge(Problem):
    """The page is larger than Imago reads, once it is decompressed."""

    code = "fetch-too-large"
    title = "Page too large"


class NotAPage(Problem):
    """What the URL answers is no page of text."""

    code = "not-a-page"
    title = "Not a page of text"


class NoText(Problem):
    """The page holds no text that could be worked on, or none that could be found within the limits."""

    code = "no-text"
    title = "No text found"


class FetchFailed(Problem):
    """The page's server can't be reached, or doesn't give the page."""

    code = "fetch-failed"
    title = "Page not to be had"


class FetchTimeout(Problem):
    """The page's server is too slow."""

    code = "fetch-timeout"
    title = "Page too slow"


class AiFailed(Problem):
    """The AI provider can't do it, however often it is asked."""

    code = "ai-failed"
    title = "AI provider failed"


class AiBudgetUsedUp(Problem):
    """The client's AI calls of this month are used up; the limit and when the next month begins are in the answer."""

    code = "ai-budget-exhausted"
    title = "AI calls used up"


class AiUnavailable(Problem):
    """The AI provider is away or asks for a pause; the same request may work later."""

    code = "ai-unavailable"
    title = "AI provider unavailable"
