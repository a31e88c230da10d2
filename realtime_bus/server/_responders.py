"""What answers: responders, and who writes down what the person said.

A responder is asked once per response and yields text, speech and tool calls as it makes
them. It is one object for all sessions and all responses, so everything that belongs to one
response lives in the generator. The machine around it makes the events, paces them, and
closes the generator when the response is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from realtime_bus import events as ev

from ._voice import Voice, split_text, voice_named


class Text(msgspec.Struct, frozen=True):
    """A piece of a text answer; in an audio response, a piece of transcript without sound.

    Attributes:
        text: The next words, spaces included: pieces are joined with nothing between them.
    """

    text: str


class Speech(msgspec.Struct, frozen=True):
    """A piece of spoken answer.

    Attributes:
        pcm: PCM16 mono, 24 kHz, little-endian.
        text: The words it speaks, spaces included; empty if there are none.
    """

    pcm: bytes
    text: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """A function that the client is to call.

    Attributes:
        name: The function's name.
        arguments: Its arguments, as a JSON object in text.
        call_id: The call's id; None lets the server make one.
    """

    name: str
    arguments: str = "{}"
    call_id: str | None = None


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an answer that is not complete; nothing comes behind it.

    Attributes:
        status: ``incomplete``, or ``failed``.
        reason: Why it is incomplete.
        code: Of the error that it failed with.
        message: The same in words.
        type: What kind of error that is.
    """

    status: Literal["incomplete", "failed"] = "incomplete"
    reason: Literal["max_output_tokens", "content_filter"] | None = None
    code: str | None = None
    message: str | None = None
    type: str = "server_error"

    def details(self) -> ev.StatusDetails:
        """Return what ``response.done`` says of it."""
        if self.status == "incomplete":
            return ev.StatusDetails(type="incomplete", reason=self.reason)
        error = ev.StatusError(type=self.type, code=self.code, message=self.message)
        return ev.StatusDetails(type="failed", error=error)


Output: TypeAlias = Text | Speech | ToolCall | Unfinished


class ResponderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a responder is to answer.

    Attributes:
        items: The conversation so far, or the input of an out-of-band response.
        instructions: The session's or the response's own instructions.
        modalities: ``("audio",)`` or ``("text",)``.
        tools: The tools that may be called.
        last_user_audio: The last committed user turn, PCM16 mono 24 kHz; empty if none.
        voice: The voice's name, as the session has it.
        metadata: The response's metadata.
        response_index: How many responses of the default conversation came before in this
            session; what a script goes by.
        session_id: The session that asks.
        out_of_band: Whether the answer is to stay out of the conversation.
    """

    items: list[ev.Item]
    instructions: str = ""
    modalities: tuple[str, ...] = ("audio",)
    tools: tuple[Any, ...] = ()
    last_user_audio: bytes = b""
    voice: str = "marin"
    metadata: dict[str, str] | None = None
    response_index: int = 0
    session_id: str = ""
    out_of_band: bool = False

    @property
    def wants_audio(self) -> bool:
        """Whether the answer is to be spoken."""
        return "audio" in self.modalities


@runtime_checkable
class Responder(Protocol):
    """What answers."""

    def respond(self, request: ResponderRequest) -> AsyncIterator[Output]:
        """Answer: an async generator of text, speech and tool calls.

        It is closed early (``aclose``, if it has one) when the response is cancelled; an
        exception it raises fails the response, not the session. Whatever takes long must not
        block the event loop.
        """
        ...


@runtime_checkable
class Transcriber(Protocol):
    """Who writes down what a person said."""

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Return what was said in a user turn, or None if that is not known.

        Args:
            turn_index: How many user turns of this session were committed before, from 0.
            audio: The turn, PCM16 mono 24 kHz.
        """
        ...


Reply: TypeAlias = str | Callable[[ResponderRequest], str | Awaitable[str]]
"""What to say: fixed words, or a plain or async function that finds them."""


class VoiceResponder:
    """Say something with the local voice (eSpeak NG), or write it where text is asked for.

    Args:
        reply: What to say; None reacts to the conversation: repeats what the person wrote
            or said, or answers kindly at some length.
        voice: Whose voice; None takes the one that goes with the session's voice name.
    """

    def __init__(self, reply: Reply | None = None, *, voice: Voice | None = None) -> None:
        self._reply: Reply = small_talk if reply is None else reply
        self._voice = voice

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Output, None]:
        """Say the reply, clause by clause, its transcript in step."""
        text = await _reply_text(self._reply, request)
        async with aclosing(say(text, request, voice=self._voice)) as outputs:
            async for output in outputs:
                yield output


class EchoResponder:
    """Play the user's audio back; where text is asked for, write back what they wrote."""

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Output, None]:
        """Play the last user turn back, a fifth of a second at a time."""
        if not request.wants_audio:
            yield Text(last_user_text(request.items))
            return
        audio = request.last_user_audio
        for start in range(0, len(audio), _ECHO_BYTES):
            yield Speech(audio[start : start + _ECHO_BYTES])


_ECHO_BYTES = 200 * 48  # 200 ms


async def _reply_text(reply: Reply, request: ResponderRequest) -> str:
    if isinstance(reply, str):
        return reply
    found = reply(request)
    return found if isinstance(found, str) else await found


async def say(
    text: str, request: ResponderRequest, *, voice: Voice | None = None
) -> AsyncGenerator[Text | Speech, None]:
    """Say a text, or write it where text is asked for, clause by clause.

    Whoever leaves early closes it (`contextlib.aclosing`).

    Args:
        text: What to say.
        request: What is answered: its modalities and voice count.
        voice: Whose voice; None takes the request's.
    """
    if not request.wants_audio:
        for piece in split_text(text):
            yield Text(piece)
        return
    async with aclosing((voice or voice_named(request.voice)).speak(text)) as clauses:
        async for spoken in clauses:
            yield Speech(spoken.pcm, spoken.text)


def small_talk(request: ResponderRequest) -> str:
    """Return a reply that needs no understanding: the default of `VoiceResponder`."""
    last = request.items[-1] if request.items else None
    if isinstance(last, ev.FunctionCallOutputItem):
        return f"The answer is: {last.output}"
    said = last_user_text(request.items).strip()
    return f"{_REPEAT.format(said=said)} {_AT_LENGTH}" if said else f"{_HELLO} {_AT_LENGTH}"


_HELLO = "Hello, I can hear you."
_REPEAT = "You said: {said}"
_AT_LENGTH = (
    "I am the local voice of this server, and I do not understand what I hear. "
    "But I can talk for a while, so that there is something to listen to. "
    "You may interrupt me whenever you like: I will stop at once, and listen."
)


def last_user_text(items: Sequence[ev.Item]) -> str:
    """Return what the person wrote or said last, as far as it is known in words."""
    for item in reversed(items):
        if isinstance(item, ev.MessageItem) and item.role == "user":
            return " ".join(filter(None, map(_words, item.content)))
    return ""


def _words(part: ev.ContentPart) -> str:
    if isinstance(part, ev.InputText):
        return part.text
    return (part.transcript or "") if isinstance(part, ev.InputAudio) else ""
