"""What is in force, what each kind of session can be told, and which verbs it has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from realtime_bus import ActiveSettings, Bus, Session, UsageError, decode
from realtime_bus import events as ev
from realtime_bus.events import translation as tr
from realtime_bus.session import SessionKind
from realtime_bus.session._settings import settings_request

from ..bus._peer import Peer, joined  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio


def echoed(**session: Any) -> ActiveSettings:
    """Return what a server's echo of a session says, read as leniently as in a session."""
    frame = msgspec.json.encode({"type": "session.updated", "event_id": "e", "session": session})
    event: Any = decode(frame)
    return ActiveSettings(event.session)


def heard(turn_detection: Any, **more: Any) -> ActiveSettings:
    """Return an echo with an input."""
    return echoed(
        type="realtime", audio={"input": {"turn_detection": turn_detection, **more}, "output": {}}
    )


# What is in force


@pytest.mark.parametrize("echo", [None, 5, [], {"audio": 5}, msgspec.UNSET])
def test_before_anything_is_known_defaults_hold(echo: Any) -> None:
    """Without an echo, or with one that is no session, each property tells the default."""
    settings = ActiveSettings(echo)
    assert (settings.kind, settings.model, settings.transcription_model) == (None, None, None)
    assert settings.input_format == settings.output_format == ev.AudioPCM()
    assert settings.turn_detection is None
    assert settings.detects_turns
    assert settings.server_interrupts
    assert settings.server_responds


def test_an_echo_is_read_through_properties() -> None:
    """Kind, models, formats and turn detection, wherever the protocol has put them."""
    settings = echoed(
        type="realtime",
        model="gpt-realtime",
        audio={
            "input": {
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": "whisper-1"},
                "turn_detection": {"type": "server_vad", "create_response": False},
            },
            "output": {"format": {"type": "audio/pcma"}, "voice": "marin"},
        },
    )
    assert (settings.kind, settings.model) == ("realtime", "gpt-realtime")
    assert settings.transcription_model == "whisper-1"
    assert (settings.input_format, settings.output_format) == (ev.AudioPCMU(), ev.AudioPCMA())
    assert isinstance(settings.turn_detection, ev.ServerVad)


@pytest.mark.parametrize(
    ("turn_detection", "expected"),
    [
        (None, (False, True, False)),
        ({"type": "server_vad"}, (True, True, True)),
        ({"type": "server_vad", "interrupt_response": False}, (True, False, True)),
        ({"type": "semantic_vad", "create_response": False}, (True, True, False)),
        ({"type": "server_vad", "create_response": None}, (True, True, True)),
        ({"type": "new_vad"}, (True, True, True)),
        ({"type": "new_vad", "create_response": False}, (True, True, False)),
        ({"type": "new_vad", "interrupt_response": False}, (True, False, True)),
    ],
)
def test_who_decides_about_turns(turn_detection: Any, expected: tuple[bool, ...]) -> None:
    """Null means nobody but us; kinds that are not known yet are asked by the same names."""
    found = heard(turn_detection)
    assert (found.detects_turns, found.server_interrupts, found.server_responds) == expected


def test_settings_of_the_other_kinds() -> None:
    """A transcription session says so, whatever else it leaves out."""
    settings = echoed(type="transcription", audio={"input": {"transcription": {"model": "w"}}})
    assert (settings.kind, settings.transcription_model) == ("transcription", "w")
    assert echoed(type="something new").kind is None


async def test_a_sessions_settings_follow_the_server() -> None:
    """`Session.settings` is what was echoed last; `config` is the echo itself."""
    async with joined() as (session, peer):
        assert session.settings.kind == "realtime"
        audio = ev.AudioConfig(output=ev.AudioOutputConfig(format=ev.AudioPCMU()))
        peer.say(ev.SessionUpdated(session=ev.RealtimeSession(id="sess_1", audio=audio)))
        assert session.settings.output_format == ev.AudioPCMU()
        assert session.config is session.settings.echo


# What can be told, by kind


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("transcription", {"voice": "marin"}, "a transcription session has no setting 'voice'"),
        ("transcription", {"tools": []}, "a transcription session has no setting 'tools'"),
        ("translation", {"instructions": "x"}, "a translation session has no setting 'instr"),
        ("translation", {"input_format": "pcm"}, "known are language, noise_reduction, transc"),
        ("realtime", {"language": "fr"}, "a realtime session has no setting 'language'"),
    ],
)
def test_settings_belong_to_a_kind(kind: SessionKind, settings: Any, message: str) -> None:
    """What another kind of session has is refused, with what this one has; before dialing, too."""
    with pytest.raises(UsageError, match=message):
        settings_request(settings, kind)
    intent: Any = {} if kind == "realtime" else {"intent": kind}
    model = None if kind == "transcription" else "gpt-realtime"
    with pytest.raises(UsageError, match=message):
        Bus().connect(model, api_key="k", **intent, **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (
            "transcription",
            {"transcription": ev.Transcription(model="w"), "input_format": "pcmu"},
            {
                "type": "transcription",
                "audio": {
                    "input": {"format": {"type": "audio/pcmu"}, "transcription": {"model": "w"}}
                },
            },
        ),
        ("transcription", {"turn_detection": None}, None),
        ("translation", {"language": "fr"}, {"audio": {"output": {"language": "fr"}}}),
    ],
)
def test_each_kind_has_a_request_of_its_own(
    kind: SessionKind, settings: Any, expected: Any
) -> None:
    """Short names go where that kind of session has them."""
    plain = msgspec.json.decode(msgspec.json.encode(settings_request(settings, kind)))
    assert plain == (expected or {"type": kind, "audio": {"input": {"turn_detection": None}}})


# Which verbs there are, by kind

VERBS: dict[str, Callable[[Session], Any]] = {
    "update": lambda session: session.update(),
    "update_translation": lambda session: session.update_translation(),
    "commit_input": lambda session: session.commit_input(),
    "clear_input": lambda session: session.clear_input(),
    "create_item": lambda session: session.send_text("x"),
    "retrieve_item": lambda session: session.retrieve_item("i"),
    "delete_item": lambda session: session.delete_item("i"),
    "truncate_item": lambda session: session.truncate_item("i", audio_end_ms=1),
    "cancel_response": lambda session: session.cancel_response("r"),
    "respond": lambda session: session.respond(),
}
MISSING: dict[str, set[str]] = {
    "realtime": {"update_translation"},
    "transcription": {
        "update_translation",
        "create_item",
        "truncate_item",
        "cancel_response",
        "respond",
    },
    "translation": set(VERBS) - {"update_translation"},
}


@pytest.mark.parametrize("kind", MISSING)
async def test_a_verb_that_a_kind_of_session_does_not_have_fails_at_once(kind: str) -> None:
    """It says so, with the kind, and sends nothing."""
    peer = Peer()
    if kind == "translation":
        created = tr.TranslationSession(
            id="s", expires_at=1, model="m", audio=tr.TranslationAudio()
        )
        peer.say(tr.SessionCreated(session=created))
    elif kind == "transcription":
        peer.say(ev.SessionCreated(session=ev.TranscriptionSession(id="s")))
    else:
        peer.say(ev.SessionCreated(session=ev.RealtimeSession(id="s")))
    protocol: Any = "translation" if kind == "translation" else "realtime"
    async with Bus().session(peer.transport, protocol=protocol) as session:
        for verb in MISSING[kind]:
            with pytest.raises(UsageError, match=rf"a {kind} session has no {verb}\(\)"):
                await _call(VERBS[verb], session)
        assert peer.sent == []


async def _call(verb: Any, session: Any) -> None:
    result = verb(session)
    assert isinstance(result, Awaitable)
    await result
