"""Session settings: merging, refusing, and what is echoed."""

import msgspec
import pytest

from realtime_bus import events as ev

from ._world import World, only_error, spoken, types


def _input(world: World) -> ev.AudioInputConfig:
    return world.last(ev.SessionUpdated).session.audio.input


def test_an_update_changes_only_what_it_names() -> None:
    """Absent settings keep their value, also inside the audio objects."""
    world = World()
    before = world.last(ev.SessionCreated).session
    world.update(audio={"output": {"speed": 1.2}})
    after = world.last(ev.SessionUpdated).session
    assert after.audio.output.speed == 1.2
    assert after.audio.output.voice == before.audio.output.voice
    assert after.audio.input == before.audio.input
    assert after.instructions == before.instructions


def test_turn_detection_is_replaced_and_completed() -> None:
    """A new turn detection starts from its kind's defaults, not from what was in force."""
    world = World()
    world.update(audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 0.9}}})
    world.update(audio={"input": {"turn_detection": {"type": "server_vad"}}})
    assert _input(world).turn_detection.threshold == 0.5
    world.update(audio={"input": {"turn_detection": {"type": "semantic_vad"}}})
    assert _input(world).turn_detection.eagerness == "auto"


@pytest.mark.parametrize("name", ["turn_detection", "transcription", "noise_reduction"])
def test_null_turns_off(name: str) -> None:
    """Null turns an input setting off."""
    world = World()
    world.update(audio={"input": {name: None}})
    assert getattr(_input(world), name) is None


def test_empty_values_clear() -> None:
    """An empty text and an empty list are values like others."""
    world = World()
    world.update(instructions="Be brief.", tools=[{"type": "function", "name": "f"}])
    world.update(instructions="", tools=[])
    session = world.last(ev.SessionUpdated).session
    assert (session.instructions, session.tools) == ("", [])


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"type": "realtime", "voice": "ash"}, "unknown_parameter", "session.voice"),
        (
            {"type": "realtime", "audio": {"input": {"x": 1}}},
            "unknown_parameter",
            "session.audio.input.x",
        ),
        ({"instructions": "x"}, "missing_required_parameter", "session.type"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        (
            {
                "type": "realtime",
                "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}},
            },
            "integer_below_min_value",
            "session.audio.input.format.rate",
        ),
        (
            {
                "type": "realtime",
                "audio": {"output": {"format": {"type": "audio/pcm", "rate": 48000}}},
            },
            "invalid_value",
            "session.audio.output.format.rate",
        ),
        ({"type": "realtime", "model": "other"}, "invalid_value", "session.model"),
        (
            {"type": "realtime", "audio": {"output": {"speed": 9}}},
            "invalid_value",
            "session.audio.output.speed",
        ),
        (
            {"type": "realtime", "output_modalities": ["audio", "text"]},
            "invalid_value",
            "session.output_modalities",
        ),
        (
            {
                "type": "realtime",
                "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}},
            },
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {
                "type": "realtime",
                "audio": {
                    "input": {"turn_detection": {"type": "server_vad", "prefix_padding_ms": -1}}
                },
            },
            "invalid_value",
            "session.audio.input.turn_detection.prefix_padding_ms",
        ),
        (
            {
                "type": "realtime",
                "audio": {
                    "input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 10}}
                },
            },
            "invalid_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
    ],
)
def test_a_refused_update_names_the_field_and_changes_nothing(
    session: dict[str, object], code: str, param: str
) -> None:
    """A refusal has a code, a path and the client's id, and leaves the settings alone."""
    world = World()
    frame = {"type": "session.update", "event_id": "mine", "session": session}
    error = only_error(world.send(frame))
    assert (error.code, error.param, error.event_id) == (code, param, "mine")
    world.update()
    created, updated = world.last(ev.SessionCreated), world.last(ev.SessionUpdated)
    assert msgspec.to_builtins(updated.session) == msgspec.to_builtins(created.session)


def test_the_voice_is_fixed_once_the_model_has_spoken() -> None:
    """Another voice is refused after the first audio; the same one is not."""
    world = World(spoken(200))
    assert types(world.update(audio={"output": {"voice": "cedar"}})) == ["session.updated"]
    world.send(ev.ResponseCreate())
    world.run(5)
    error = only_error(world.update(audio={"output": {"voice": "ash"}}))
    assert (error.code, error.param) == ("cannot_update_voice", "session.audio.output.voice")
    assert types(world.update(audio={"output": {"voice": "cedar"}})) == ["session.updated"]
    request = {"type": "response.create", "response": {"audio": {"output": {"voice": "ash"}}}}
    assert only_error(world.send(request)).code == "cannot_update_voice"


def test_tracing_stays_once_it_is_on() -> None:
    """Tracing can be turned on, and then not be changed."""
    world = World()
    world.update(tracing="auto")
    assert only_error(world.update(tracing=None)).param == "session.tracing"


def test_lenient_servers_ignore_unknown_fields() -> None:
    """With the knob, an unknown field is ignored and the rest done."""
    world = World(lenient_fields=True)
    assert types(world.update(temperature=0.8, instructions="x")) == ["session.updated"]
    assert world.last(ev.SessionUpdated).session.instructions == "x"


def test_numbers_beyond_64_bits_break_nothing() -> None:
    """What cannot be echoed exactly does not break the session."""
    tool = b'{"type":"function","name":"f","parameters":{"x":' + b"9" * 40 + b"}}"
    session = b'{"type":"realtime","tools":[' + tool + b"]}"
    world = World()
    world.send(b'{"type":"session.update","session":' + session + b"}")
    assert types(world.update()) == ["session.updated"]
