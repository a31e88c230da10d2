"""The structs are what the protocol's reference file says, apart from a table of exceptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from realtime_bus import events as ev
from realtime_bus.events import translation as tr

REFERENCE: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "events.json").read_text("utf-8")
)
OBJECTS: dict[str, Any] = REFERENCE["objects"]

_REQUEST = "RealtimeSessionCreateRequestGA"
_ECHO = "RealtimeSessionCreateResponseGA"
_T_REQUEST = "RealtimeTranscriptionSessionCreateRequestGA"
_T_ECHO = "RealtimeTranscriptionSessionCreateResponseGA"
_TR_REQUEST = "RealtimeTranslationSessionUpdateRequest"
_TR_ECHO = "RealtimeTranslationSession"

# An object with several classes is one whose `type` says which of them it is.
CLASSES: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "RealtimeServerEventConversationCreated.conversation": (ev.Conversation,),
    "RealtimeConversationItemMessageSystem": (ev.MessageItem,),
    "RealtimeConversationItemMessageSystem.content[]": (ev.InputText,),
    "RealtimeConversationItemMessageUser": (ev.MessageItem,),
    "RealtimeConversationItemMessageUser.content[]": (ev.InputText, ev.InputAudio, ev.InputImage),
    "RealtimeConversationItemMessageAssistant": (ev.MessageItem,),
    "RealtimeConversationItemMessageAssistant.content[]": (ev.OutputText, ev.OutputAudio),
    "RealtimeConversationItemFunctionCall": (ev.FunctionCallItem,),
    "RealtimeConversationItemFunctionCallOutput": (ev.FunctionCallOutputItem,),
    "RealtimeMCPApprovalResponse": (ev.McpApprovalResponseItem,),
    "RealtimeMCPListTools": (ev.McpListToolsItem,),
    "MCPListToolsTool": (ev.McpListedTool,),
    "RealtimeMCPToolCall": (ev.McpCallItem,),
    "RealtimeMCPProtocolError": (ev.McpProtocolError,),
    "RealtimeMCPToolExecutionError": (ev.McpToolExecutionError,),
    "RealtimeMCPHTTPError": (ev.McpHttpError,),
    "RealtimeMCPApprovalRequest": (ev.McpApprovalRequestItem,),
    "ResponseItemReference": (ev.ItemReference,),
    "TranscriptionLanguage": (ev.TranscriptionLanguage,),
    "LogProbProperties": (ev.LogProb,),
    "TranscriptTextUsageTokens": (ev.TokenUsage,),
    "TranscriptTextUsageTokens.input_token_details": (ev.TranscriptionTokenDetails,),
    "TranscriptTextUsageDuration": (ev.DurationUsage,),
    "RealtimeServerEventConversationItemInputAudioTranscriptionFailed.error": (
        ev.TranscriptionError,
    ),
    "RealtimeServerEventError.error": (ev.ErrorDetails,),
    "RealtimeServerEventRateLimitsUpdated.rate_limits[]": (ev.RateLimit,),
    "RealtimeServerEventResponseContentPartAdded.part": (ev.AudioPart, ev.TextPart),
    "RealtimeServerEventResponseContentPartDone.part": (ev.AudioPart, ev.TextPart),
    "RealtimeResponse": (ev.Response,),
    "RealtimeResponse.status_details": (ev.StatusDetails,),
    "RealtimeResponse.status_details.error": (ev.StatusError,),
    "RealtimeResponse.audio": (ev.ResponseAudio,),
    "RealtimeResponse.audio.output": (ev.ResponseAudioOutput,),
    "RealtimeResponse.usage": (ev.Usage,),
    "RealtimeResponse.usage.input_token_details": (ev.InputTokenDetails,),
    "RealtimeResponse.usage.input_token_details.cached_tokens_details": (ev.CachedTokensDetails,),
    "RealtimeResponse.usage.output_token_details": (ev.OutputTokenDetails,),
    "RealtimeAudioFormats|audio/pcm": (ev.AudioPCM,),
    "RealtimeAudioFormats|audio/pcmu": (ev.AudioPCMU,),
    "RealtimeAudioFormats|audio/pcma": (ev.AudioPCMA,),
    "AudioTranscription": (ev.Transcription,),
    "AudioTranscriptionResponse": (ev.Transcription,),
    "RealtimeTurnDetection|server_vad": (ev.ServerVad,),
    "RealtimeTurnDetection|semantic_vad": (ev.SemanticVad,),
    "RealtimeFunctionTool": (ev.FunctionTool,),
    "MCPTool": (ev.McpTool,),
    "MCPToolFilter": (ev.McpToolFilter,),
    "MCPTool.require_approval|0": (ev.McpApprovalFilter,),
    "ToolChoiceFunction": (ev.ToolChoiceFunction,),
    "ToolChoiceMCP": (ev.ToolChoiceMcp,),
    "RealtimeReasoning": (ev.Reasoning,),
    "RealtimeTruncation|retention_ratio": (ev.RetentionRatio,),
    "RealtimeTruncation|retention_ratio.token_limits": (ev.TokenLimits,),
    "Prompt": (ev.Prompt,),
    "InputTextContent": (ev.PromptText,),
    "InputImageContent": (ev.PromptImage,),
    "InputFileContent": (ev.PromptFile,),
    "PromptCacheBreakpointConfig": (ev.PromptCacheBreakpoint,),
    "VoiceIdsOrCustomVoice|1": (ev.CustomVoice,),
    "RealtimeResponseCreateParams": (ev.ResponseCreateParams,),
    "RealtimeResponseCreateParams.audio": (ev.ResponseAudioRequest,),
    "RealtimeResponseCreateParams.audio.output": (ev.ResponseAudioOutputRequest,),
    _ECHO: (ev.RealtimeSession,),
    f"{_ECHO}.audio": (ev.AudioConfig,),
    f"{_ECHO}.audio.input": (ev.AudioInputConfig,),
    f"{_ECHO}.audio.input.noise_reduction": (ev.NoiseReduction,),
    f"{_ECHO}.audio.output": (ev.AudioOutputConfig,),
    f"{_ECHO}.tracing|1": (ev.TracingConfig,),
    _T_ECHO: (ev.TranscriptionSession,),
    f"{_T_ECHO}.audio": (ev.TranscriptionAudioConfig,),
    f"{_T_ECHO}.audio.input": (ev.AudioInputConfig,),
    f"{_T_ECHO}.audio.input.noise_reduction": (ev.NoiseReduction,),
    f"{_T_ECHO}.audio.input.turn_detection": (ev.ServerVad,),
    _REQUEST: (ev.RealtimeSessionRequest,),
    f"{_REQUEST}.audio": (ev.AudioConfigRequest,),
    f"{_REQUEST}.audio.input": (ev.AudioInputConfigRequest,),
    f"{_REQUEST}.audio.input.noise_reduction": (ev.NoiseReduction,),
    f"{_REQUEST}.audio.output": (ev.AudioOutputConfigRequest,),
    f"{_REQUEST}.tracing|1": (ev.TracingConfig,),
    _T_REQUEST: (ev.TranscriptionSessionRequest,),
    f"{_T_REQUEST}.audio": (ev.TranscriptionAudioConfigRequest,),
    f"{_T_REQUEST}.audio.input": (ev.AudioInputConfigRequest,),
    f"{_T_REQUEST}.audio.input.noise_reduction": (ev.NoiseReduction,),
    _TR_ECHO: (tr.TranslationSession,),
    f"{_TR_ECHO}.audio": (tr.TranslationAudio,),
    f"{_TR_ECHO}.audio.input": (tr.TranslationAudioInput,),
    f"{_TR_ECHO}.audio.input.transcription": (tr.TranslationTranscription,),
    f"{_TR_ECHO}.audio.input.noise_reduction": (tr.TranslationNoiseReduction,),
    f"{_TR_ECHO}.audio.output": (tr.TranslationAudioOutput,),
    _TR_REQUEST: (tr.TranslationSessionRequest,),
    f"{_TR_REQUEST}.audio": (tr.TranslationAudioRequest,),
    f"{_TR_REQUEST}.audio.input": (tr.TranslationAudioInputRequest,),
    f"{_TR_REQUEST}.audio.input.transcription": (tr.TranslationTranscription,),
    f"{_TR_REQUEST}.audio.input.noise_reduction": (tr.TranslationNoiseReduction,),
    f"{_TR_REQUEST}.audio.output": (tr.TranslationAudioOutputRequest,),
}

# Bodies of HTTP requests beside the protocol (client secrets, calls): never in an event.
HTTP_ONLY = ("ClientSecret", "CallCreate", "CallRefer", "CallReject", "TranslationSessionCreate")

_DIALECTS = "some servers leave it out"
_SESSION = "an echo is read whatever it lacks"
_BUILD = "without it the object is of no use, and nobody has left it out"

# "<reference object or event>.<field>" -> why we differ there. Each entry must be needed.
EXCEPTIONS: dict[str, str] = {
    "RealtimeConversationItemMessageAssistant.phase": "newer models send it",
    "RealtimeConversationItemMessageSystem.phase": "one struct for all three roles",
    "RealtimeConversationItemMessageUser.phase": "one struct for all three roles",
    "RealtimeConversationItemMessageAssistant.role": "one struct for all three roles",
    "RealtimeConversationItemMessageSystem.role": "one struct for all three roles",
    "RealtimeConversationItemMessageUser.role": "one struct for all three roles",
    "RealtimeConversationItemMessageAssistant.content": "both spellings of parts occur",
    "RealtimeConversationItemMessageSystem.content": "one struct for all three roles",
    "RealtimeConversationItemMessageUser.content": "one struct for all three roles",
    "RealtimeConversationItemMessageSystem.content[].text": _BUILD,
    "RealtimeConversationItemMessageUser.content[].text": _BUILD,
    "RealtimeConversationItemMessageAssistant.content[].text": _BUILD,
    "RealtimeFunctionTool.name": _BUILD,
    "RealtimeAudioFormats|audio/pcm.rate": "other providers have other rates",
    f"{_ECHO}.id": _SESSION,
    f"{_ECHO}.object": _SESSION,
    f"{_ECHO}.audio.output.voice": "the SDK knows custom voices here too",
    f"{_T_ECHO}.id": _SESSION,
    f"{_T_ECHO}.object": _SESSION,
    f"{_T_ECHO}.audio.input.turn_detection": "the SDK has the full union here",
    f"{_T_ECHO}.audio.input.turn_detection.create_response": "the SDK has the full union here",
    f"{_T_ECHO}.audio.input.turn_detection.interrupt_response": "the SDK has the full union here",
    f"{_T_ECHO}.audio.input.turn_detection.idle_timeout_ms": "the SDK has the full union here",
    f"{_T_ECHO}.audio.input.turn_detection.type": "the SDK has the full union here",
    f"{_TR_ECHO}.id": _SESSION,
    f"{_TR_ECHO}.expires_at": _SESSION,
    f"{_TR_ECHO}.model": _SESSION,
    f"{_TR_ECHO}.audio": _SESSION,
    "RealtimeResponse.audio.output.voice": "what was asked for may be a custom voice",
    "PromptCacheBreakpointConfig.mode": "there is only one value",
    "PromptCacheBreakpointConfig.ttl": "the SDK has it",
    "conversation.item.input_audio_transcription.completed.usage": "the beta lacks it",
    "response.function_call_arguments.done.name": "the beta lacks it",
    "response.content_part.added.part": "both spellings of parts occur",
    "response.content_part.done.part": "both spellings of parts occur",
    "rate_limits.updated.rate_limits": _DIALECTS,
    "input_audio_buffer.dtmf_event_received.event_id": "our base class has it; it stays empty",
}

# Server fields that read as a default, in any event: dialects leave them out.
LENIENT = {"event_id", "output_index", "content_index"}


# What a type looks like: a set of classes, scalar names, enums and lists of such sets


def expected_shape(described: dict[str, Any]) -> frozenset[Any]:
    """Return the shape that the reference file describes, null left aside."""
    kind: str = described["type"]
    if kind.startswith("$ref:"):
        return _named_shape(kind.removeprefix("$ref:"))
    if kind == "union":
        return frozenset().union(*(expected_shape(variant) for variant in described["variants"]))
    nested = {"array": "items", "object": "values"}.get(kind)
    if nested in described:
        return frozenset({(kind, expected_shape(described[nested]))})
    if "enum" in described:
        return frozenset({("enum", frozenset(described["enum"]))})
    return frozenset({kind})


def _named_shape(name: str) -> frozenset[Any]:
    target = OBJECTS[name]
    return expected_shape(target) if target["kind"] == "alias" else frozenset(CLASSES[name])


_SCALARS: dict[type, str] = {
    inspect.StrType: "string",
    inspect.RawType: "string",  # audio
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
}


def actual_shape(node: Any) -> frozenset[Any]:
    """Return the shape that a struct declares, null and UNSET left aside."""
    shape = _SHAPES.get(type(node))
    if shape is not None:
        return shape(node)
    name = _SCALARS.get(type(node))
    return frozenset({name}) if name else frozenset()


def _map_shape(node: inspect.DictType) -> frozenset[Any]:
    if isinstance(node.value_type, inspect.AnyType):
        return frozenset({"object"})
    return frozenset({("object", actual_shape(node.value_type))})


_SHAPES: dict[type, Callable[[Any], frozenset[Any]]] = {
    inspect.UnionType: lambda node: frozenset().union(*map(actual_shape, node.types)),
    inspect.Metadata: lambda node: actual_shape(node.type),
    inspect.StructType: lambda node: frozenset({node.cls}),
    inspect.ListType: lambda node: frozenset({("array", actual_shape(node.item_type))}),
    inspect.DictType: _map_shape,
    inspect.LiteralType: lambda node: frozenset({("enum", frozenset(node.values))}),
}


def takes_null(field: inspect.Field) -> bool:
    """Whether null is read without complaint."""
    members = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    return any(isinstance(member, inspect.NoneType) for member in members)


def fields_of(cls: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    """Return the fields of a struct by wire name."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: field for field in info.fields}


def compare(owner: str, described: dict[str, Any], cls: type[msgspec.Struct]) -> set[str]:
    """Return the places where a class differs from its description."""
    found = fields_of(cls)
    tagged = "type" not in found
    wanted = {name: field for name, field in described.items() if not tagged or name != "type"}
    differing = {f"{owner}.{name}" for name in wanted.keys() ^ found.keys()}
    for name in wanted.keys() & found.keys():
        if _differs(name, wanted[name], found[name], cls):
            differing.add(f"{owner}.{name}")
    tag = described.get("type")
    if tagged and tag is not None and cls.__struct_config__.tag not in tag.get("enum", ()):
        differing.add(f"{owner}.type")
    return differing


def _differs(
    name: str, wanted: dict[str, Any], found: inspect.Field, cls: type[msgspec.Struct]
) -> bool:
    lenient = name in LENIENT and issubclass(cls, ev.ServerEvent)
    if wanted["required"] != found.required and not (lenient and not found.required):
        return True
    if wanted.get("nullable") and not takes_null(found):
        return True
    return expected_shape(wanted) != actual_shape(found.type)


def event_classes(direction: str) -> dict[str, Any]:
    """Return a direction's events by wire name."""
    protocol = ev.TRANSLATION if direction.startswith("translation_") else ev.REALTIME
    return dict(protocol.client if direction.endswith("client") else protocol.server)


def object_differences(name: str) -> set[str]:
    """Return where an object of the reference and its classes differ."""
    classes = CLASSES[name]
    fields = OBJECTS[name]["fields"]
    if len(classes) == 1:
        return compare(name, fields, classes[0])
    found: set[str] = set()
    for cls in classes:  # the description mixes the fields of all variants
        own = {key: field for key, field in fields.items() if key in {*fields_of(cls), "type"}}
        found |= compare(name, own, cls)
    everything = {key for cls in classes for key in fields_of(cls)}
    return found | {f"{name}.{key}" for key in fields.keys() - everything - {"type"}}


def event_differences(event: dict[str, Any]) -> set[str]:
    """Return where an event of the reference and its class differ."""
    return compare(event["type"], event["fields"], event_classes(event["direction"])[event["type"]])


STRUCTURED = [name for name, described in OBJECTS.items() if described["kind"] == "object"]


@pytest.mark.parametrize(
    "event", REFERENCE["events"], ids=lambda event: f"{event['direction']}:{event['type']}"
)
def test_event_has_the_fields_of_the_reference(event: dict[str, Any]) -> None:
    """Each event has exactly the fields, types and required marks of the reference."""
    assert event_differences(event) - EXCEPTIONS.keys() == set()


@pytest.mark.parametrize(
    "name", [name for name in STRUCTURED if not any(part in name for part in HTTP_ONLY)]
)
def test_object_has_the_fields_of_the_reference(name: str) -> None:
    """Each nested object has exactly the fields, types and required marks of the reference."""
    assert object_differences(name) - EXCEPTIONS.keys() == set()


def test_every_exception_is_needed() -> None:
    """No exception outlives the difference that it excuses."""
    found = set().union(*map(object_differences, CLASSES))
    found = found.union(*map(event_differences, REFERENCE["events"]))
    assert EXCEPTIONS.keys() - found == set()


@pytest.mark.parametrize(
    ("direction", "base", "count"),
    [
        ("server", ev.ServerEvent, 46),
        ("client", ev.ClientEvent, 11),
        ("translation_server", ev.ServerEvent, 7),
        ("translation_client", ev.ClientEvent, 3),
    ],
)
def test_a_protocol_holds_exactly_the_events_of_a_direction(
    direction: str, base: type[ev.Event], count: int
) -> None:
    """The tables hold each event of the reference, under its wire name, with the right base."""
    wanted = {e["type"] for e in REFERENCE["events"] if e["direction"] == direction}
    table = event_classes(direction)
    assert table.keys() == wanted
    assert len(table) == count
    assert all(issubclass(cls, base) for cls in table.values())


@pytest.mark.parametrize("direction", ["server", "client", "translation_server"])
def test_class_names_follow_from_wire_names(direction: str) -> None:
    """Every word of the wire name is capitalised, and the dots and underscores go."""
    for wire_name, cls in event_classes(direction).items():
        assert cls.__name__ == wire_name.replace(".", "_").title().replace("_", "")


def test_bus_events_are_in_a_table_of_their_own() -> None:
    """The bus's own events are named after the bus and are no protocol's."""
    assert all(name.startswith("bus.") for name in ev.BUS_EVENTS)
    assert all(issubclass(cls, ev.BusEvent) for cls in ev.BUS_EVENTS.values())


def test_beta_names_lead_to_ga_events() -> None:
    """Each renamed beta event has a GA event, and the reference maps it the same way."""
    renamed: dict[str, str] = REFERENCE["legacy_names"]["events"]
    assert ev.REALTIME.old_names.items() <= renamed.items()
    assert set(ev.REALTIME.old_names.values()) <= ev.REALTIME.server.keys()
    assert not ev.REALTIME.old_names.keys() & ev.REALTIME.server.keys()


def test_every_public_name_is_documented() -> None:
    """Each public class says what it is, in words of its own."""
    public = [getattr(module, name) for module in (ev, tr) for name in module.__all__]
    classes = [found for found in public if isinstance(found, type)]
    inherited = {base.__doc__ for base in (msgspec.Struct, ev.Event)}
    undocumented = [cls.__name__ for cls in classes if cls.__doc__ in {None, *inherited}]
    assert set(undocumented) <= {"Raw", "Event"}


@pytest.mark.parametrize("module", [ev, tr], ids=["realtime", "translation"])
def test_every_field_is_documented(module: Any) -> None:
    """Each field that a public struct adds to its base has its line in the docstring."""
    public = [getattr(module, name) for name in module.__all__]
    structs = [c for c in public if isinstance(c, type) and issubclass(c, msgspec.Struct)]
    silent = [
        f"{cls.__name__}.{name}"
        for cls in structs
        for name in cls.__annotations__
        if f" {name}: " not in (cls.__doc__ or "")
        and cls not in {ev.ServerEvent, ev.ClientEvent}  # documented at the field
    ]
    assert silent == []


_UPDATE = "session.update"
_REALTIME = {"type": "realtime"}


def update(**session: Any) -> dict[str, Any]:
    """Build a session.update."""
    return {"type": _UPDATE, "session": {**_REALTIME, **session}}


def vad(**settings: Any) -> dict[str, Any]:
    """Build a session.update of server_vad."""
    return update(audio={"input": {"turn_detection": {"type": "server_vad", **settings}}})


def truncate(**fields: Any) -> dict[str, Any]:
    """Build a conversation.item.truncate."""
    return {
        "type": "conversation.item.truncate",
        "item_id": "i",
        "content_index": 0,
        "audio_end_ms": 0,
        **fields,
    }


def create(**params: Any) -> dict[str, Any]:
    """Build a response.create."""
    return {"type": "response.create", "response": params}


def noise(strength: float) -> dict[str, Any]:
    """Build a session.update of noise reduction."""
    return update(audio={"input": {"noise_reduction": {"strength": strength}}})


def ratio(value: float) -> dict[str, Any]:
    """Build a session.update of truncation."""
    return update(truncation={"type": "retention_ratio", "retention_ratio": value})


LIMITS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("event_id", update() | {"event_id": "x" * 512}, update() | {"event_id": "x" * 513}),
    ("max_output_tokens", update(max_output_tokens=1), update(max_output_tokens=0)),
    ("max_output_tokens", update(max_output_tokens=4096), update(max_output_tokens=4097)),
    ("max_output_tokens", create(max_output_tokens="inf"), create(max_output_tokens="all")),
    (
        "speed",
        update(audio={"output": {"speed": 0.25}}),
        update(audio={"output": {"speed": 0.24}}),
    ),
    ("speed", update(audio={"output": {"speed": 1.5}}), update(audio={"output": {"speed": 1.6}})),
    ("idle_timeout_ms", vad(idle_timeout_ms=5000), vad(idle_timeout_ms=4999)),
    ("idle_timeout_ms", vad(idle_timeout_ms=30000), vad(idle_timeout_ms=30001)),
    ("threshold", vad(threshold=0), vad(threshold=-0.1)),
    ("threshold", vad(threshold=1), vad(threshold=1.1)),
    ("retention_ratio", ratio(1), ratio(1.1)),
    ("strength", noise(1), noise(1.1)),
    ("metadata", create(metadata={"k" * 64: "v" * 512}), create(metadata={"k" * 65: ""})),
    ("metadata", create(metadata={}), create(metadata={"k": "v" * 513})),
    (
        "metadata",
        create(metadata={str(n): "" for n in range(16)}),
        create(metadata={str(n): "" for n in range(17)}),
    ),
    (
        "output_modalities",
        create(output_modalities=["text"]),
        create(output_modalities=["text", "audio"]),
    ),
    ("output_modalities", update(output_modalities=["audio"]), update(output_modalities=[])),
    ("audio_end_ms", truncate(audio_end_ms=0), truncate(audio_end_ms=-1)),
    ("content_index", truncate(content_index=0), truncate(content_index=-1)),
]


@pytest.mark.parametrize(("name", "good", "bad"), LIMITS)
def test_limits_hold_for_what_a_client_sends(
    name: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    """The last value inside a limit is taken, the first one outside is refused."""
    cls = ev.REALTIME.client[good["type"]]
    assert cls.from_dict(good).to_dict() == good
    with pytest.raises(msgspec.ValidationError):
        cls.from_dict(bad)


def test_absent_and_null_differ_in_a_request() -> None:
    """A field that was not given is not sent, and None is sent as null."""
    request = ev.AudioInputConfigRequest(turn_detection=None)
    event = ev.SessionUpdate(
        session=ev.RealtimeSessionRequest(audio=ev.AudioConfigRequest(input=request))
    )
    assert event.to_dict() == update(audio={"input": {"turn_detection": None}})


def test_an_echo_sends_null_for_what_is_not_set() -> None:
    """A server's optional fields are null rather than absent, as in recorded sessions."""
    event = ev.ResponseCreated(response=ev.Response(id="r"))
    assert event.to_dict()["response"]["usage"] is None


def test_a_truncation_always_carries_its_indexes() -> None:
    """Zero is sent, although client events leave defaults out."""
    event = ev.ConversationItemTruncate(item_id="i", content_index=0, audio_end_ms=0)
    assert event.to_dict() == truncate()


def test_type_is_the_wire_name_of_events_and_objects() -> None:
    """The discriminator can be read without knowing the class."""
    assert ev.ResponseDone(response=ev.Response()).type == "response.done"
    assert ev.AudioPCMU().type == "audio/pcmu"
    assert ev.SemanticVad().type == "semantic_vad"
