"""What the domain raises. The mapping to HTTP is in `core.api.exception_handler`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

# Most complaints that one answer lists; a body of 1 MiB could earn 350,000.
MOST_COMPLAINTS = 1000


class GyozaError(Exception):
    """Something the caller should hear about."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", **detail: Any) -> None:
        super().__init__(message or self.__doc__)
        self.detail = detail

    @property
    def message(self) -> str:
        return str(self.args[0])


class Invalid(GyozaError):
    """The request is malformed."""

    code = "invalid_request"

    @classmethod
    def of(cls, errors: list[tuple[str, str]], *, where: str = "body") -> Invalid:
        """Build one error that names every bad field: `detail.errors` = [{field, message}], a thousand at most.

        `where` is body, query or path; only the dialect of `/api/v1` tells.
        """
        listed = [
            {"field": field, "message": message} for field, message in errors[:MOST_COMPLAINTS]
        ]
        first = f"{listed[0]['field']}: {listed[0]['message']}" if listed else ""
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return cls(first + more, errors=listed, **({} if where == "body" else {"where": where}))


class TooLarge(Invalid):
    """The request body is over the limit."""

    code = "payload_too_large"


class Stalled(Invalid):
    """The request body has stopped coming, or comes too slowly."""

    code = "request_timeout"


class InvalidJson(Invalid):
    """A message on a WebSocket is not JSON."""

    code = "invalid_json"


class UnsupportedMessage(Invalid):
    """A message on a WebSocket is binary; only text is read."""

    code = "unsupported_message"


class HeadTooLarge(Invalid):
    """The request line and the headers are over the limit."""

    code = "head_too_large"


class UnsupportedMediaType(Invalid):
    """The content type is not one this path reads."""

    code = "unsupported_media_type"


class Unprocessable(GyozaError):
    """The request is well-formed, and can't be carried out as things are."""

    code = "unprocessable"


class Unauthorized(GyozaError):
    """No key, or one that is unknown, expired or revoked."""

    code = "unauthorized"


class Forbidden(GyozaError):
    """The key may not do this."""

    code = "forbidden"


class NotFound(GyozaError):
    """No such thing, or not for you."""

    code = "not_found"


class MethodNotAllowed(GyozaError):
    """The path exists, the method does not."""

    code = "method_not_allowed"

    def __init__(self, message: str = "", *, allowed: Iterable[str] = (), **detail: Any) -> None:
        super().__init__(message, **detail)
        self.allowed = tuple(allowed)


class NotAcceptable(GyozaError):
    """The client accepts none of the formats this path speaks."""

    code = "not_acceptable"


class Unimplemented(GyozaError):
    """The request asks for a part of HTTP that is not spoken here."""

    code = "unimplemented"


class UpgradeRequired(GyozaError):
    """This path speaks WebSocket only: ask for the upgrade."""

    code = "upgrade_required"


class Conflict(GyozaError):
    """The request makes sense, but not now."""

    code = "conflict"


class IllegalTransition(Conflict):
    """The present state does not allow this."""

    code = "illegal_transition"


class PreconditionFailed(GyozaError):
    """It is not as the request's conditions want it to be."""

    code = "precondition_failed"


class RangeNotSatisfiable(GyozaError):
    """There is nothing in this range."""

    code = "range_not_satisfiable"

    def __init__(self, message: str = "", *, length: int = 0, **detail: Any) -> None:
        super().__init__(message, **detail)
        self.length = length


class OutOfRoom(GyozaError):
    """There is no room to keep this."""

    code = "insufficient_storage"


class Throttled(GyozaError):
    """Too much at once; try again later."""

    code = "throttled"

    def __init__(self, message: str = "", *, retry_after: int = 1, **detail: Any) -> None:
        super().__init__(message, **detail)
        self.retry_after = retry_after


class Unavailable(GyozaError):
    """Something this service needs is away; try again later."""

    code = "unavailable"

    def __init__(self, message: str = "", *, retry_after: int = 1, **detail: Any) -> None:
        super().__init__(message, **detail)
        self.retry_after = retry_after
