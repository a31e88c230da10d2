"""Each rule of the protocol checker, on sequences of events: what breaks it and what does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from realtime_bus import ConversationState
from realtime_bus import events as ev
from realtime_bus_plugins._rules import RULES, Observed, broken_rules

PCM_100_MS = bytes(4800)
PLACE: dict[str, Any] = {"response_id": "r", "item_id": "a", "output_index": 0, "content_index": 0}


def created(**fields: Any) -> ev.SessionCreated:
    """Return session.created of a conversation."""
    audio = ev.AudioConfig(
        input=ev.AudioInputConfig(format=ev.AudioPCM(), turn_detection=ev.ServerVad()),
        output=ev.AudioOutputConfig(format=ev.AudioPCM(), voice="marin"),
    )
    settings = {"id": "s", "model": "m", "audio": audio, **fields}
    return ev.SessionCreated(session=ev.RealtimeSession(**settings))


def update(**fields: Any) -> ev.SessionUpdate:
    """Return session.update."""
    return ev.SessionUpdate(session=ev.RealtimeSessionRequest(**fields))


def source(**fields: Any) -> ev.SessionUpdate:
    """Return session.update of the input audio."""
    return update(audio=ev.AudioConfigRequest(input=ev.AudioInputConfigRequest(**fields)))


def voice(name: str) -> ev.SessionUpdate:
    """Return session.update of the voice."""
    return update(audio=ev.AudioConfigRequest(output=ev.AudioOutputConfigRequest(voice=name)))


def append(length: int = 4800) -> ev.InputAudioBufferAppend:
    """Return an append of so many bytes."""
    return ev.InputAudioBufferAppend(audio=bytes(length))


def create(item: Any, after: str | None = None, **fields: Any) -> ev.ConversationItemCreate:
    """Return conversation.item.create."""
    return ev.ConversationItemCreate(item=item, previous_item_id=after, **fields)


def user(item_id: str | None = None, *parts: Any) -> ev.MessageItem:
    """Return a user's message."""
    return ev.MessageItem(id=item_id, role="user", content=list(parts))


def assistant(*parts: Any, item_id: str | None = "a") -> ev.MessageItem:
    """Return an assistant's message."""
    return ev.MessageItem(id=item_id, role="assistant", content=list(parts))


def added(item: Any) -> ev.ConversationItemAdded:
    """Return conversation.item.added."""
    return ev.ConversationItemAdded(item=item)


def response(response_id: str = "r", *, conversation_id: str | None = "conv", **fields: Any) -> Any:
    """Return response.created."""
    found = ev.Response(id=response_id, conversation_id=conversation_id, **fields)
    return ev.ResponseCreated(response=found)


def done(response_id: str = "r") -> ev.ResponseDone:
    """Return response.done."""
    return ev.ResponseDone(response=ev.Response(id=response_id, status="completed"))


def audio(length: int = 4800, **place: Any) -> ev.ResponseOutputAudioDelta:
    """Return output audio."""
    return ev.ResponseOutputAudioDelta(**{**PLACE, **place}, delta=bytes(length))


def truncate(ms: int = 50, item_id: str = "a", index: int = 0) -> ev.ConversationItemTruncate:
    """Return conversation.item.truncate."""
    return ev.ConversationItemTruncate(item_id=item_id, content_index=index, audio_end_ms=ms)


def delete(item_id: str = "a", **fields: Any) -> ev.ConversationItemDelete:
    """Return conversation.item.delete."""
    return ev.ConversationItemDelete(item_id=item_id, **fields)


def output(call_id: str = "c", **fields: Any) -> ev.ConversationItemCreate:
    """Return the output of a call."""
    return create(
        ev.FunctionCallOutputItem(call_id=call_id, output="", **fields.pop("item", {})), **fields
    )


def refused(event_id: str | None, message: str = "no") -> ev.Error:
    """Return an error about one of our events."""
    error = ev.ErrorDetails(type="invalid_request_error", message=message, event_id=event_id)
    return ev.Error(error=error)


OUT_OF_BAND = ev.ResponseCreate(response=ev.ResponseCreateParams(conversation="none"))
RESPOND = ev.ResponseCreate()
CALL = ev.FunctionCallItem(id="f", name="time", arguments="{}", call_id="c")
SPEECH: list[ev.Event] = [response(), added(assistant()), audio()]
TRANSCRIPTION = ev.SessionCreated(session=ev.TranscriptionSession(id="s"))
G711 = ev.AudioConfigRequest(input=ev.AudioInputConfigRequest(format=ev.AudioPCMU()))
WHISPER = ev.Transcription(model="gpt-realtime-whisper")
ODD_VAD = ev.UnknownObject({"type": "semantic_vad", "idle_timeout_ms": 6000})


def confirmed(audio_format: ev.AudioFormat) -> ev.SessionUpdated:
    """Return session.updated with an input format."""
    config = ev.AudioConfig(input=ev.AudioInputConfig(format=audio_format))
    return ev.SessionUpdated(session=ev.RealtimeSession(audio=config))


class Session:
    """Feeds the conversation and what is observed, in a session's order."""

    def __init__(self) -> None:
        self._free = 0
        # as the arbiter knows
        self.observed = Observed(ConversationState(lambda _: True if self._free else None))

    def happen(self, event: ev.Event) -> None:
        """Send or receive an event."""
        if isinstance(event, ev.ClientEvent):
            self._free += event == OUT_OF_BAND
            self.observed.sent(event)
            return
        assert isinstance(event, ev.ServerEvent)
        conversation = self.observed.conversation
        if isinstance(event, ev.Error) and "resp_" in str(event.error.message):
            conversation.presume_active("resp_1")
        elif type(event) in ConversationState.SEEN:
            conversation.see(event)
        self.observed.see(event)


def broken(*before: ev.Event, event: ev.ClientEvent, fresh: bool = False) -> list[str]:
    """Return the rules that an event breaks after others were sent and received."""
    session = Session()
    for happened in ([] if fresh else [created()]) + list(before):
        session.happen(happened)
    return [each.rule.id for each in broken_rules(RULES, event, session.observed)]


def voice_of(name: str) -> ev.ResponseCreate:
    """Return a response.create with a voice of its own."""
    asked = ev.ResponseAudioRequest(output=ev.ResponseAudioOutputRequest(voice=name))
    return ev.ResponseCreate(response=ev.ResponseCreateParams(audio=asked))


BREAKING: list[tuple[str, list[ev.Event], ev.ClientEvent]] = [
    ("event-id-once", [append(), delete(event_id="x")], create(user(), event_id="x")),
    ("event-id-length", [], create(user(), event_id="x" * 513)),
    ("session-type-fixed", [], ev.SessionUpdate(session=ev.TranscriptionSessionRequest())),
    ("model-fixed", [], update(model="other")),
    ("voice-fixed-once-heard", [*SPEECH], voice("cedar")),
    ("voice-fixed-once-heard", [*SPEECH, done()], voice_of("cedar")),
    ("tracing-fixed-once-on", [created(tracing="auto")], update(tracing=None)),
    ("idle-timeout-with-server-vad", [], source(turn_detection=ODD_VAD)),
    ("streaming-transcriber-without-vad", [], source(transcription=WHISPER)),
    ("format-confirmed-before-audio", [update(audio=G711)], append()),
    ("whole-samples", [], append(4801)),
    ("commit-100-ms", [], ev.InputAudioBufferCommit()),
    ("commit-100-ms", [append(4798)], ev.InputAudioBufferCommit()),
    ("commit-100-ms", [append(), ev.InputAudioBufferClear()], ev.InputAudioBufferCommit()),
    ("commit-100-ms", [append(), ev.InputAudioBufferCommit()], ev.InputAudioBufferCommit()),
    (
        "commit-100-ms",
        [append(48_000), ev.InputAudioBufferSpeechStopped(audio_end_ms=950, item_id="u")],
        ev.InputAudioBufferCommit(),
    ),
    ("output-buffer-in-calls-only", [], ev.OutputAudioBufferClear()),
    (
        "item-type-for-clients",
        [],
        create(ev.McpCallItem(id="m", server_label="l", name="n", arguments="{}")),
    ),
    ("no-assistant-audio", [], create(assistant(ev.OutputAudio(transcript="Hi")))),
    ("parts-fit-role", [], create(user(None, ev.OutputText(text="Hi")))),
    (
        "parts-fit-role",
        [],
        create(ev.MessageItem(role="system", content=[ev.InputAudio(audio=PCM_100_MS)])),
    ),
    ("parts-fit-role", [], create(assistant(ev.InputText(text="Hi")))),
    ("item-id-once", [create(user("u"))], create(user("u"))),
    ("item-id-once", [added(user("u"))], create(user("u"))),
    ("item-id-once", [], create(user("root"))),
    ("previous-item-exists", [], create(user(), "nowhere")),
    ("previous-item-exists", [added(user("u")), delete("u")], create(user(), "u")),
    ("output-for-known-call", [], output()),
    ("output-for-known-call", [added(CALL), delete("f")], output()),
    ("call-answered-once", [added(CALL), output()], output()),
    (
        "approval-for-known-request",
        [],
        create(ev.McpApprovalResponseItem(id="y", approval_request_id="x", approve=True)),
    ),
    ("delete-known-item", [], delete()),
    ("delete-known-item", [added(user("a")), delete()], delete()),
    ("retrieve-known-item", [], ev.ConversationItemRetrieve(item_id="a")),
    ("truncate-known-item", [], truncate()),
    ("truncate-known-item", [*SPEECH, delete()], truncate()),
    (
        "truncate-known-item",
        [*SPEECH, ev.ConversationItemDeleted(item_id="a")],
        truncate(),
    ),
    ("truncate-assistant-audio-only", [added(user("a"))], truncate()),
    ("truncate-assistant-audio-only", [added(assistant(ev.OutputText(text="Hi")))], truncate()),
    ("truncate-more-than-zero", [*SPEECH], truncate(0)),
    ("truncate-within-audio", [*SPEECH], truncate(101)),
    ("truncate-once", [*SPEECH, truncate()], truncate(20)),
    (
        "truncate-once",
        [
            *SPEECH,
            ev.ConversationItemTruncated(item_id="a", content_index=0, audio_end_ms=50),
        ],
        truncate(20),
    ),
    ("one-active-response", [response()], RESPOND),
    ("one-active-response", [RESPOND], RESPOND),
    ("one-active-response", [refused(None, "in progress: resp_1. Wait")], RESPOND),
    ("cancel-something", [], ev.ResponseCancel()),
    ("cancel-something", [RESPOND, response(), done()], ev.ResponseCancel()),
    (
        "cancel-out-of-band-by-id",
        [OUT_OF_BAND, response(conversation_id=None)],
        ev.ResponseCancel(),
    ),
    ("cancel-active-response", [response(), done()], ev.ResponseCancel(response_id="r")),
    ("cancel-active-response", [], ev.ResponseCancel(response_id="r")),
]


@pytest.mark.parametrize(("rule", "before", "event"), BREAKING)
def test_an_event_that_breaks_a_rule(
    rule: str, before: list[ev.Event], event: ev.ClientEvent
) -> None:
    """It breaks this rule and no other one."""
    assert broken(*before, event=event) == [rule]


@pytest.mark.parametrize("cls", ev.REALTIME.client.values())
def test_nothing_is_sent_before_the_server_has_spoken(cls: Any) -> None:
    """Whatever it is, it has to wait for session.created."""
    events: dict[Any, ev.ClientEvent] = {
        ev.SessionUpdate: update(),
        ev.ConversationItemCreate: create(user()),
        ev.InputAudioBufferAppend: append(),
        ev.ConversationItemTruncate: truncate(),
        ev.ConversationItemDelete: delete(),
        ev.ConversationItemRetrieve: ev.ConversationItemRetrieve(item_id="a"),
    }
    assert "wait-for-session-created" in broken(event=events.get(cls) or cls(), fresh=True)


@pytest.mark.parametrize("event", [RESPOND, ev.ResponseCancel()])
def test_transcription_sessions_have_no_responses(event: ev.ClientEvent) -> None:
    """Neither can be started nor cancelled."""
    assert "no-responses-in-transcription" in broken(TRANSCRIPTION, event=event, fresh=True)


def test_every_rule_is_tested_here_and_reads_as_a_sentence() -> None:
    """The table above breaks each rule; ids are unique."""
    tested = {rule for rule, _, _ in BREAKING}
    tested |= {"wait-for-session-created", "no-responses-in-transcription"}
    assert tested == {rule.id for rule in RULES}
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.text.endswith(".") and rule.text[0] != " " for rule in RULES)


KEEPING: list[tuple[str, list[ev.Event], ev.ClientEvent]] = [
    (
        "an event id that was refused",
        [create(user(), event_id="x"), refused("x")],
        create(user(), event_id="x"),
    ),
    ("the same model", [], update(model="m")),
    ("the same voice", [*SPEECH], voice("marin")),
    ("another voice in time", [response(), added(assistant())], voice("cedar")),
    ("the same tracing", [created(tracing="auto")], update(tracing="auto")),
    ("something else while tracing", [created(tracing="auto")], update(instructions="Hi")),
    ("tracing for the first time", [], update(tracing="auto")),
    ("an idle timeout", [], source(turn_detection=ev.ServerVad(idle_timeout_ms=6000))),
    ("a transcriber without VAD", [], source(transcription=WHISPER, turn_detection=None)),
    ("no transcriber", [], source(transcription=None)),
    ("a confirmed format", [update(audio=G711), confirmed(ev.AudioPCMU())], append(801)),
    (
        "a format that was refused",
        [
            ev.SessionUpdate(session=ev.RealtimeSessionRequest(audio=G711), event_id="x"),
            refused("x"),
        ],
        append(),
    ),
    ("an update without format", [update(instructions="Hi")], append()),
    ("100 ms", [append(2400), append(2400)], ev.InputAudioBufferCommit()),
    (
        "what came after a turn",
        [append(48_000), ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="u")],
        ev.InputAudioBufferCommit(),
    ),
    ("a call", [ev.OutputAudioBufferStarted(response_id="r")], ev.OutputAudioBufferClear()),
    ("assistant text", [], create(assistant(ev.OutputText(text="Hi")))),
    (
        "user parts",
        [],
        create(user(None, ev.InputText(text=""), ev.InputAudio(), ev.InputImage())),
    ),
    ("an item unknown to us", [], create(ev.UnknownObject({"type": "new", "id": "n"}))),
    ("an id after its deletion", [added(user("u")), delete("u")], create(user("u"))),
    (
        "an id that was refused",
        [create(user("u"), event_id="x"), refused("x")],
        create(user("u")),
    ),
    ("behind what was just created", [create(user("u"))], create(user(), "u")),
    (
        "behind what could not be deleted",
        [added(user("u")), delete("u", event_id="x"), refused("x")],
        create(user(), "u"),
    ),
    ("behind what was committed", [ev.InputAudioBufferCommitted(item_id="u")], create(user(), "u")),
    ("first", [], create(user(), "root")),
    ("the output of a call", [added(CALL)], output()),
    ("the output of one's own call", [create(CALL)], output()),
    ("an output that was refused", [added(CALL), output(event_id="x"), refused("x")], output()),
    (
        "an output after the first was deleted",
        [added(CALL), output(item={"id": "o"}), delete("o")],
        output(),
    ),
    (
        "an answer to a request",
        [added(ev.McpApprovalRequestItem(id="x", server_label="l", name="n", arguments="{}"))],
        create(ev.McpApprovalResponseItem(id="y", approval_request_id="x", approve=True)),
    ),
    ("an item of the conversation", [added(user("a"))], ev.ConversationItemRetrieve(item_id="a")),
    ("all that was received", [*SPEECH], truncate(100)),
    ("audio nobody counted", [added(assistant(ev.OutputAudio()))], truncate(5000)),
    (
        "speech that has just begun",
        [response(), added(assistant()), ev.ResponseContentPartAdded(**PLACE, part=ev.AudioPart())],
        truncate(10),
    ),
    (
        "a truncation after a refusal",
        [*SPEECH, msgspec.structs.replace(truncate(80), event_id="x"), refused("x")],
        truncate(),
    ),
    (
        "a response's own format",
        [
            response(audio=ev.ResponseAudio(output=ev.ResponseAudioOutput(format=ev.AudioPCMU()))),
            audio(800),
        ],
        truncate(100),
    ),
    ("a response after another", [RESPOND, response(), done()], RESPOND),
    ("an out-of-band one beside it", [response()], OUT_OF_BAND),
    ("one beside an out-of-band one", [OUT_OF_BAND, response(conversation_id=None)], RESPOND),
    ("another peer's", [response(conversation_id=None, metadata={"k": "v"})], RESPOND),
    (
        "again after a refusal",
        [ev.ResponseCreate(event_id="x"), refused("x")],
        ev.ResponseCreate(event_id="x"),
    ),
    (
        "again after a refusal that names nothing",
        [ev.ResponseCreate(event_id="x"), refused(None)],
        ev.ResponseCreate(event_id="x"),
    ),
    ("killed before it was seen", [RESPOND, done()], RESPOND),
    ("what is on its way", [RESPOND], ev.ResponseCancel()),
    (
        "out of band by id",
        [OUT_OF_BAND, response(conversation_id=None)],
        ev.ResponseCancel(response_id="r"),
    ),
    (
        "one that began unseen",
        [ev.ResponseOutputItemAdded(response_id="r", item=assistant())],
        ev.ResponseCancel(response_id="r"),
    ),
]


@pytest.mark.parametrize(("what", "before", "event"), KEEPING)
def test_an_event_that_keeps_the_rules(
    what: str, before: list[ev.Event], event: ev.ClientEvent
) -> None:
    """What a server would take is not complained about."""
    assert broken(*before, event=event) == [], what


def test_out_of_band_items_are_no_items() -> None:
    """What a response out of band says cannot be truncated, nor its calls answered."""
    asked = [OUT_OF_BAND, response(conversation_id=None)]
    item = ev.ResponseOutputItemAdded(response_id="r", item=CALL)
    assert broken(*asked, item, audio(), event=truncate()) == ["truncate-known-item"]
    assert broken(*asked, item, event=output()) == ["output-for-known-call"]


def test_memory_is_bounded() -> None:
    """Only the last ids are remembered."""
    observed = Observed(ConversationState())
    observed.see(created())
    for number in range(5000):
        observed.sent(ev.InputAudioBufferAppend(audio=b"", event_id=str(number)))
    assert len(observed.event_ids) == 4096
