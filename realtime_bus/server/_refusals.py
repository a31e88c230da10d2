"""Everything that the server refuses, and the words it uses.

A room raises `Refusal` and has then changed nothing; the machine answers with an ``error``
event that carries the id of the client's event, and the session stays open (Realtime
protocol, errors).
"""

from __future__ import annotations

from realtime_bus import events as ev
from realtime_bus.codec import Problem

__all__ = [
    "Refusal",
    "bad_value",
    "buffer_too_small",
    "conversation_busy",
    "no_such_item",
    "not_truncatable",
    "nothing_to_cancel",
    "of_problem",
    "unknown_call",
    "voice_is_fixed",
]


class Refusal(Exception):  # noqa: N818  # it is an answer, not a failure of ours
    """A client event that is answered with an ``error`` event.

    Attributes:
        code: The error's code, None for those that have none.
        message: What happened and what to do.
        param: The field at fault.
    """

    def __init__(self, code: str | None, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    def to_event(self, event_id: str | None) -> ev.Error:
        """Return the event that tells the client, `event_id` being the client's own."""
        return ev.Error(
            error=ev.ErrorDetails(
                type="invalid_request_error",
                code=self.code,
                message=self.message,
                param=self.param,
                event_id=event_id,
            )
        )


def bad_value(param: str, message: str) -> Refusal:
    """Refuse a value; `message` says which and what is allowed."""
    return Refusal("invalid_value", message, param=param)


_CODES = {"unknown_field": "unknown_parameter", "missing": "missing_required_parameter"}


def of_problem(problem: Problem) -> Refusal:
    """Refuse what strict reading found: unknown and missing fields have codes of their own."""
    if problem.path == "type" and problem.kind == "missing":
        return Refusal("invalid_event", "The event has no 'type'.", param="type")
    code = _CODES.get(problem.kind, "invalid_value")
    message = f"Invalid event: '{problem.path}': {problem.message}."
    return Refusal(code, message, param=problem.path or None)


def conversation_busy(active_id: str) -> Refusal:
    """Refuse a second response in the default conversation."""
    return Refusal(
        "conversation_already_has_active_response",
        f"Conversation already has an active response in progress: {active_id}. "
        "Wait until the response is finished before creating a new one.",
    )


def nothing_to_cancel(response_id: str | None) -> Refusal:
    """Refuse to cancel what is not running."""
    which = "no active response found" if response_id is None else f"{response_id} is not active"
    return Refusal("response_cancel_not_active", f"Cancellation failed: {which}.")


def buffer_too_small(buffered_ms: float) -> Refusal:
    """Refuse a commit under 100 ms."""
    return Refusal(
        "input_audio_buffer_commit_empty",
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of "
        f"audio, but buffer only has {buffered_ms:.2f}ms of audio.",
    )


def no_such_item(verb: str, item_id: str) -> Refusal:
    """Refuse to retrieve, truncate or delete an item that is not there."""
    return Refusal(
        f"item_{verb}_invalid_item_id",
        f"Error: the item with id '{item_id}' does not exist.",
        param="item_id",
    )


def not_truncatable(item_id: str) -> Refusal:
    """Refuse to truncate what is no spoken message of the model."""
    return Refusal(
        "unsupported_content_type",
        f"Only model output audio messages can be truncated; '{item_id}' is none.",
        param="item_id",
    )


def unknown_call(call_id: str, *, param: str) -> Refusal:
    """Refuse an output that answers no call."""
    return Refusal(
        "invalid_tool_call_id",
        f"Tool call ID '{call_id}' not found in conversation.",
        param=param,
    )


def voice_is_fixed(param: str) -> Refusal:
    """Refuse another voice once the model has spoken."""
    return Refusal(
        "cannot_update_voice",
        "Cannot update a conversation's voice if assistant audio is present.",
        param=param,
    )
