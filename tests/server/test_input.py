"""The input buffer: its clock, its commits and its limits."""

import pytest

from realtime_bus import events as ev
from realtime_bus.server._audio import OutputConverter

from ._world import World, only_error, silence, speech, spoken, types, user_message

STARTED = ev.InputAudioBufferSpeechStarted
STOPPED = ev.InputAudioBufferSpeechStopped


def _committed_ms(world: World) -> float:
    item_id = world.last(ev.InputAudioBufferCommitted).item_id
    item = world.send(ev.ConversationItemRetrieve(item_id=item_id))[0].item
    return len(item.content[0].audio) / 48


def test_a_turn_is_padding_speech_and_silence() -> None:
    """What is committed lies between the two times that were told."""
    world = World()
    world.say(silence(1000), speech(500), silence(400))
    start, end = world.last(STARTED).audio_start_ms, world.last(STOPPED).audio_end_ms
    assert start == pytest.approx(1000 - 300, abs=40)
    assert end == pytest.approx(1500 + 200, abs=40)
    assert _committed_ms(world) == end - start


def test_padding_is_clamped_at_the_first_byte() -> None:
    """The first turn cannot start before the audio does."""
    world = World()
    world.say(speech(500))
    assert world.last(STARTED).audio_start_ms == 0


def test_padding_does_not_reach_into_the_last_turn() -> None:
    """Audio that was committed is not committed again."""
    world = World()
    world.say(speech(300), silence(300))
    end_ms = world.last(STOPPED).audio_end_ms
    world.say(speech(300), silence(300))
    assert world.last(STARTED).audio_start_ms >= end_ms


def test_how_audio_is_cut_changes_nothing() -> None:
    """Odd pieces, in the middle of samples too, give the same times as one large append."""
    audio = silence(700) + speech(800) + silence(700)
    whole, pieces = World(), World()
    whole.say(audio)
    pieces.say(*(audio[at : at + 1013] for at in range(0, len(audio), 1013)))
    for kind in (STARTED, STOPPED):
        one, other = whole.last(kind), pieces.last(kind)
        assert one.to_dict() | {"event_id": ""} == other.to_dict() | {"event_id": ""}


def test_commit_by_hand_takes_everything() -> None:
    """The whole buffer becomes one item, and the buffer is empty afterwards."""
    world = World()
    world.update(audio={"input": {"turn_detection": None}})
    world.say(speech(250), silence(250))
    world.send(ev.InputAudioBufferCommit(event_id="c1"))
    assert _committed_ms(world) == 500
    error = only_error(world.send(ev.InputAudioBufferCommit(event_id="c2")))
    assert (error.code, error.event_id) == ("input_audio_buffer_commit_empty", "c2")


def test_a_short_commit_is_refused_and_keeps_the_audio() -> None:
    """Under 100 ms nothing is committed, and what is there counts for the next try."""
    world = World()
    world.update(audio={"input": {"turn_detection": None}})
    world.say(silence(99))
    error = only_error(world.send(ev.InputAudioBufferCommit()))
    assert "99.00ms" in error.message
    world.say(silence(1))
    assert world.send(ev.InputAudioBufferCommit())[0].type == "input_audio_buffer.committed"


def test_commit_by_hand_in_the_middle_of_speech() -> None:
    """The item gets the announced id; no speech_stopped follows for it."""
    world = World()
    world.say(silence(400), speech(400))
    answer = world.send(ev.InputAudioBufferCommit())
    assert answer[0].item_id == world.last(STARTED).item_id
    assert world.say(silence(500)) == []


def test_clear_forgets_an_open_turn() -> None:
    """Cleared speech ends in nothing; the clock goes on."""
    world = World()
    world.say(speech(400))
    assert types(world.send(ev.InputAudioBufferClear())) == ["input_audio_buffer.cleared"]
    assert world.say(silence(600)) == []
    world.say(speech(300))
    assert world.last(STARTED).audio_start_ms >= 400


def test_committed_names_the_item_before() -> None:
    """The event tells what the new item follows."""
    world = World()
    world.send(user_message(id="first"))
    world.update(audio={"input": {"turn_detection": None}})
    world.say(silence(200))
    assert world.send(ev.InputAudioBufferCommit())[0].previous_item_id == "first"


def test_a_full_buffer_refuses_the_append() -> None:
    """Above the limit an append is refused whole, and the session goes on."""
    world = World(max_buffer_bytes=48_000)
    world.update(audio={"input": {"turn_detection": None}})
    assert world.say(silence(900)) == []
    assert only_error(world.say(silence(200))).param == "audio"
    assert world.send(ev.InputAudioBufferCommit())[0].type == "input_audio_buffer.committed"
    assert _committed_ms(world) == 900


def test_silence_under_turn_detection_is_not_hoarded() -> None:
    """Minutes of silence never fill the buffer."""
    world = World(max_buffer_bytes=48 * 40_000)
    for _ in range(30):
        assert world.say(silence(5000)) == []
    world.say(speech(500), silence(500))
    assert world.last(STARTED).audio_start_ms == pytest.approx(150_000 - 300, abs=40)


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_g711_in(kind: str) -> None:
    """G.711 input is detected on the same clock and retrieved as it came."""
    world = World()
    world.update(audio={"input": {"format": {"type": kind}}})
    format_ = world.last(ev.SessionUpdated).session.audio.input.format
    tone = b"\x00\x30" * 12 + b"\x00\xd0" * 12
    wire = OutputConverter(format_).feed(silence(400) + tone * 400 + silence(500))
    world.say(wire)
    start, end = world.last(STARTED).audio_start_ms, world.last(STOPPED).audio_end_ms
    assert start == pytest.approx(100, abs=40)
    assert end == pytest.approx(1000, abs=70)
    assert _committed_ms(world) * 48 == (end - start) * 8


def test_a_new_format_discards_what_is_uncommitted() -> None:
    """Audio of two formats is never mixed; the clock does not jump."""
    world = World()
    world.say(silence(1000))
    world.update(audio={"input": {"format": {"type": "audio/pcmu"}, "turn_detection": None}})
    world.say(b"\xff" * 8 * 200)
    world.send(ev.InputAudioBufferCommit())
    assert _committed_ms(world) * 48 == 200 * 8


def test_interrupt_response_false_lets_the_reply_go_on() -> None:
    """Speech is told and interrupts nothing; the next turn finds a response active."""
    world = World(spoken(20_000))
    detection = {"type": "server_vad", "interrupt_response": False}
    world.update(audio={"input": {"turn_detection": detection}})
    world.user_turn()
    world.run(0.3)
    said = world.user_turn()
    assert "response.done" not in types(said)
    assert said[-1].type == "error"
    assert said[-1].error.code == "conversation_already_has_active_response"
    assert said[-1].error.event_id is None


def test_create_response_false_only_commits() -> None:
    """A turn's end makes an item and no response, while speech still interrupts."""
    world = World(spoken(20_000))
    detection = {"type": "server_vad", "create_response": False}
    world.update(audio={"input": {"turn_detection": detection}})
    assert world.user_turn()[-1].type == "conversation.item.done"
    world.send(ev.ResponseCreate())
    world.run(0.2)
    assert "response.done" in types(world.user_turn())
