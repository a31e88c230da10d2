"""A response that was asked for: await its end, read it as it comes, or cancel it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any

import anyio

from .. import events as ev
from .._errors import RequestTimeout
from ._arbiter import ResponseTask
from ._waiting import EventStream

if TYPE_CHECKING:
    from ._session import Session

__all__ = ["Reply"]

_TEXT = (ev.ResponseOutputTextDelta, ev.ResponseOutputAudioTranscriptDelta)


class Reply:
    """What `Session.respond` returns.

    ``await reply`` gives the finished `events.Response`, whatever its status. Text, transcript
    and audio can be read while they come; what came before reading began is not lost, except
    audio, which is kept only from the call of `audio` on.
    """

    def __init__(self, session: Session, task: ResponseTask, *, timeout_s: float | None) -> None:
        self._session = session
        self._task = task
        self._timeout_s = timeout_s
        self._settled = anyio.Event()
        self._words: EventStream[Any] = EventStream(session, _TEXT, where=self._is_mine)
        self._sounds: list[EventStream[Any]] = []
        task.on_settled = self._end

    def _is_mine(self, event: Any) -> bool:
        return bool(event.response_id == self._task.response_id)

    def _end(self) -> None:
        for stream in (self._words, *self._sounds):
            stream.end()
        self._settled.set()

    @property
    def id(self) -> str | None:
        """The response's id, known from ``response.created`` on."""
        return self._task.response_id

    @property
    def done(self) -> bool:
        """Whether the response has ended, or was refused."""
        return self._task.settled

    def __await__(self) -> Generator[Any, Any, ev.Response]:
        return self._wait().__await__()

    async def _wait(self) -> ev.Response:
        try:
            with anyio.fail_after(self._timeout_s):
                await self._settled.wait()
        except TimeoutError:
            raise self._timed_out() from None
        if self._task.error is not None:
            raise self._task.error
        return self._task.response or ev.Response()

    def _timed_out(self) -> RequestTimeout:
        timeout_s = self._timeout_s or 0.0
        return RequestTimeout(
            f"the response was not done within {timeout_s:g} s; "
            "give respond() a longer timeout_s, or None to wait as long as it takes",
            event_type=self._task.event.type,
            event_id=self._task.request_id,
            timeout_s=timeout_s,
        )

    async def text(self) -> AsyncIterator[str]:
        """Yield the words as they come: text, or the transcript of speech."""
        async for event in self._words:
            yield event.delta

    async def audio(self) -> AsyncIterator[bytes]:
        """Yield the audio as it comes, in the session's output format."""
        stream: EventStream[ev.ResponseOutputAudioDelta] = EventStream(
            self._session, (ev.ResponseOutputAudioDelta,), where=self._is_mine
        )
        self._sounds.append(stream)
        if self._task.settled:
            stream.end()
        async for event in stream:
            yield event.delta

    async def cancel(self) -> None:
        """Stop the response: take it out of the queue, or have the server cancel it.

        One that has ended already is left alone.
        """
        await self._session.cancel_task(self._task)

    def __repr__(self) -> str:
        state = "done" if self.done else "active" if self.id else "waiting"
        return f"<Reply {self.id or self._task.request_id} {state}>"
