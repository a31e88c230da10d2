"""What a conversation with somebody else's client takes: a server, a script, a person, a witness.

The rules
---------
* A client is used by its own public API, unpatched; what it does is its own decision.
* The script, response by response: a question that calls a tool, the answer to its output, a
  long answer that the person interrupts, a short one, and one to what the person wrote.
* The witness is a sideband of the same session: it sees every event of the server, so that each
  conversation is judged the same way, whatever its client shows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from realtime_bus import events as ev
from realtime_bus.server import (
    BoundServer,
    RealtimeServer,
    ScriptResponder,
    ScriptTool,
    ScriptTurn,
)

from ..server._client import PATIENCE_S, Client, connected  # noqa: TID252  # tests are no package with a name of its own
from ..server._sounds import silence, speech  # noqa: TID252  # tests are no package with a name of its own

MARKS = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # none of these clients knows trio
    pytest.mark.slow,
]

INSTRUCTIONS = "Help in the kitchen."
VOICE = "cedar"
MODEL = "gpt-realtime-2"

QUESTION = "How long does the pasta take?"
FOUND = "nine minutes"
ANSWER = "The pasta takes nine minutes."
TELL_ALL = "Tell me all about it."
STORY = (
    "Pasta is made of flour and water, and sometimes of eggs. "
    "It is older than the fork, and there are more shapes of it than anybody has counted. "
    "The water wants salt, a good deal of it, before the pasta goes in, and no oil at all. "
    "Some of that water belongs into the sauce, which it makes smooth."
)
STOP = "Please stop right there."
YES = "As you wish."
WRITTEN = "And the sauce?"
READ = "Tomatoes, and basil."

TOOL = {
    "type": "function",
    "name": "look_up",
    "description": "How long a dish takes.",
    "parameters": {
        "type": "object",
        "properties": {"dish": {"type": "string"}},
        "required": ["dish"],
        "additionalProperties": False,
    },
}

SCRIPT = [
    ScriptTurn(user=QUESTION, tool=ScriptTool(name="look_up", arguments={"dish": "pasta"})),
    ScriptTurn(assistant=ANSWER),
    ScriptTurn(user=TELL_ALL, assistant=STORY),
    ScriptTurn(user=STOP, assistant=YES),
    ScriptTurn(assistant=READ),
]

HEARD_MS = 300
"""How much of the story was played when the person speaks up."""

DELTAS = 4
"""How many deltas hold more than that."""

APART = {
    "conversation": "none",
    "output_modalities": ["text"],
    "metadata": {"purpose": "title"},
    "input": [],
}
"""A response out of band."""


def said(words: str) -> list[bytes]:
    """Return what the person says and the silence around it, PCM16 at 24 kHz, 20 ms each."""
    pcm = silence(300) + speech(words) + silence(900)
    return [pcm[start : start + 960] for start in range(0, len(pcm), 960)]


def speaks_up() -> tuple[list[bytes], list[bytes]]:
    """Return how the interruption begins, and the rest of it.

    The rest waits until the client has stopped: nobody says it all in no time.
    """
    pieces = said(STOP)
    return pieces[:40], pieces[40:]


class Stage:
    """The server, and whoever looks on."""

    def __init__(self, server: RealtimeServer, bound: BoundServer) -> None:
        self._server = server
        self._bound = bound
        self.url = bound.url
        self.url_for_any = bound.url_for("any")

    @asynccontextmanager
    async def witness(self) -> AsyncGenerator[Client, None]:
        """Join the session that is open, and collect what the server says from now on."""
        with anyio.fail_after(PATIENCE_S):
            while not self._server.sessions:  # noqa: ASYNC110  # nobody tells when one begins
                await anyio.sleep(0.01)
        (session,) = self._server.sessions
        async with connected(self._bound.url_for_call(session.call_id)) as client:
            await client.get(ev.SessionCreated)  # it shows the settings in force
            yield client


class Heard:
    """What a client reports, to be waited for."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._more = anyio.Event()

    def note(self, report: Any) -> None:
        """Take a report."""
        self.all.append(report)
        self._more.set()
        self._more = anyio.Event()

    def of(self, fits: Callable[[Any], bool]) -> list[Any]:
        """Return the reports that fit so far."""
        return [report for report in self.all if fits(report)]

    async def get(self, fits: Callable[[Any], bool], *, nth: int = 1) -> Any:
        """Wait for the nth report that fits."""
        with anyio.fail_after(PATIENCE_S):
            while len(found := self.of(fits)) < nth:
                await self._more.wait()
        return found[nth - 1]


@asynccontextmanager
async def stage(*, greeting: str = "") -> AsyncGenerator[Stage, None]:
    """Serve the script on loopback, with the detector and the voices that it has by default.

    Args:
        greeting: What the first response says, for clients that begin with one.
    """
    before = [ScriptTurn(assistant=greeting)] if greeting else []
    server = RealtimeServer(ScriptResponder(before + SCRIPT))
    async with server.serve() as bound:
        yield Stage(server, bound)
    seen = server.statistics()
    assert (seen.served, seen.refused, seen.failed) == (1, 0, 0)


# What was to happen


def settings(witness: Client) -> ev.RealtimeSession:
    """Return the settings in force."""
    (*_, last) = (
        event.session
        for event in witness.events
        if isinstance(event, ev.SessionCreated | ev.SessionUpdated)
    )
    return last


def check_settings(witness: Client) -> None:
    """The settings are those of the client."""
    session = settings(witness)
    assert session.instructions == INSTRUCTIONS
    assert session.audio.output.voice == VOICE
    assert [tool.name for tool in session.tools] == [TOOL["name"]]


def check_conversation(witness: Client) -> None:
    """The server has seen every step of the conversation, and in their order."""
    transcripts = witness.all(ev.ConversationItemInputAudioTranscriptionCompleted)
    assert [event.transcript for event in transcripts] == [QUESTION, TELL_ALL, STOP]
    items = [event.item for event in witness.all(ev.ConversationItemAdded)]
    assert FOUND in next(item for item in items if item.type == "function_call_output").output
    done = [event.response for event in witness.all(ev.ResponseDone)]
    asked = [response for response in done if response.conversation_id][-5:]
    assert [response.status for response in asked] == [
        "completed",  # calls the tool
        "completed",  # answers
        "cancelled",  # the story
        "completed",
        "completed",
    ]
    (apart,) = [response for response in done if not response.conversation_id]
    assert (apart.status, apart.metadata) == ("completed", APART["metadata"])
    (cut,) = witness.all(ev.ConversationItemTruncated)
    assert cut.item_id == asked[2].output[0].id
    assert not witness.all(ev.Error)
