"""One response: from ``response.created`` to ``response.done``.

The rules
---------
* What the responder makes is put into drafts and calls, in order; `advance` sends what is due.
* It ends once: completed when all that the responder made is sent; incomplete when
  ``max_output_tokens`` is used up; cancelled; or failed with the responder. Whatever is open is
  ended first (Realtime protocol, barge-in and cancel), and what was not sent is forgotten.
* Cancelled before its first output it has no output and costs nothing.
* ``response.done`` is its last event, ``rate_limits.updated`` excepted.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from realtime_bus import events as ev
from realtime_bus.audio import ms_to_bytes

from ._desk import Desk
from ._options import ServerOptions
from ._outbox import Outbox
from ._output_items import CallWriter, Ending, MessageWriter, SpokenWriter, WrittenWriter
from ._pacing import Draft, Pace
from ._reply_settings import Outcome, ReplySettings, ResponseStatus, rate_limits
from ._responder import Output, Text, ToolCall
from ._usage import CHARS_PER_TOKEN, OUTPUT_MS_PER_TOKEN, Meter, no_usage

__all__ = ["Reply"]

Reason = Literal["turn_detected", "client_cancelled", "max_output_tokens"]

BACKLOG_MS = 10_000
BACKLOG_PIECES = 256
"""How much may wait to be sent before the responder has to."""


class Reply:
    """One running response.

    Args:
        desk: Where its items are written.
        settings: What it goes by.
        meter: Counts its tokens.

    Attributes:
        done: Whether it has ended.
        complete: Whether the responder has made everything.
        audio_ms: How much audio was sent.
    """

    def __init__(self, desk: Desk, settings: ReplySettings, meter: Meter) -> None:
        self.response_id = desk.response_id
        self.settings = settings
        self.done = False
        self.audio_ms = 0
        self._desk = desk
        self._out: Outbox = desk.out
        self._options: ServerOptions = desk.options
        self._meter = meter
        self._pace = Pace(desk.options)
        self._queue: deque[Draft | ToolCall] = deque()
        self._writer: MessageWriter | None = None
        self.complete = False
        self._created = False
        if not self._options.done_without_created:
            self._create()

    def _create(self) -> None:
        self._created = True
        self._out.send(ev.ResponseCreated(response=self._response("in_progress")))
        self._send_rate_limits("after_created")

    # What the responder makes

    def feed(self, output: Output) -> None:
        """Take what the responder has made."""
        if isinstance(output, ToolCall):
            self._close_draft()
            self._queue.append(output)
        elif isinstance(output, Text):
            self._draft().add(output.text)
        else:
            self._draft().add(output.text, output.pcm)

    def _draft(self) -> Draft:
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Draft) and not last.closed:
            return last
        settings = self.settings
        draft = Draft(self._options, spoken=settings.spoken, audio_format=settings.audio_format)
        self._queue.append(draft)
        return draft

    def _close_draft(self) -> None:
        if self._queue and isinstance(last := self._queue[-1], Draft):
            last.close()

    def finish(self) -> None:
        """Take note that the responder has made everything."""
        self._close_draft()
        self.complete = True

    @property
    def wants_more(self) -> bool:
        """Whether the responder may go on: little enough waits to be sent."""
        drafts = [part for part in self._queue if isinstance(part, Draft)]
        waiting = sum(draft.backlog_bytes for draft in drafts)
        pieces = len(self._queue) + sum(draft.backlog_texts for draft in drafts)
        limit = ms_to_bytes(BACKLOG_MS, self.settings.audio_format)
        return waiting < limit and pieces < BACKLOG_PIECES

    # Sending

    def next_deadline(self) -> float | None:
        """Return when `advance` has something to do, by the session's clock; None if unknown."""
        if self.done:
            return None
        if self._queue and isinstance(first := self._queue[0], Draft) and first.backlog_bytes:
            return self._pace.due_s
        return None

    def advance(self) -> None:
        """Send what is due, at most one audio delta of it."""
        while self._queue and not self.done:
            if not self._created:
                self._create()
            if not self._send_first(self._queue[0]):
                return
            if not self.done:
                self._queue.popleft()
        if self.complete and not self.done:
            self._end("completed")

    def _send_first(self, part: Draft | ToolCall) -> bool:
        """Send what is due of an item; return whether it is all sent."""
        if isinstance(part, ToolCall):
            self._call(part)
            return True
        if not part.empty and self._writer is None:
            self._writer = (SpokenWriter if part.spoken else WrittenWriter)(self._desk)
        self._send_texts(part)
        self._send_audio(part)
        self._send_texts(part)
        if self.done or not (part.closed and part.empty):
            return False
        self._end_message("completed")
        return True

    def _end_message(self, ending: Ending) -> None:
        if self._writer is not None:
            self._writer.end(ending)
            self._writer = None

    def _send_texts(self, part: Draft) -> None:
        while not self.done and (text := part.take_text()) is not None:
            self._write(text)

    def _write(self, text: str) -> None:
        allowed = text[: self._room * CHARS_PER_TOKEN]
        assert self._writer is not None  # noqa: S101  # a draft with text has one
        if allowed:
            self._writer.write(allowed)
            self._meter.write(allowed)
        if len(allowed) < len(text):
            self._end("incomplete", reason="max_output_tokens")

    def _send_audio(self, part: Draft) -> None:
        if self.done or not part.backlog_bytes or self._out.now_s < self._pace.due_s:
            return
        room_ms = self._room * OUTPUT_MS_PER_TOKEN
        if room_ms <= 0:
            self._end("incomplete", reason="max_output_tokens")
            return
        self._play(part.take_audio(min(self._pace.length_ms, room_ms)))

    def _play(self, audio: bytes) -> None:
        assert isinstance(self._writer, SpokenWriter)  # noqa: S101  # as the draft is
        played_ms = self._writer.play(audio)
        self._meter.play(played_ms)
        self.audio_ms += played_ms
        self._pace.sent(played_ms, self._out.now_s)

    def _call(self, call: ToolCall) -> None:
        allowed = call.arguments[: max(0, self._room - 1) * CHARS_PER_TOKEN]
        cut = len(allowed) < len(call.arguments)
        CallWriter(self._desk, call).write(allowed, "incomplete" if cut else "completed")
        self._meter.write(call.name)
        self._meter.write(allowed)
        if cut:
            self._end("incomplete", reason="max_output_tokens")

    @property
    def _room(self) -> int:
        """How many tokens are left."""
        limit = self.settings.max_output_tokens
        return limit - self._meter.output_tokens if isinstance(limit, int) else 1_000_000

    # Ending

    def cancel(self, reason: Literal["turn_detected", "client_cancelled"]) -> None:
        """End it now."""
        if reason == "turn_detected":
            self._send_late_deltas()
        self._end("cancelled", reason=reason)

    def _send_late_deltas(self) -> None:
        first = self._queue[0] if self._queue else None
        for _ in range(self._options.late_deltas):
            if isinstance(first, Draft) and first.backlog_bytes and self._writer is not None:
                self._play(first.take_audio(self._pace.length_ms))

    def fail(self, message: str) -> None:
        """End it because the responder could not go on."""
        error = ev.StatusError(type="server_error", code=None, message=message)
        self._end("failed", error=error)

    def _end(
        self,
        status: Outcome,
        *,
        reason: Reason | None = None,
        error: ev.StatusError | None = None,
    ) -> None:
        self._end_message("completed" if status == "completed" else "incomplete")
        self.done = True
        self._queue.clear()
        details = ev.StatusDetails(type=status, reason=reason, error=error)
        if not self._created and status != "cancelled":
            self._create()
        self._send_rate_limits("before_done")
        response = self._response(status, None if status == "completed" else details)
        self._out.send(ev.ResponseDone(response=response))
        self._send_rate_limits("after_done")

    def _response(
        self, status: ResponseStatus, details: ev.StatusDetails | None = None
    ) -> ev.Response:
        output = self._desk.output if self.done else []
        usage = self._usage(status) if self.done else None
        return self.settings.response(
            self.response_id, status, details=details, output=output, usage=usage
        )

    def _usage(self, status: str) -> ev.Usage:
        untouched = status == "cancelled" and not self._desk.output
        return no_usage() if untouched else self._meter.usage()

    def _send_rate_limits(self, place: str) -> None:
        if self._options.rate_limits == place:
            self._out.send(ev.RateLimitsUpdated(rate_limits=rate_limits(self._meter)))
