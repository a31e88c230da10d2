"""How a session's output audio gets into a sink."""

from __future__ import annotations

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink
from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU

__all__ = ["feed_sink", "input_format", "output_format"]


def output_format(config: object) -> AudioFormat:
    """Return the output format in a session's echo, PCM16 where it does not say one we know."""
    return _format(config, "output")


def input_format(config: object) -> AudioFormat:
    """Return the input format in a session's echo, PCM16 where it does not say one we know."""
    return _format(config, "input")


def _format(config: object, direction: str) -> AudioFormat:
    # getattr: an echo is decoded leniently, so any part of it may be missing or raw data
    side = getattr(getattr(config, "audio", None), direction, None)
    found = getattr(side, "format", None)
    return found if isinstance(found, AudioPCM | AudioPCMU | AudioPCMA) else AudioPCM()


def feed_sink(session: Session, sink: AudioSink) -> None:
    """Write the session's output audio to the sink, as it arrives.

    The handlers are plain functions: they run in the reader, after every interceptor. So audio
    that a plugin drops (`Interruption` drops what comes late) never reaches the sink.
    """

    def configured(event: ev.SessionCreated | ev.SessionUpdated) -> None:
        sink.start(output_format(event.session))

    def arrived(event: ev.ResponseOutputAudioDelta) -> None:
        sink.write(event.delta, item_id=event.item_id, content_index=event.content_index)

    session.on(ev.SessionCreated, ev.SessionUpdated)(configured)
    session.on(ev.ResponseOutputAudioDelta)(arrived)
