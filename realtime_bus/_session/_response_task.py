"""One wanted response, and the mark by which it is recognised."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from realtime_bus import events as ev

__all__ = ["MARK", "ResponseTask", "mark_request"]

MARK = "realtime_bus_request"
"""The metadata key that carries a request's id to its response."""

_MAX_METADATA = 16  # pairs that a response may have (Realtime protocol, "limits")


class ResponseTask:
    """One wanted response, from the request to ``response.done``.

    Attributes:
        event: The request as it is sent, with its ``event_id``.
        out_of_band: Whether it is outside the default conversation.
        response_id: Known from ``response.created`` on.
        response: The finished response.
        error: What to raise instead, if the request was refused.
        retries: How often it lost the race.
        unwanted: Whether to cancel it as soon as that is possible.
        on_settled: Called once, at the end, good or bad.
    """

    def __init__(self, event: ev.ResponseCreate) -> None:
        params = event.response
        self.event = event
        self.out_of_band = params is not None and params.conversation == "none"
        self.response_id: str | None = None
        self.response: ev.Response | None = None
        self.error: Exception | None = None
        self.retries = 0
        self.unwanted = False
        self.on_settled: Callable[[], None] = _nothing

    @property
    def request_id(self) -> str:
        """The ``event_id`` of the request."""
        return self.event.event_id or ""

    @property
    def metadata(self) -> dict[str, str]:
        """What the request carries to its response."""
        return dict(self.event.response.metadata or {}) if self.event.response else {}

    @property
    def settled(self) -> bool:
        """Whether the end is known."""
        return self.response is not None or self.error is not None

    def start(self, response_id: str | None) -> None:
        """Note that the response has been created."""
        self.response_id = response_id

    def settle(self, response: ev.Response | None = None, error: Exception | None = None) -> None:
        """Note the end; the first one counts."""
        if not self.settled:
            self.response, self.error = response, error
            self.on_settled()

    def give_up(self) -> None:
        """End as cancelled, without the server having heard of it."""
        cancelled = ev.StatusDetails(type="cancelled", reason="client_cancelled")
        self.settle(response=ev.Response(status="cancelled", status_details=cancelled))


def _nothing() -> None:
    pass


def mark_request(params: ev.ResponseCreateParams, request_id: str) -> ev.ResponseCreateParams:
    """Return the parameters with the mark in their metadata, if there is room for it."""
    metadata = dict(params.metadata or {})
    if len(metadata) >= _MAX_METADATA:
        return params
    metadata[MARK] = request_id
    return msgspec.structs.replace(params, metadata=metadata)
