"""Rules about responses."""

from __future__ import annotations

from realtime_bus import events as ev

from ._known import Known
from ._replies import is_out_of_band
from ._rule import Rule

__all__ = ["RESPONSE_RULES"]


def _in_transcription(event: ev.ClientEvent, known: Known) -> str | None:
    return (
        f"{event.type} in a transcription session"
        if known.settings.kind == "transcription"
        else None
    )


def _second(event: ev.ResponseCreate, known: Known) -> str | None:
    if is_out_of_band(event):
        return None
    if known.replies.active:
        return f"response {next(iter(known.replies.active))!r} is active"
    return "another response.create is not answered yet" if known.replies.asked else None


def _nothing_active(event: ev.ResponseCancel, known: Known) -> str | None:
    replies = known.replies
    if event.response_id is not None or replies.active or replies.asked or replies.free:
        return None
    return "no response is active"


def _needs_id(event: ev.ResponseCancel, known: Known) -> str | None:
    replies = known.replies
    if event.response_id is not None or replies.active or replies.asked or not replies.free:
        return None
    return f"only {', '.join(replies.free)} is active, out of band"


def _not_active(event: ev.ResponseCancel, known: Known) -> str | None:
    replies, response_id = known.replies, event.response_id
    if response_id is None or response_id in replies.active or response_id in replies.free:
        return None
    state = "has ended" if response_id in replies.over else "is unknown"
    return f"response {response_id!r} {state}"


RESPONSE_RULES = (
    Rule(
        id="no-responses-in-transcription",
        text="A transcription session has no responses.",
        events=(ev.ResponseCreate, ev.ResponseCancel),
        check=_in_transcription,
    ),
    Rule(
        id="one-active-response",
        text="The default conversation has one response at a time: wait for response.done.",
        events=(ev.ResponseCreate,),
        check=_second,
    ),
    Rule(
        id="cancel-something",
        text="A cancel needs an active response.",
        events=(ev.ResponseCancel,),
        check=_nothing_active,
    ),
    Rule(
        id="cancel-out-of-band-by-id",
        text="An out-of-band response is cancelled by its id.",
        events=(ev.ResponseCancel,),
        check=_needs_id,
    ),
    Rule(
        id="cancel-active-response",
        text="A cancel with an id names a response that is active.",
        events=(ev.ResponseCancel,),
        check=_not_active,
    ),
)
