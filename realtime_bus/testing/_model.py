"""A model that answers as the test says, in order.

::

    ["Good evening.", tool_call("look_up", dish="pasta"), "Nine minutes."]
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, TypeAlias

import anyio
import msgspec

from realtime_bus.server import ResponderRequest, Speech, Text, ToolCall, Voice

from ._voices import BYTES_PER_MS, Voices, heard_words, speak


class Pause(msgspec.Struct, frozen=True):
    """Time that the model takes before it goes on.

    Attributes:
        for_s: How long.
    """

    for_s: float


Part: TypeAlias = str | ToolCall | Pause
Answer: TypeAlias = (
    Part | Sequence[Part] | Callable[[ResponderRequest], "Answer | Awaitable[Answer]"]
)
"""One response: words to say, a tool to call, several of these, or what finds out when asked."""


def tool_call(name: str, /, **arguments: Any) -> ToolCall:
    """Return an answer that calls a tool.

    Args:
        name: The tool.
        **arguments: What it is called with.
    """
    return ToolCall(name, msgspec.json.encode(arguments).decode())


class ScriptedModel:
    """Gives one answer for each response that it is asked for; a `realtime_bus.server.Responder`.

    Args:
        answers: What it answers, in order.
        voices: How its words sound.
        voice: Whose voice that is, of the real ones.
        latency_s: How long it thinks before each answer.
        transcribe: Tells from a turn's audio what the person said; what it cannot tell, fails.

    Attributes:
        asked: What it was asked, in order: the conversation, instructions and tools of each time.
        unscripted_s: When it was asked and had no answer left, by the loop's clock; it was silent.
    """

    def __init__(
        self,
        answers: Sequence[Answer] = (),
        *,
        voices: Voices = "instant",
        voice: Voice | None = None,
        latency_s: float = 0.3,
        transcribe: Callable[[int, bytes], str | None] = lambda _index, _audio: None,
    ) -> None:
        self._answers: list[Answer] = [answers] if isinstance(answers, str) else [*answers]
        self._voices: Voices = voices
        self._voice = voice or Voice()
        self._latency_s = latency_s
        self._transcribe = transcribe
        self._said: list[list[tuple[str, float]]] = []  # each answer's pieces and milliseconds
        self.asked: list[ResponderRequest] = []
        self.unscripted_s: list[float] = []

    @property
    def left(self) -> list[Answer]:
        """The answers that nobody has asked for yet."""
        return self._answers[len(self.asked) :]

    def then(self, *answers: Answer) -> None:
        """Give it more answers, behind those that it has."""
        self._answers += answers

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Text | Speech | ToolCall]:
        """Give the answer that is due."""
        due = len(self.asked)
        self.asked.append(request)
        if self._latency_s:
            await anyio.sleep(self._latency_s)
        if due >= len(self._answers):
            self.unscripted_s.append(anyio.current_time())
            return
        for part in await _parts(self._answers[due], request):
            if isinstance(part, Pause):
                await anyio.sleep(part.for_s)
            elif isinstance(part, ToolCall):
                yield part
            elif not request.wants_audio:
                yield Text(part)
            else:
                async with aclosing(self._say(part)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def _say(self, text: str) -> AsyncGenerator[Speech]:
        said: list[tuple[str, float]] = []
        self._said.append(said)
        async with aclosing(speak(text, self._voices, self._voice)) as pieces:
            async for spoken in pieces:
                said.append((spoken.text, len(spoken.pcm) / BYTES_PER_MS))
                yield Speech(spoken.pcm, spoken.text)

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Write down what the person said; a `realtime_bus.server.Transcriber`."""
        return self._transcribe(turn_index, audio)

    def heard_of(self, text: str, heard_ms: float) -> str | None:
        """Return what can be heard of an answer in so long; None if it was none of its own."""
        for said in reversed(self._said):
            if "".join(piece for piece, _ in said).startswith(text.strip()):
                return heard_words(said, heard_ms)
        return None


async def _parts(answer: Answer, request: ResponderRequest) -> Sequence[Part]:
    while callable(answer):
        found = answer(request)
        answer = await found if isawaitable(found) else found
    return [answer] if isinstance(answer, str | ToolCall | Pause) else answer
