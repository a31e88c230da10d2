"""Everything that realtime-bus raises.

::

    RealtimeBusError
    ├── UsageError              a call, handler, selector or option that cannot work
    ├── InvalidEvent            an event of ours that must not be sent
    │   └── EventTooLarge       … because it is above a limit of the protocol
    ├── ConnectError            a connection that was never there
    │   ├── InvalidURL          the address is no WebSocket address
    │   ├── HostUnreachable     no such host, or nobody answers there
    │   ├── UpgradeRefused      the server answered, but not with a WebSocket
    │   └── AuthenticationError the key is missing or refused (HTTP 401/403, close 3000)
    ├── SessionClosed           the session has ended, or ended while somebody waited
    │   └── TransportClosed     … seen by the one who wanted to write
    ├── RequestError            a request that brought no success
    │   ├── RequestRejected     the server answered with an error event
    │   ├── RequestTimeout      the server did not answer in time
    │   └── ConnectionLost      the connection broke before the answer; the session goes on
    └── MissingExtra            an optional dependency is not installed
"""

# ruff: noqa: N818  # each name says what happened; the root says that it is an error

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AuthenticationError",
    "CloseInfo",
    "ConnectError",
    "ConnectionLost",
    "EventTooLarge",
    "HostUnreachable",
    "InvalidEvent",
    "InvalidURL",
    "MissingExtra",
    "RealtimeBusError",
    "RequestError",
    "RequestRejected",
    "RequestTimeout",
    "SessionClosed",
    "TransportClosed",
    "UpgradeRefused",
    "UsageError",
]


class CloseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection ended.

    Attributes:
        code: WebSocket close code; 1006 when the connection broke without a close frame.
        reason: The peer's words, possibly empty.
        clean: Whether both sides agreed to close (a close frame went each way).
        error: The exception behind an unclean end, if there was one.
    """

    code: int = 1000
    reason: str = ""
    clean: bool = True
    error: BaseException | None = None

    @property
    def in_order(self) -> bool:
        """Whether nothing was cut off: a clean close with 1000, 1001 or without a code (1005).

        A server that closes with 1011, say, may be polite about it, and has failed all the same.
        """
        return self.clean and self.code in {1000, 1001, 1005}

    def __str__(self) -> str:
        return f"{self.code} ({self.reason})" if self.reason else str(self.code)


class RealtimeBusError(Exception):
    """The root: catch it to catch everything that this library raises on purpose.

    All of them can be pickled and copied, with their attributes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(
    cls: type[RealtimeBusError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> RealtimeBusError:
    """Make an exception anew, whatever its constructor wants."""
    error = cls.__new__(cls, *args)
    super(RealtimeBusError, error).__init__(*args)
    vars(error).update(attributes)
    return error


class UsageError(RealtimeBusError, TypeError):
    """A call, handler, selector or option that cannot work; raised where it was written."""


class InvalidEvent(RealtimeBusError, ValueError):
    """An event of ours that a server would refuse; it was not sent.

    Attributes:
        event_type: Wire name of the event.
        param: Path of the field at fault, such as ``"session.audio.output.speed"``.
        problems: Every problem that was found, the first one being ``param``'s.
    """

    def __init__(
        self, message: str, *, event_type: str, param: str = "", problems: Sequence[Any] = ()
    ) -> None:
        super().__init__(message)
        self.event_type = event_type
        self.param = param
        self.problems: tuple[Any, ...] = tuple(problems)


class EventTooLarge(InvalidEvent):
    """An event above a size limit of the protocol; it was not sent.

    Attributes:
        size_bytes: How large the field is.
        limit_bytes: How large it may be.
    """

    def __init__(
        self, message: str, *, event_type: str, param: str, size_bytes: int, limit_bytes: int
    ) -> None:
        super().__init__(message, event_type=event_type, param=param)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class ConnectError(RealtimeBusError, ConnectionError):
    """A connection that could not be made.

    Attributes:
        url: Where to, without credentials and query.
    """

    def __init__(self, message: str, *, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class InvalidURL(ConnectError, ValueError):
    """The address is no WebSocket address."""


class HostUnreachable(ConnectError):
    """There is no such host, nobody listens there, or TLS could not be agreed on."""


class UpgradeRefused(ConnectError):
    """The server answered the upgrade with something else than a WebSocket.

    Attributes:
        status: HTTP status code, 0 if the answer was not HTTP.
        body: The answer's body, shortened.
    """

    def __init__(self, message: str, *, url: str = "", status: int = 0, body: str = "") -> None:
        super().__init__(message, url=url)
        self.status = status
        self.body = body


class AuthenticationError(ConnectError):
    """The key is missing or was refused: HTTP 401 or 403, or close code 3000 after the upgrade.

    Attributes:
        status: HTTP status code; 0 if no upgrade was refused.
        body: The answer's body, shortened.
        close_code: 3000 when the server accepted the upgrade first, else None.
    """

    def __init__(
        self,
        message: str,
        *,
        url: str = "",
        status: int = 0,
        body: str = "",
        close_code: int | None = None,
    ) -> None:
        super().__init__(message, url=url)
        self.status = status
        self.body = body
        self.close_code = close_code


class SessionClosed(RealtimeBusError):
    """The session has ended.

    Attributes:
        close: How it ended.
    """

    def __init__(self, message: str, *, close: CloseInfo) -> None:
        super().__init__(message)
        self.close = close


class TransportClosed(SessionClosed):
    """Nothing can be written any more."""


class RequestError(RealtimeBusError):
    """A request that brought no success.

    Attributes:
        event_type: Wire name of the client event.
        event_id: The id it was sent with.
    """

    def __init__(self, message: str, *, event_type: str, event_id: str) -> None:
        super().__init__(message)
        self.event_type = event_type
        self.event_id = event_id


class RequestRejected(RequestError):
    """The server answered a request with an ``error`` event.

    Attributes:
        code: The error's code, such as ``"invalid_value"``, or None.
        param: The field at fault, or None.
        error: The server's whole error object.
    """

    def __init__(self, message: str, *, event_type: str, event_id: str, error: Any) -> None:
        super().__init__(message, event_type=event_type, event_id=event_id)
        self.error = error
        self.code: str | None = getattr(error, "code", None)
        self.param: str | None = getattr(error, "param", None)


class RequestTimeout(RequestError, TimeoutError):
    """The server did not answer a request in time.

    Attributes:
        timeout_s: How long we waited, in seconds.
    """

    def __init__(self, message: str, *, event_type: str, event_id: str, timeout_s: float) -> None:
        super().__init__(message, event_type=event_type, event_id=event_id)
        self.timeout_s = timeout_s


class ConnectionLost(RequestError, ConnectionError):
    """The connection broke before a request was answered; the session goes on over the next one.

    Attributes:
        close: How the connection ended.
    """

    def __init__(self, message: str, *, event_type: str, event_id: str, close: CloseInfo) -> None:
        super().__init__(message, event_type=event_type, event_id=event_id)
        self.close = close


class MissingExtra(RealtimeBusError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: Which extra brings it: ``pip install 'realtime-bus[extra]'``.
    """

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install 'realtime-bus[{extra}]'"
        )
        self.extra = extra
