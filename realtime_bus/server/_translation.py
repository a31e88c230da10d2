"""A translation session: continuous speech in, speech out; without a model, in the same language.

The rules
---------
* The engine works on 200 ms at a time: shorter input waits for more, longer is split. What it
  gives back is what it heard, in step with it.
* The words of a turn come when it is over and somebody wrote them down: those that were said,
  with transcription on, and those of the translation, which are the same. They are appended as
  they are: from the second turn on they begin with a space.
* ``session.close`` flushes: what waits is given back, an open turn ends, and when the last words
  have come there is ``session.closed`` and a close with 1000. Nothing is taken any more meanwhile.
* There are no turns, items, responses or tools for the client, and type and model are fixed.

Source: Realtime protocol, translation sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec

from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms
from realtime_bus.events import translation as tr
from realtime_bus.events._registry import TRANSLATION

from ._input import InputBuffer
from ._items import ItemAudio
from ._options import ServerOptions
from ._protocol import SessionProtocol
from ._turns import MAX_ASKED
from ._vad import SpeechDetector, SpeechStarted
from ._wire import ClientFrame, Close, EncodedAudio, InvalidRequest, Transcribe, random_id

ENGINE_BYTES = 9600
"""200 ms of PCM16 at 24 kHz."""

PIECES_PER_TICK = 16
"""As much is given back at once: a client that reads slowly has the rest held back."""


class TranslationProtocol(SessionProtocol):
    """A translation.

    Args:
        options: The server's knobs.
        model: From the URL.
        make_detector: Makes what tells speech from silence.
        now_s: The clock's time now.
        epoch_s: The same moment in Unix seconds.
        new_id: Makes ids of a kind.
    """

    speaks = TRANSLATION

    def __init__(
        self,
        options: ServerOptions,
        *,
        model: str | None,
        make_detector: Callable[[], SpeechDetector],
        now_s: float = 0.0,
        epoch_s: float = 0.0,
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        super().__init__(options, now_s=now_s, new_id=new_id)
        self._settings: dict[str, Any] = {
            "type": "translation",
            "id": self.session_id,
            "expires_at": int(epoch_s + options.session_life_s),
            "model": model,
            "audio": {
                "input": {"transcription": None, "noise_reduction": None},
                "output": {"language": "en"},
            },
        }
        self._buffer = InputBuffer(
            make_detector,
            audio_format=None,
            detection=ev.ServerVad(),
            max_bytes=options.max_buffer_bytes,
        )
        self._engine = bytearray()
        self._given_bytes = 0
        self._start_ms = 0
        self._turns = self._told = 0
        self._awaited: set[str] = set()
        self._closing = False
        self.greet()

    def greet(self, client: object = None) -> None:
        """Say ``session.created``, to a client that joins too."""
        self._out.send(tr.SessionCreated(session=self._echo()), to=client)

    def _echo(self) -> tr.TranslationSession:
        return msgspec.convert(self._settings, tr.TranslationSession)

    def _carry_out(self, event: ev.ClientEvent, frame: ClientFrame) -> None:  # noqa: ARG002  # others' need
        if self._closing:
            raise InvalidRequest("invalid_event", "The session is closing.", param="type")
        if isinstance(event, tr.SessionInputAudioBufferAppend):
            self._buffer.append(event.audio)
            self._engine += event.audio
        elif isinstance(event, tr.SessionUpdate):
            settings = deepcopy(self._settings)
            for direction, changes in event.to_dict()["session"].get("audio", {}).items():
                settings["audio"][direction] |= changes
            self._settings = settings
            self._out.send(tr.SessionUpdated(session=self._echo()))
        else:
            self._closing = True

    # Hearing

    @property
    def _behind(self) -> bool:
        return self._buffer.behind

    def _hear(self) -> int:
        before_ms = self._buffer.audio_ms
        for happened in self._buffer.hear():
            if isinstance(happened, SpeechStarted):
                self._start_ms = happened.audio_start_ms
            else:
                self._end_turn(self._buffer.take(self._start_ms, happened.audio_end_ms))
        return self._buffer.audio_ms - before_ms

    def _end_turn(self, audio: ItemAudio) -> None:
        item_id = self._out.new_id("turn")
        if len(self._awaited) < MAX_ASKED:
            self._awaited.add(item_id)
            encoded = EncodedAudio(bytes(audio.audio))
            self._out.order(Transcribe(item_id, self._turns, encoded))
        else:
            message = "Too much waits to be transcribed: the words of a turn are lost."
            self._out.send(InvalidRequest("rate_limit_exceeded", message).to_event(None))
        self._turns += 1

    def transcribed(self, item_id: str, transcript: str | None) -> None:
        """Take the words of a turn; None if it could not be written down."""
        self._awaited.discard(item_id)
        if not transcript or self.closed:
            return
        words = f" {transcript}" if self._told else transcript
        self._told += 1
        at_ms = self._buffer.audio_ms
        if self._settings["audio"]["input"]["transcription"] is not None:
            self._out.send(tr.SessionInputTranscriptDelta(delta=words, elapsed_ms=at_ms))
        self._out.send(tr.SessionOutputTranscriptDelta(delta=words, elapsed_ms=at_ms))

    # Speaking

    @property
    def _ready(self) -> bool:
        """Whether the engine has something to give back now."""
        return len(self._engine) >= ENGINE_BYTES or (self._closing and bool(self._engine))

    def _deadlines(self) -> list[float]:
        due = self._ready or (self._closing and not self._awaited)
        return [float("-inf")] if due else []

    def _advance(self) -> None:
        for _ in range(PIECES_PER_TICK):
            if not self._ready:
                break
            piece = bytes(self._engine[:ENGINE_BYTES])
            del self._engine[:ENGINE_BYTES]
            at_ms = bytes_to_ms(self._given_bytes)
            self._given_bytes += len(piece)
            self._out.send(tr.SessionOutputAudioDelta(delta=piece, elapsed_ms=at_ms))
        if self._closing and not self._behind and not self._ready:
            if self._buffer.speaking:
                end_ms = self._buffer.audio_ms
                self._end_turn(self._buffer.take(self._start_ms, end_ms))
                self._buffer.clear()
            if not self._awaited:
                self._out.send(tr.SessionClosed())
                self._close(Close(1000, ""))
