"""What a call is answered with: text that the model reads.

A result that is a string goes as it is, anything else as JSON: None is ``null``. What went wrong
is a JSON object with one member, ``error``, whose ``message`` says it in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec

from ._arguments import ArgumentsError

__all__ = [
    "NotRun",
    "failed",
    "interrupted",
    "invalid",
    "not_run",
    "result_text",
    "timed_out",
    "unknown_tool",
]

NotRun: TypeAlias = Literal["busy", "cancelled", "cut_off"]
"""Why a call was answered without having been run."""

_MAX_MESSAGE = 1000  # characters of an exception's text: the model needs no more

_NOT_RUN: dict[NotRun, str] = {
    "busy": "not run: too many calls are waiting; try again later",
    "cancelled": "not run: the response was interrupted before the call began",
    "cut_off": "not run: the response ended before the arguments were complete",
}


def result_text(result: object) -> str:
    """Return what a tool returned, as text.

    Raises:
        TypeError: msgspec cannot encode it.
    """
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()


def invalid(name: str, error: ArgumentsError) -> str:
    """Say what is wrong with the arguments, where, and what is allowed there."""
    message = f"the arguments of {name} are not valid: {error}"
    return _error("invalid_arguments", message, problems=error.problems)


def failed(error: BaseException) -> str:
    """Say what a tool raised: type and text, no traceback."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return _error("tool_failed", text[:_MAX_MESSAGE])


def timed_out(name: str, timeout_s: float) -> str:
    """Say that a tool took too long."""
    return _error("timeout", f"{name} took longer than {timeout_s:g} s and was stopped")


def unknown_tool(name: str, known: Iterable[str]) -> str:
    """Say that there is no such tool, and which there are."""
    names = ", ".join(known) or "none"
    return _error("unknown_tool", f"there is no tool {name!r}; known are: {names}")


def interrupted(name: str) -> str:
    """Say that a tool was stopped because its response was cancelled."""
    return _error("interrupted", f"{name} was stopped: the response was interrupted")


def not_run(reason: NotRun) -> str:
    """Say that a call was not run at all, and why."""
    return _error(reason, _NOT_RUN[reason])


def _error(kind: str, message: str, **more: Any) -> str:
    error = {"type": kind, "message": message, **more}
    return msgspec.json.encode({"error": error}).decode()
