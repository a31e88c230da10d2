"""Session settings under short names, and addresses and keys."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from realtime_bus import AuthenticationError, InvalidURL, SessionSettings, UsageError
from realtime_bus import events as ev
from realtime_bus._secrets import Secret
from realtime_bus.connect import Target, target
from realtime_bus.session._settings import settings_request

FIELDS: list[tuple[SessionSettings, dict[str, Any]]] = [
    ({}, {}),
    ({"instructions": "x"}, {"instructions": "x"}),
    ({"voice": "marin"}, {"audio": {"output": {"voice": "marin"}}}),
    ({"speed": 1.1}, {"audio": {"output": {"speed": 1.1}}}),
    ({"turn_detection": None}, {"audio": {"input": {"turn_detection": None}}}),
    (
        {"input_format": "pcmu", "output_format": ev.AudioPCM()},
        {
            "audio": {
                "input": {"format": {"type": "audio/pcmu"}},
                "output": {"format": {"type": "audio/pcm", "rate": 24000}},
            }
        },
    ),
    ({"output_modalities": ("text",)}, {"output_modalities": ["text"]}),
    ({"tracing": None, "tool_choice": "none"}, {"tracing": None, "tool_choice": "none"}),
    ({"noise_reduction": None}, {"audio": {"input": {"noise_reduction": None}}}),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_short_names_build_the_nested_request(
    fields: SessionSettings, expected: dict[str, Any]
) -> None:
    """Each setting goes to its place, None is sent as null, and nothing else is sent."""
    plain = msgspec.json.decode(msgspec.json.encode(settings_request(fields, "realtime")))
    assert plain == {"type": "realtime", **expected}


def test_an_unknown_setting_lists_the_known() -> None:
    """A mistyped setting fails and says what there is."""
    with pytest.raises(
        UsageError, match="a realtime session has no setting 'voise'; known are include, in"
    ):
        settings_request({"voise": "marin"}, "realtime")


def test_an_unknown_format_lists_the_known() -> None:
    """Formats have three short names."""
    with pytest.raises(UsageError, match="input_format='mp3' is not known; choose one of"):
        settings_request({"input_format": "mp3"}, "realtime")


def find(model_or_url: str | None, **options: Any) -> Target:
    """Work out a target, with a key unless another one is given."""
    given = {"call_id": None, "intent": None, "api_key": "k", "headers": {}, **options}
    return target(model_or_url, **given)


ADDRESSES: list[tuple[tuple[Any, Any, Any], str]] = [
    (("gpt-realtime", None, None), "wss://api.openai.com/v1/realtime?model=gpt-realtime"),
    ((None, "rtc_1", None), "wss://api.openai.com/v1/realtime?call_id=rtc_1"),
    ((None, None, "transcription"), "wss://api.openai.com/v1/realtime?intent=transcription"),
    (("ws://localhost:8000/v1", None, None), "ws://localhost:8000/v1"),
    (("wss://h/p?model=m", "rtc_1", None), "wss://h/p?model=m&call_id=rtc_1"),
    (
        ("gpt-realtime-translate", None, "translation"),
        "wss://api.openai.com/v1/realtime/translations?model=gpt-realtime-translate",
    ),
    (("ws://h/translations?a=b", None, "translation"), "ws://h/translations?a=b"),
    (("a model/é", None, None), "wss://api.openai.com/v1/realtime?model=a+model%2F%C3%A9"),
]


@pytest.mark.parametrize(("given", "expected"), ADDRESSES)
def test_addresses(given: tuple[Any, Any, Any], expected: str) -> None:
    """A model, a call or an intent goes to OpenAI; a whole address is taken as it is."""
    model_or_url, call_id, intent = given
    assert find(model_or_url, call_id=call_id, intent=intent).url == expected


def test_no_address_at_all() -> None:
    """Without anything that says where to, connecting fails with what could be given."""
    with pytest.raises(InvalidURL, match="needs a model such as 'gpt-realtime'"):
        find(None)


def test_the_protocol_follows_from_the_address() -> None:
    """The translation path has a protocol of its own; a transcription is of the same one."""
    translating = find("wss://h/v1/realtime/translations/?model=m")
    assert (translating.protocol.name, translating.kind) == ("translation", "translation")
    conversing = find("wss://h/v1/realtime?model=translations")
    assert (conversing.protocol.name, conversing.kind) == ("realtime", "realtime")
    transcribing = find(None, intent="transcription")
    assert (transcribing.protocol.name, transcribing.kind) == ("realtime", "transcription")
    with pytest.raises(UsageError, match=r"transcription=Transcription\(model='whisper-1'\)"):
        find("whisper-1", intent="transcription")


OPENAI = "wss://api.openai.com/v1/realtime"
KEYS: list[tuple[str | None, str, dict[str, str], str | None]] = [
    ("given", "ws://far.example/x", {}, "given"),
    (None, OPENAI, {}, "from the environment"),
    (None, "wss://eu.api.openai.com./v1/realtime", {}, "from the environment"),
    (None, "wss://API.OpenAI.com:443/v1/realtime", {}, "from the environment"),
    (None, "ws://127.0.0.1:8000/x", {}, None),
    (None, "ws://localhost:8000/x", {}, None),
    (None, "ws://[::1]:8000/x", {}, None),
    (None, "ws://far.example/x", {}, None),
    (None, "ws://127.evil.example/x", {}, None),
    (None, "wss://far.example/x", {}, None),
    (None, "wss://evilopenai.com/x", {}, None),
    (None, "wss://api.openai.com.evil.example/x", {}, None),
    (None, "wss://evil.example/api.openai.com", {}, None),
    (None, "wss://my.openai.azure.com/openai/v1/realtime", {}, None),
    (None, OPENAI, {"Authorization": "Bearer other"}, None),
    (None, "wss://azure.example/x?api-key=k", {}, None),
    (None, "wss://azure.example/x", {"API-Key": "k"}, None),
]


@pytest.mark.parametrize(("api_key", "url", "headers", "expected"), KEYS)
def test_keys(
    api_key: str | None,
    url: str,
    headers: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment's key goes to OpenAI alone, and not beside another; a given one anywhere."""
    monkeypatch.setenv("OPENAI_API_KEY", "from the environment")
    found = find(url, api_key=api_key, headers=headers).key
    assert (found.reveal() if found else None) == expected


def test_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI wants a key, and other servers may not."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match=r"pass api_key=\.\.\., or set OPENAI_API_KEY"):
        find(OPENAI, api_key=None)
    assert find("wss://elsewhere.example/x", api_key=None).key is None


def test_openai_is_not_spoken_to_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's key is not sent unencrypted, and the error says what to do."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    with pytest.raises(AuthenticationError, match="use wss://"):
        find(OPENAI.replace("wss", "ws"), api_key=None)


@pytest.mark.parametrize("api_key", ["", " ", b"sk-bytes", 5])
def test_a_key_that_is_none(api_key: Any) -> None:
    """An unset variable, or something else than text, is told at the call, and not shown."""
    with pytest.raises(UsageError, match="api_key is empty, or no text") as caught:
        find(OPENAI, api_key=api_key)
    assert "sk-" not in str(caught.value)


def test_an_unknown_intent_lists_the_known() -> None:
    """There are two intents."""
    with pytest.raises(UsageError, match=r"intent='nope' is not known.*'transcription', 'transl"):
        find("gpt-realtime", intent="nope")


def test_a_secret_does_not_show_itself() -> None:
    """The printed form of a key is not the key."""
    assert "sk-1" not in f"{Secret('sk-1')!r} {Secret('sk-1')}"
