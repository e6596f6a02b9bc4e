"""Errors of the endpoint in OpenAI's format, and the error of each failed search. Pure data."""

from __future__ import annotations

import math
from typing import Any

from rstar.rpc.errors import CallFailed, CallRefused, CallTimedOut, ServiceUnavailable


class ApiError(Exception):
    """A request that ends with HTTP ``status`` and one sentence.

    ``kind`` is OpenAI's ``type``; ``param`` the field at fault; ``retry_after`` the seconds until another try makes sense.
    ``retried`` False asks OpenAI's clients not to repeat the request.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        retried: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.retried = retried

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the reply."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the reply: Retry-After in whole seconds, at least 1."""
        headers = {} if self.retried else {"x-should-retry": "false"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return headers


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error for a request that must be changed."""
    return ApiError(400, message, param=param, code=code)


def too_many(message: str, retry_after: float, code: str = "rate_limit_exceeded") -> ApiError:
    """Return the error for a request beyond a limit."""
    return ApiError(429, message, kind="rate_limit_error", code=code, retry_after=retry_after)


def timed_out(seconds: float) -> ApiError:
    """Return the error for a search that took longer than ``seconds``; another try would take as long."""
    return ApiError(
        504,
        f"the search did not end within {seconds:g} s; ask for fewer rollouts or a token budget",
        kind="timeout_error",
        code="timeout",
        retried=False,
    )


def draining() -> ApiError:
    """Return the error for requests after SIGTERM."""
    return ApiError(
        503, "this server is shutting down; try again", kind="server_error", code="shutting_down", retry_after=1
    )


def search_error(failed: CallFailed, seconds: float) -> ApiError:
    """Return the error for a failed search. Addresses of servers stay out of it: they are in the log."""
    match failed:
        case CallRefused():
            return bad_request(f"the search refused the request: {failed.reason}", code="refused")
        case CallTimedOut():
            return timed_out(seconds)
        case ServiceUnavailable() if failed.reason.startswith("RESOURCE_EXHAUSTED"):
            return too_many("every search coordinator is full; try again later", 5, code="overloaded")
        case ServiceUnavailable():
            return ApiError(
                503,
                "no search coordinator can be reached; try again later",
                kind="server_error",
                code="unavailable",
                retry_after=5,
            )
        case _:
            return internal()


def internal() -> ApiError:
    """Return the error for everything else; the log has the reason."""
    return ApiError(
        500, "the search failed; the log of the server has the reason", kind="server_error", code="search_failed"
    )
