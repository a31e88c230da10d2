"""Events as they are written."""

import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import decode


def test_an_event_without_an_id_is_written_back_without_one() -> None:
    """DTMF events have none, and a relay must not make an empty one up."""
    frames = [
        b'{"type":"input_audio_buffer.dtmf_event_received","event":"9","received_at":1}',
        b'{"type":"input_audio_buffer.cleared"}',
    ]
    assert [decode(frame).to_json() for frame in frames] == frames
    with_id = b'{"type":"input_audio_buffer.cleared","event_id":"event_1"}'
    assert decode(with_id).to_json() == with_id


def test_a_prompts_breakpoint_says_how_long_it_is_kept() -> None:
    """The time is written only if it is given."""
    kept = ev.PromptText(text="Hi", prompt_cache_breakpoint=ev.PromptCacheBreakpoint(ttl="12h"))
    plain = msgspec.to_builtins(kept)
    assert plain["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "12h"}
    assert msgspec.to_builtins(ev.PromptCacheBreakpoint()) == {"mode": "explicit"}
