"""Translation sessions: continuous, without turns for the client."""

from typing import Any

import msgspec
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.codec import Decoder
from realtime_bus.errors import UpgradeRefused
from realtime_bus.events import translation as tr
from realtime_bus.server import EnergyDetector, RealtimeServer, ScriptResponder, ScriptTurn
from realtime_bus.server import ServerOptions as Options
from realtime_bus.server._translation import TranslationProtocol
from realtime_bus.server._wire import Close, Transcribe, to_frame

from ._client import connected
from ._world import silence, speech

decode = Decoder(ev.TRANSLATION).decode


class Translation:
    """A translation session on a virtual clock."""

    def __init__(self, *words: str | None, **options: Any) -> None:
        self.now_s = 100.0
        self.events: list[Any] = []
        self.close: Close | None = None
        self.words = list(words)
        self.options = Options(**options)
        self.protocol = TranslationProtocol(
            self.options,
            model="gpt-realtime-translate",
            make_detector=EnergyDetector,
            now_s=self.now_s,
            epoch_s=1_700_000_000.0,
        )
        self.settle()

    def send(self, *events: Any) -> list[Any]:
        """Send events, and return what the server says to them."""
        before = len(self.events)
        for event in events:
            plain = event if isinstance(event, dict) else event.to_dict()
            self.protocol.receive(msgspec.json.encode(plain))
        self.settle()
        return self.events[before:]

    def settle(self) -> None:
        """Tick while there is something to do now."""
        while True:
            self.protocol.tick(self.now_s)
            said = self.protocol.drain()
            for outgoing in said:
                if isinstance(outgoing, Transcribe):
                    self.protocol.transcribed(outgoing.item_id, self.words.pop(0))
                elif isinstance(outgoing, Close):
                    self.close = outgoing
                else:
                    self.events.append(decode(to_frame(outgoing, self.options)))
            at = self.protocol.next_deadline()
            if not said and (at is None or at > self.now_s):
                return


def append(*audio: bytes) -> tr.SessionInputAudioBufferAppend:
    """Return the event that sends audio."""
    return tr.SessionInputAudioBufferAppend(audio=b"".join(audio))


def update(**audio: Any) -> dict[str, Any]:
    """Return the event that changes settings."""
    return {"type": "session.update", "session": {"audio": audio}}


def test_it_begins_with_its_settings() -> None:
    """The first event is the session, and an update answers with all of it."""
    world = Translation()
    (created,) = world.events
    assert isinstance(created, tr.SessionCreated)
    session = created.session
    assert (session.model, session.expires_at) == ("gpt-realtime-translate", 1_700_003_600)
    (updated,) = world.send(
        update(input={"transcription": {"model": "whisper-1"}}, output={"language": "de"})
    )
    assert isinstance(updated, tr.SessionUpdated)
    assert updated.session.audio.output.language == "de"
    assert updated.session.audio.input.transcription.model == "whisper-1"
    (updated,) = world.send(update(input={"transcription": None}))
    assert updated.session.audio.input.transcription is None
    assert updated.session.audio.output.language == "de"


def test_audio_comes_back_200_ms_at_a_time() -> None:
    """Shorter input waits, longer is split; the time is that of the audio."""
    world = Translation()
    assert world.send(append(silence(150))) == []
    answer = world.send(append(silence(500)))
    assert [(len(event.delta), event.elapsed_ms) for event in answer] == [
        (9600, 0),
        (9600, 200),
        (9600, 400),
    ]


def test_words_come_when_a_turn_is_over() -> None:
    """What was said only where it was asked for; pieces are appended as they are."""
    world = Translation("Guten Abend.", None, "Gut.", "Ja.")
    turn = append(silence(300), speech(500), silence(400))
    world.send(turn, turn, turn)
    world.send(update(input={"transcription": {"model": "whisper-1"}}))
    world.send(turn)
    words = [event for event in world.events if "transcript" in event.type]
    assert [(event.type, event.delta) for event in words] == [
        ("session.output_transcript.delta", "Guten Abend."),
        ("session.output_transcript.delta", " Gut."),
        ("session.input_transcript.delta", " Ja."),
        ("session.output_transcript.delta", " Ja."),
    ]


def test_closing_flushes() -> None:
    """What waits is given back, an open turn ends, and then there is nothing more."""
    world = Translation("Und")
    world.send(append(silence(300), speech(450)))
    late, *answer = world.send(tr.SessionClose(), append(silence(200)))
    assert isinstance(late, ev.Error)
    assert [event.type for event in answer] == [
        "session.output_audio.delta",
        "session.output_transcript.delta",
        "session.closed",
    ]
    assert len(answer[0].delta) == 48 * 150
    assert world.close == Close(1000, "")


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ({"type": "response.create"}, "invalid_value", "type"),
        ({"session": {}}, "invalid_event", "type"),
        (
            {"type": "session.update", "session": {"model": "x"}},
            "unknown_parameter",
            "session.model",
        ),
        ({"type": "session.input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "session.input_audio_buffer.append", "audio": "!"}, "invalid_value", "audio"),
    ],
)
def test_what_is_refused(frame: dict[str, Any], code: str, param: str) -> None:
    """Errors are those of the other protocol, with the client's own id."""
    (error,) = Translation().send(frame | {"event_id": "mine"})
    assert (error.error.code, error.error.param, error.error.event_id) == (code, param, "mine")


def test_a_frame_that_is_no_event() -> None:
    """It is refused like any other."""
    world = Translation()
    for frame in (b"nonsense", b"[]", b"[" * 10_000):
        world.protocol.receive(frame)
    world.settle()
    codes = [event.error.code for event in world.events[1:]]
    assert codes == ["invalid_json", "invalid_event", "invalid_event"]


@pytest.mark.anyio
async def test_a_client_translates_over_a_socket() -> None:
    """The bus speaks this protocol where the address says so, and the server answers in it."""
    script = ScriptResponder([ScriptTurn(user="Guten Abend.", assistant="-")])
    server = RealtimeServer(script, detector_factory=EnergyDetector)
    async with (
        server.serve() as bound,
        Bus().connect(bound.url_for("any", translation=True)) as session,
    ):
        told = session.wait_for("session.output_transcript.delta")
        heard = session.wait_for("session.output_audio.delta")
        await session.send(append(silence(300), speech(500), silence(400)))
        assert (await told).delta == "Guten Abend."
        assert len((await heard).delta) == 9600
        await session.send(tr.SessionClose())
        assert (await session.wait_closed()).code == 1000


@pytest.mark.anyio
async def test_a_translation_needs_its_path_and_a_model() -> None:
    """An intent does not make one, and without a model the session is refused."""
    server = RealtimeServer(detector_factory=EnergyDetector)
    async with server.serve() as bound:
        base = bound.url
        for address, code in [
            (f"{base}?intent=translation&model=m", "invalid_intent"),
            (f"{base}/translations", "missing_model"),
        ]:
            async with connected(address) as client:
                assert (await client.get(ev.Error)).error.code == code
        with pytest.raises(UpgradeRefused):
            await connected(f"{base}/translation?model=m").__aenter__()
