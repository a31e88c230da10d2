"""What answers: a voice, an echo, a script."""

import gc
from contextlib import aclosing
from pathlib import Path

import pytest

from realtime_bus import events as ev
from realtime_bus.server._responders import (
    EchoResponder,
    Output,
    Responder,
    ResponderRequest,
    Speech,
    Text,
    ToolCall,
    Transcriber,
    VoiceResponder,
    last_user_text,
)
from realtime_bus.server._script import ScriptError, ScriptResponder, ScriptTurn
from realtime_bus.server._voice import Voice

SCRIPT = """
[[turns]]
assistant = "Good evening. What shall we cook?"

[[turns]]
user = "How long does the pasta take?"
assistant = "Let me look."
tool = { name = "look_up", arguments = { dish = "pasta" } }

[[turns]]
assistant = "Nine minutes."
text_only = true

[[turns]]
user = "And the rice?"
tools = [{ name = "a", arguments = "{}" , call_id = "call_1" }, { name = "b" }]
"""


def said(text: str) -> ev.MessageItem:
    """Return a user's message in writing."""
    return ev.MessageItem(role="user", content=[ev.InputText(text=text)])


def spoken(transcript: str | None) -> ev.MessageItem:
    """Return a user's message in speech."""
    return ev.MessageItem(role="user", content=[ev.InputAudio(transcript=transcript)])


def ask(*items: ev.Item, **options) -> ResponderRequest:
    """Return a request."""
    return ResponderRequest(items=list(items), **options)


async def answer(responder: Responder, request: ResponderRequest) -> list[Output]:
    """Return everything that a responder says."""
    return [output async for output in responder.respond(request)]


def words(outputs: list[Output]) -> str:
    """Return the words of text and speech."""
    return "".join(output.text for output in outputs if not isinstance(output, ToolCall))


def script(tmp_path: Path, text: str = SCRIPT, name: str = "script.toml") -> ScriptResponder:
    """Return a script read from a file."""
    path = tmp_path / name
    path.write_text(text)
    return ScriptResponder.from_file(path)


@pytest.mark.anyio
async def test_a_voice_speaks_its_reply_with_the_transcript_in_step() -> None:
    """Each clause is one piece of speech, and the transcripts join to the reply."""
    outputs = await answer(VoiceResponder("One moment. Here it is, warm."), ask())
    assert [type(output) for output in outputs] == [Speech] * 3
    assert all(isinstance(output, Speech) and output.pcm for output in outputs)
    assert words(outputs) == "One moment. Here it is, warm."


@pytest.mark.anyio
async def test_a_voice_writes_where_text_is_asked_for() -> None:
    """In a text response the reply comes as pieces of text."""
    outputs = await answer(VoiceResponder("One. Two."), ask(modalities=("text",)))
    assert outputs == [Text("One. "), Text("Two.")]


@pytest.mark.anyio
async def test_a_reply_may_be_a_function() -> None:
    """A plain or async function is given the request and finds the words."""

    def plain(request: ResponderRequest) -> str:
        return request.instructions

    async def later(request: ResponderRequest) -> str:
        return request.session_id

    request = ask(instructions="Be kind.", session_id="sess_1", modalities=("text",))
    assert words(await answer(VoiceResponder(plain), request)) == "Be kind."
    assert words(await answer(VoiceResponder(later), request)) == "sess_1"


@pytest.mark.anyio
async def test_the_default_reply_reacts_to_the_conversation() -> None:
    """It repeats what was said, tells a tool's answer, and else says hello at some length."""
    voice = VoiceResponder()
    text = ("text",)
    assert "You said: pasta?" in words(await answer(voice, ask(said("pasta?"), modalities=text)))
    assert words(await answer(voice, ask(modalities=text))).count(".") > 3
    output = ev.FunctionCallOutputItem(call_id="call_1", output="9 min")
    answered = await answer(voice, ask(said("pasta?"), output, modalities=text))
    assert words(answered) == "The answer is: 9 min"


@pytest.mark.anyio
async def test_the_session_chooses_the_voice_unless_the_responder_does() -> None:
    """Another voice name sounds different; a responder's own voice overrides it."""

    async def length(responder: VoiceResponder, voice: str) -> int:
        (output,) = await answer(responder, ask(voice=voice))
        assert isinstance(output, Speech)
        return len(output.pcm)

    reply = "Let us begin with the onions."
    free, fixed = VoiceResponder(reply), VoiceResponder(reply, voice=Voice(rate_wpm=300))
    assert await length(free, "ballad") > await length(free, "shimmer")
    assert await length(fixed, "ballad") < await length(free, "shimmer")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["voice", "script"])
async def test_a_response_may_be_cut_short(kind: str) -> None:
    """A responder that is closed after its first words leaves nothing open behind."""
    turn = ScriptTurn(assistant="One. Two. Three.")
    responders = {"voice": VoiceResponder("One. Two. Three."), "script": ScriptResponder([turn])}
    async with aclosing(responders[kind].respond(ask())) as outputs:
        first = await anext(outputs)
    assert isinstance(first, Speech)
    assert first.text == "One. "
    gc.collect()  # an open generator would warn now, and warnings are errors


@pytest.mark.anyio
async def test_an_echo_plays_the_audio_back() -> None:
    """The user's audio comes back whole, in pieces without words."""
    audio = bytes(range(250)) * 100
    outputs = await answer(EchoResponder(), ask(last_user_audio=audio))
    assert len(outputs) == 3
    assert b"".join(output.pcm for output in outputs if isinstance(output, Speech)) == audio
    assert words(outputs) == ""


@pytest.mark.anyio
async def test_an_echo_writes_text_back() -> None:
    """In a text response the echo is what the user wrote or said last."""
    request = ask(said("One"), said("Two"), modalities=("text",))
    assert await answer(EchoResponder(), request) == [Text("Two")]


def test_the_last_user_text_is_written_or_transcribed() -> None:
    """Written and transcribed words count; audio without a transcript has none."""
    assert last_user_text([said("a"), spoken("b")]) == "b"
    assert last_user_text([said("a"), spoken(None)]) == ""
    assert last_user_text([]) == ""


@pytest.mark.anyio
async def test_a_script_answers_by_the_number_of_the_response(tmp_path: Path) -> None:
    """Each response gets its own turn: words first, then the tools it calls."""
    responder = script(tmp_path)
    assert words(await answer(responder, ask())) == "Good evening. What shall we cook?"
    *spoken_words, call = await answer(responder, ask(response_index=1))
    assert words(spoken_words) == "Let me look."
    assert call == ToolCall("look_up", '{"dish":"pasta"}')
    assert await answer(responder, ask(response_index=2)) == [Text("Nine minutes.")]
    calls = await answer(responder, ask(response_index=3))
    assert calls == [ToolCall("a", "{}", "call_1"), ToolCall("b", "{}")]


@pytest.mark.anyio
async def test_a_script_that_is_used_up_repeats_its_last_words(tmp_path: Path) -> None:
    """After the last turn, the last one with words is said again, without its tools."""
    assert await answer(script(tmp_path), ask(response_index=9)) == [Text("Nine minutes.")]
    silent = ScriptResponder([ScriptTurn(user="Hello?")])
    assert await answer(silent, ask(response_index=5)) == []


def test_a_script_knows_what_the_person_says(tmp_path: Path) -> None:
    """The n-th user turn has the n-th user line, whatever the assistant said between."""
    responder = script(tmp_path)
    lines = [responder.transcript(turn, b"") for turn in range(3)]
    assert lines == ["How long does the pasta take?", "And the rice?", None]


def test_a_script_may_be_json(tmp_path: Path) -> None:
    """A JSON file holds the same turns."""
    responder = script(tmp_path, '{"turns": [{"user": "Hi", "assistant": "Ho"}]}', "script.json")
    assert responder.transcript(0, b"") == "Hi"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("turns = 3", "turns"),
        ("", "turns"),
        ("turns = []", "turns"),
        ("[[turns]]\nassistent = 'Ho'", "assistent"),
        ("[[turns]]\ntool = { arguments = {} }", "tool"),
        ("[[turns", "TOML|Expected|Invalid"),
    ],
)
def test_a_script_with_a_mistake_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """The error names the file and the field at fault."""
    with pytest.raises(ScriptError, match=problem) as caught:
        script(tmp_path, text)
    assert caught.value.path == str(tmp_path / "script.toml")
    assert caught.value.path in str(caught.value)


def test_a_script_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file is a script error, too."""
    with pytest.raises(ScriptError, match="No such file"):
        ScriptResponder.from_file(tmp_path / "none.toml")


def test_what_ships_fits_the_protocols() -> None:
    """Responders and transcribers are what users would write."""
    turns = ScriptResponder([ScriptTurn()])
    assert all(isinstance(one, Responder) for one in (VoiceResponder(), EchoResponder(), turns))
    assert isinstance(turns, Transcriber)
