"""One response: from ``response.created`` to ``response.done``.

The rules
---------
* What the responder makes is queued as messages and calls, in order; `advance` sends what is due.
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

from ._output_items import (
    CallWriter,
    Ending,
    MessageWriter,
    ResponseContext,
    SpokenWriter,
    WrittenWriter,
)
from ._pacing import DeltaTiming, PendingMessage
from ._responders import Output, Speech, ToolCall, Unfinished
from ._usage import CHARS_PER_TOKEN, OUTPUT_MS_PER_TOKEN, Meter

BACKLOG_MS = 10_000
BACKLOG_PIECES = 256
"""How much may wait to be sent before the responder has to."""


class RunningResponse:
    """One response under way.

    Args:
        context: What it goes by.
        meter: Counts its tokens.

    Attributes:
        response_id: Its id.
        done: Whether it has ended.
        complete: Whether the responder has made everything.
        audio_ms: How much audio was sent.
    """

    def __init__(self, context: ResponseContext, meter: Meter) -> None:
        self.response_id = context.response_id
        self.done = self.complete = False
        self.audio_ms = 0
        self._context = context
        self._out = context.out
        self._options = context.options
        self._meter = meter
        self._timing = DeltaTiming(context.options)
        self._queue: deque[PendingMessage | ToolCall | Unfinished] = deque()
        self._writer: MessageWriter | None = None
        self._created = False
        if not self._options.done_without_created:
            self._create()

    def _create(self) -> None:
        self._created = True
        self._out.send(ev.ResponseCreated(response=self._context.show("in_progress")))
        self._send_rate_limits("after_created")

    # What the responder makes

    def feed(self, output: Output) -> None:
        """Take what the responder has made."""
        last = self._queue[-1] if self._queue else None
        if isinstance(output, ToolCall | Unfinished):
            self._close_message()
            self._queue.append(output)
            return
        if not isinstance(last, PendingMessage) or last.closed:
            context = self._context
            last = PendingMessage(
                context.options, spoken=context.spoken, audio_format=context.audio_format
            )
            self._queue.append(last)
        last.add(output.text, output.pcm if isinstance(output, Speech) else b"")

    def _close_message(self) -> None:
        if self._queue and isinstance(last := self._queue[-1], PendingMessage):
            last.close()

    def finish(self) -> None:
        """Take note that the responder has made everything."""
        self._close_message()
        self.complete = True

    @property
    def wants_more(self) -> bool:
        """Whether the responder may go on: little enough waits to be sent."""
        messages = [part for part in self._queue if isinstance(part, PendingMessage)]
        waiting = sum(message.backlog_bytes for message in messages)
        pieces = len(self._queue) + sum(message.backlog_texts for message in messages)
        limit = ms_to_bytes(BACKLOG_MS, self._context.audio_format)
        return waiting < limit and pieces < BACKLOG_PIECES

    # Sending

    def next_deadline(self) -> float | None:
        """Return when `advance` has something to do, by the session's clock; None if unknown."""
        first = self._queue[0] if self._queue and not self.done else None
        waits = isinstance(first, PendingMessage) and first.backlog_bytes
        return self._timing.due_s if waits else None

    def advance(self) -> None:
        """Send what is due, at most one audio delta of it."""
        while self._queue and not self.done:
            if not self._created:
                self._create()
            first = self._queue[0]
            if isinstance(first, ToolCall):
                self._send_call(first)
            elif isinstance(first, Unfinished):
                self._end(first.status, first.details())
            elif not self._send_message(first):
                return
            if not self.done:
                self._queue.popleft()
        if self.complete and not self.done:
            self._end("completed")

    def _send_message(self, message: PendingMessage) -> bool:
        """Send what is due of a message; return whether it is all sent."""
        if not message.empty and self._writer is None:
            self._writer = (SpokenWriter if message.spoken else WrittenWriter)(self._context)
        self._send_texts(message)
        self._send_audio(message)
        self._send_texts(message)
        if self.done or not (message.closed and message.empty):
            return False
        cut = len(self._queue) > 1 and isinstance(self._queue[1], Unfinished)
        self._end_message("incomplete" if cut else "completed")
        return True

    def _send_texts(self, message: PendingMessage) -> None:
        while not self.done and (text := message.take_text()) is not None:
            assert self._writer is not None  # noqa: S101  # a message with text has one
            allowed = text[: self._room * CHARS_PER_TOKEN]
            if allowed:
                self._writer.write(allowed)
                self._meter.write(allowed)
            if len(allowed) < len(text):
                self._use_up()

    def _send_audio(self, message: PendingMessage) -> None:
        if self.done or not message.backlog_bytes or self._out.now_s < self._timing.due_s:
            return
        room_ms = self._room * OUTPUT_MS_PER_TOKEN
        if room_ms <= 0:
            self._use_up()
        else:
            self._play(message.take_audio(min(self._timing.length_ms, room_ms)))

    def _play(self, audio: bytes) -> None:
        assert isinstance(self._writer, SpokenWriter)  # noqa: S101  # as the message is
        played_ms = self._writer.play(audio)
        self._meter.play(played_ms)
        self.audio_ms += played_ms
        self._timing.sent(played_ms, self._out.now_s)

    def _send_call(self, call: ToolCall) -> None:
        allowed = call.arguments[: max(0, self._room - 1) * CHARS_PER_TOKEN]
        cut = len(allowed) < len(call.arguments)
        CallWriter(self._context, call).write(allowed, "incomplete" if cut else "completed")
        self._meter.write(call.name)
        self._meter.write(allowed)
        if cut:
            self._use_up()

    @property
    def _room(self) -> int:
        """How many tokens are left."""
        limit = self._context.max_output_tokens
        return limit - self._meter.output_tokens if isinstance(limit, int) else 1_000_000

    # Ending

    def cancel(self, reason: Literal["turn_detected", "client_cancelled"]) -> None:
        """End it now."""
        first = self._queue[0] if self._queue else None
        late_deltas = self._options.late_deltas if reason == "turn_detected" else 0
        for _ in range(late_deltas):
            if isinstance(first, PendingMessage) and first.backlog_bytes and self._writer:
                self._play(first.take_audio(self._timing.length_ms))
        self._end("cancelled", ev.StatusDetails(type="cancelled", reason=reason))

    def fail(self, message: str) -> None:
        """End it because the responder could not go on."""
        error = ev.StatusError(type="server_error", code=None, message=message)
        self._end("failed", ev.StatusDetails(type="failed", error=error))

    def _use_up(self) -> None:
        details = ev.StatusDetails(type="incomplete", reason="max_output_tokens")
        self._end("incomplete", details)

    def _end_message(self, ending: Ending) -> None:
        if self._writer is not None:
            self._writer.end(ending)
            self._writer = None

    def _end(
        self,
        status: Literal["completed", "cancelled", "failed", "incomplete"],
        details: ev.StatusDetails | None = None,
    ) -> None:
        self._end_message("completed" if status == "completed" else "incomplete")
        self.done = True
        self._queue.clear()
        if not self._created and status != "cancelled":
            self._create()
        self._send_rate_limits("before_done")
        untouched = status == "cancelled" and not self._context.output
        usage = Meter.nothing() if untouched else self._meter.usage()
        response = self._context.show(status, details=details, usage=usage)
        self._out.send(ev.ResponseDone(response=response))
        self._send_rate_limits("after_done")

    def _send_rate_limits(self, place: str) -> None:
        if self._options.rate_limits == place:
            self._out.send(ev.RateLimitsUpdated(rate_limits=self._meter.rate_limits()))
