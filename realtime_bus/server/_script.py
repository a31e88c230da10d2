"""A conversation from a file: what the person says, and what the assistant answers.

A script is a list of turns, in TOML or JSON, one for each response of the default
conversation, in order::

    [[turns]]
    assistant = "Good evening. What shall we cook?"      # nobody spoke before

    [[turns]]
    user = "How long does the pasta take?"               # what the person says
    tool = { name = "look_up", arguments = { dish = "pasta" } }

    [[turns]]                                            # after the tool's output
    assistant = "Nine minutes."

``user`` is the transcript of the next spoken turn, ``tool`` a function to call (``tools``
for several). ``text_only`` gives the words without any sound, even where audio was asked for:
then they are the transcript of a silent answer. Once the turns are used up, the last one that
says something is said again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import msgspec

from realtime_bus.errors import RealtimeBusError, UsageError

from ._recorded import RecordedResponder
from ._responders import (
    EchoResponder,
    Output,
    Responder,
    ResponderRequest,
    ToolCall,
    VoiceResponder,
    say,
)
from ._voice import Voice


class ScriptError(RealtimeBusError, ValueError):
    """A script that cannot be read.

    Attributes:
        path: The file, or an empty string.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ScriptTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function that a turn calls.

    Attributes:
        name: The function's name.
        arguments: A table, or JSON text as it is.
        call_id: The call's id; None lets the server make one.
    """

    name: str
    arguments: dict[str, Any] | str = {}
    call_id: str | None = None


class ScriptTurn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One response, and what the person said before it.

    Attributes:
        user: What the person says; None if nobody speaks before this response.
        assistant: What the assistant says.
        tool: A function that it calls, after what it says.
        tools: Several of them.
        text_only: Give the words without any sound, even where audio was asked for.
    """

    user: str | None = None
    assistant: str = ""
    tool: ScriptTool | None = None
    tools: list[ScriptTool] = []
    text_only: bool = False


class ScriptResponder:
    """Answer by a script, and write down what its person says: a responder and a transcriber.

    Args:
        turns: The script.
        voice: Whose voice; None takes the one that goes with the session's voice name.
    """

    def __init__(self, turns: Sequence[ScriptTurn], *, voice: Voice | None = None) -> None:
        self._turns = tuple(turns)
        self._lines = [turn.user for turn in turns if turn.user is not None]
        self._last_words = next((turn for turn in reversed(turns) if turn.assistant), ScriptTurn())
        self._voice = voice

    @classmethod
    def from_file(cls, path: str | Path, *, voice: Voice | None = None) -> ScriptResponder:
        """Read a script from a TOML (``.toml``) or JSON file.

        Raises:
            ScriptError: The file cannot be read, or is no script.
        """
        path = Path(path)
        decode = msgspec.toml.decode if path.suffix.lower() == ".toml" else msgspec.json.decode
        try:
            script = decode(path.read_bytes(), type=_Script)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise ScriptError(f"{path} is no script: {error}", path=str(path)) from error
        return cls(script.turns, voice=voice)

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Output, None]:
        """Give the turn that is due: by ``request.response_index``."""
        turn = self._turn(request.response_index)
        if turn.text_only:
            request = msgspec.structs.replace(request, modalities=("text",))
        async with aclosing(say(turn.assistant, request, voice=self._voice)) as outputs:
            async for output in outputs:
                yield output
        for tool in [turn.tool, *turn.tools] if turn.tool else turn.tools:
            arguments = tool.arguments
            if not isinstance(arguments, str):
                arguments = msgspec.json.encode(arguments).decode()
            yield ToolCall(tool.name, arguments, tool.call_id)

    def _turn(self, response_index: int) -> ScriptTurn:
        if response_index < len(self._turns):
            return self._turns[response_index]
        return msgspec.structs.replace(self._last_words, tool=None, tools=[])

    def transcript(self, turn_index: int, audio: bytes) -> str | None:  # noqa: ARG002  # by script
        """Return the script's `turn_index`-th ``user`` line, or None when there are no more."""
        return self._lines[turn_index] if turn_index < len(self._lines) else None


class _Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    turns: Annotated[list[ScriptTurn], msgspec.Meta(min_length=1)]


RESPONDERS = ("voice", "echo", "script", "recording")
"""What a server can answer with; a script and a recording need a file."""


def responder_named(
    name: str,
    *,
    script: str | Path | None = None,
    recording: str | Path | None = None,
    recording_pace: float = 1.0,
) -> Responder:
    """Make a responder.

    Args:
        name: One of `RESPONDERS`.
        script: The file of turns, for ``"script"``.
        recording: The recorded session, for ``"recording"``.
        recording_pace: How many times faster than recorded its answers come.

    Raises:
        UsageError: There is no such responder, or its file is missing.
        ScriptError: The script cannot be read.
        RecordingError: The file is no recording.
    """
    if name == "script":
        if script is None:
            raise UsageError("the script responder needs a file of turns")
        return ScriptResponder.from_file(script)
    if name == "recording":
        if recording is None:
            raise UsageError("the recording responder needs a recorded session")
        return RecordedResponder(recording, pace=recording_pace)
    makers: dict[str, Callable[[], Responder]] = {"voice": VoiceResponder, "echo": EchoResponder}
    if name not in makers:
        known = ", ".join(RESPONDERS)
        raise UsageError(f"there is no responder named {name!r}; known are {known}")
    return makers[name]()
