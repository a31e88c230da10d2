"""Lines of others: Plivo's own library, and Pipecat's serializers, which speak to four providers.

What the providers' pages say was read by us; here it was read by somebody else.
"""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest

from realtime_bus.audio import bytes_per_ms
from realtime_bus_plugins._telephony import Line
from realtime_bus_plugins.telephony import PLIVO, DtmfReceived

from ..plugins.telephony._ear import STARTS  # noqa: TID252  # tests are no package with a name of its own
from ..plugins.telephony._phone import CALL_SID, STREAM_SID  # noqa: TID252  # the same

pytest.importorskip("pipecat.serializers.telnyx", reason="needs the group interop")
pytest.importorskip("plivo_stream", reason="needs the group interop")

import plivo_stream as plivo
from pipecat.frames.frames import (
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
)
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer

pytestmark = pytest.mark.slow

KEY = {"event": "dtmf", "dtmf": {"digit": "5"}}
VONAGES_KEY = {"event": "websocket:dtmf", "digit": "5", "duration": 260}
VOICE = {
    "event": "media",
    "media": {"track": "inbound", "chunk": 1, "payload": base64.b64encode(b"\xff" * 160).decode()},
}
"""20 ms of a caller's audio, in what the three with JSON have in common."""


def begun(name: str) -> Line:
    """Return a line whose call has begun, as the provider's documentation shows it."""
    stream_format, start = STARTS[name]
    line = Line(stream_format)
    assert list(line.receive(json.dumps(start))) == []
    return line


def said(line: Line) -> list[Any]:
    """Return all that a line sends for 20 ms of silence and a flush, decoded."""
    assert line.playout is not None
    assert line.call is not None
    line.playout.play(bytes(20 * bytes_per_ms(line.call.output_format)), "item", 0, 20)
    messages: list[Any] = []
    while (message := line.playout.next_message()) is not None:
        messages.append(message if isinstance(message, bytes) else json.loads(message))
    line.playout.clear()
    return [*messages, json.loads(line.playout.next_message() or "")]


def serializer(name: str) -> Any:
    """Return Pipecat's hand for a provider."""
    if name == "Twilio":
        alone = TwilioFrameSerializer.InputParams(auto_hang_up=False)
        return TwilioFrameSerializer(STREAM_SID, params=alone)
    if name == "Telnyx":
        alone = TelnyxFrameSerializer.InputParams(auto_hang_up=False)
        return TelnyxFrameSerializer(STREAM_SID, "PCMA", "PCMA", params=alone)
    if name == "Plivo":
        alone = PlivoFrameSerializer.InputParams(auto_hang_up=False)
        return PlivoFrameSerializer(STREAM_SID, params=alone)
    return VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=24_000))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", STARTS)
async def test_pipecat_says_the_same(name: str) -> None:
    """To Twilio, Telnyx, Vonage and Plivo it writes what we write, and reads what we read."""
    line = begun(name)
    theirs = serializer(name)
    audio, _, clear = said(line)
    rate = 24_000 if isinstance(audio, bytes) else 8_000
    await theirs.setup(SimpleNamespace(audio_in_sample_rate=rate))
    assert clear == json.loads(await theirs.serialize(InterruptionFrame()))
    sent = await theirs.serialize(OutputAudioRawFrame(bytes(rate // 50 * 2), rate, 1))
    if isinstance(audio, bytes):
        assert (type(sent), len(sent)) == (bytes, len(audio))
    else:
        written = json.loads(sent)
        written.pop("streamId", None)  # Plivo's own library leaves it out, as its pages do
        assert len(base64.b64decode(written["media"].pop("payload"))) == 160
        assert len(base64.b64decode(audio["media"].pop("payload"))) == 160
        assert audio == written

    heard = audio if isinstance(audio, bytes) else json.dumps(VOICE)
    assert isinstance(await theirs.deserialize(heard), InputAudioRawFrame)
    assert [len(each) for each in line.receive(heard)] == [len(audio) if rate == 24_000 else 160]
    key = json.dumps(VONAGES_KEY if name == "Vonage" else KEY)
    assert isinstance(await theirs.deserialize(key), InputDTMFFrame)
    assert list(line.receive(key)) == [DtmfReceived(digit="5")]


def test_plivos_own_library_reads_and_writes_the_same() -> None:
    """Nothing that we send is foreign to its models, and what they describe is a call."""
    start = plivo.StartEvent(
        event="start",
        sequenceNumber=1,
        start={
            "callId": CALL_SID,
            "streamId": STREAM_SID,
            "accountId": "MA1",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
        },
        extra_headers='{"customer": "c1"}',
    )
    line = Line(PLIVO)
    assert list(line.receive(start.model_dump_json(by_alias=True))) == []
    assert line.call is not None
    assert (line.call.call_id, line.call.stream_id) == (CALL_SID, STREAM_SID)
    assert line.call.parameters == {"customer": "c1"}

    models = [plivo.PlayAudioEvent, plivo.CheckpointEvent, plivo.ClearAudioEvent]
    for model, message in zip(models, said(line), strict=True):
        assert model.model_validate(message).model_dump(by_alias=True) == message

    line = begun("Plivo")
    assert line.playout is not None
    line.playout.play(bytes(160), "item", 0, 20)
    mark = [json.loads(line.playout.next_message() or "") for _ in range(2)][1]
    played = plivo.PlayedStreamEvent(
        event="playedStream", sequenceNumber=2, streamId=STREAM_SID, name=mark["name"]
    )
    [heard] = line.receive(played.model_dump_json(by_alias=True))
    assert heard.positions == [("item", 0, 20)]
    voice = plivo.MediaEvent(
        event="media",
        sequenceNumber=3,
        streamId=STREAM_SID,
        media={"track": "inbound", "timestamp": "1", "chunk": 1, "payload": "//8="},
    )
    assert list(line.receive(voice.model_dump_json(by_alias=True))) == [b"\xff\xff"]
