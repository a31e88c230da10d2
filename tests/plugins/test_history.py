"""The conversation's state: order by links, transcripts, what was heard, calls, usage, cost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from realtime_bus import UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.history import (
    History,
    HistoryPart,
    HistorySnapshot,
    HistoryState,
    Prices,
    TokenCounts,
)

from ._wire import session_on


def message(item_id: str, role: Any = "user", *parts: Any, status: Any = None) -> ev.MessageItem:
    """Return a message item."""
    return ev.MessageItem(id=item_id, role=role, content=list(parts), status=status)


def added(item: ev.Item, after: Any = None) -> ev.ConversationItemAdded:
    """Return the event that an item has entered the conversation."""
    return ev.ConversationItemAdded(item=item, previous_item_id=after)


def text(item_id: str, words: str, after: Any = None) -> ev.ConversationItemAdded:
    """Return the event of a user message of text."""
    return added(message(item_id, "user", ev.InputText(text=words)), after)


def state_of(*events: Any) -> HistoryState:
    """Return the state after these events, and what a sink says was heard."""
    state = HistoryState()
    for event in events:
        if isinstance(event, dict):
            state.heard(**event)
        else:
            state.see(event)
    return state


def ids(state: HistoryState) -> list[str]:
    """Return the items' ids in order."""
    return [item.id for item in state]


PLACE: dict[str, Any] = {"response_id": "r", "item_id": "a", "output_index": 0, "content_index": 0}

SPOKEN_TURN: list[ev.Event] = [
    ev.InputAudioBufferCommitted(item_id="u"),
    added(message("u", "user", ev.InputAudio(), status="completed")),
    ev.ConversationItemDone(item=message("u", "user", ev.InputAudio(), status="completed")),
    added(message("a", "assistant", status="in_progress"), "u"),
    ev.ResponseOutputAudioTranscriptDelta(**PLACE, delta="It is nine "),
    ev.ResponseOutputAudioTranscriptDelta(**PLACE, delta="o'clock"),
]
SPOKEN_END: list[ev.Event] = [
    ev.ResponseOutputAudioTranscriptDone(**PLACE, transcript="It is nine o'clock now."),
    ev.ConversationItemDone(
        item=message(
            "a",
            "assistant",
            ev.OutputAudio(transcript="It is nine o'clock now."),
            status="completed",
        ),
        previous_item_id="u",
    ),
]


def transcribed(words: str, usage: Any = None) -> Any:
    """Return the end of the user's transcription."""
    return ev.ConversationItemInputAudioTranscriptionCompleted(
        item_id="u", content_index=0, transcript=words, usage=usage
    )


def transcribing(words: str) -> ev.ConversationItemInputAudioTranscriptionDelta:
    """Return a piece of the user's transcription."""
    return ev.ConversationItemInputAudioTranscriptionDelta(item_id="u", delta=words)


# order


def test_items_stand_where_their_links_put_them() -> None:
    """An item goes directly behind its predecessor, and first if it has none."""
    state = state_of(text("a", "1"), text("b", "2", "a"), text("x", "3", "a"), text("first", "4"))
    assert ids(state) == ["first", "a", "x", "b"]


def test_root_is_the_beginning() -> None:
    """A server that spells the beginning out means the same as null."""
    assert ids(state_of(text("a", "1"), text("b", "2", "root"))) == ["b", "a"]


def test_an_item_waits_for_its_predecessor() -> None:
    """Items whose predecessor is unknown stand last, and move when it comes."""
    state = state_of(text("c", "3", "b"), text("a", "1"))
    assert ids(state) == ["a", "c"]
    state.see(text("d", "4", "c"))
    state.see(text("b", "2", "a"))
    assert ids(state) == ["a", "b", "c", "d"]


def test_a_deleted_predecessor_still_marks_the_place() -> None:
    """What links to a deleted item stands where that one stood."""
    state = state_of(text("a", "1"), text("b", "2", "a"), text("c", "3", "b"))
    state.see(ev.ConversationItemDeleted(item_id="b"))
    state.see(text("x", "4", "b"))
    assert ids(state) == ["a", "x", "c"]
    assert state.get("b") is None
    assert len(state) == 3


def test_an_item_may_come_back_elsewhere() -> None:
    """An id that is added again after its deletion stands at its new place."""
    state = state_of(text("a", "1"), text("b", "2", "a"), text("c", "3", "b"))
    state.see(ev.ConversationItemDeleted(item_id="b"))
    state.see(text("b", "new", "c"))
    assert ids(state) == ["a", "c", "b"]


def test_the_end_of_a_deleted_item_does_not_bring_it_back() -> None:
    """A done for an item that was deleted while it was generated is ignored."""
    state = state_of(*SPOKEN_TURN, ev.ConversationItemDeleted(item_id="a"), *SPOKEN_END)
    assert ids(state) == ["u"]


def test_without_links_arrival_is_all_there_is() -> None:
    """Items of a server that leaves the link out are appended."""
    state = state_of(*(text(name, "word", UNSET) for name in "abc"))
    assert ids(state) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "links", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "a"}]
)
def test_links_in_a_circle_lose_nothing(links: dict[str, str]) -> None:
    """A server that contradicts itself costs the order, not the items."""
    state = state_of(*(text(item_id, "x", after) for item_id, after in links.items()))
    assert sorted(ids(state)) == sorted(links)


def test_items_without_an_id_are_left_out() -> None:
    """An item that cannot be named has no place."""
    assert ids(state_of(added(ev.MessageItem(role="user", content=[])))) == []


# words


def test_deltas_are_joined_and_the_end_replaces_them() -> None:
    """While it comes, a transcript is the sum of its deltas; its end is all of it."""
    state = state_of(*SPOKEN_TURN)
    assert [(item.role, item.text) for item in state] == [
        ("user", ""),
        ("assistant", "It is nine o'clock"),
    ]
    for event in [*SPOKEN_END, transcribing("What tim"), transcribed("What time is it?")]:
        state.see(event)
    assert [(item.role, item.text, item.status) for item in state] == [
        ("user", "What time is it?", "completed"),
        ("assistant", "It is nine o'clock now.", "completed"),
    ]
    state.see(transcribing(" late"))
    state.see(ev.ResponseOutputAudioTranscriptDelta(**PLACE, delta=" late"))
    assert [item.text for item in state] == ["What time is it?", "It is nine o'clock now."]


def test_a_transcript_may_come_before_its_item() -> None:
    """Words wait for the item they belong to, and are not part of the conversation until then."""
    state = state_of(transcribing("Hel"), transcribed("Hello"))
    assert ids(state) == []
    state.see(added(message("u", "user", ev.InputAudio())))
    assert state.render() == "user: Hello"


def test_a_failed_transcription_says_why() -> None:
    """The item stays, and its part has the reason in place of a text."""
    failed = ev.ConversationItemInputAudioTranscriptionFailed(
        item_id="u", content_index=0, error=ev.TranscriptionError(message="too noisy")
    )
    state = state_of(*SPOKEN_TURN[:2], failed)
    [item] = state
    assert item.parts == (HistoryPart(kind="audio", final=True, failure="too noisy"),)
    assert state.render() == "user: [not transcribed: too noisy]"


def test_speakers_are_kept_apart() -> None:
    """Segments of a model that tells speakers apart are kept with the part."""
    segment = ev.ConversationItemInputAudioTranscriptionSegment(
        item_id="u", content_index=0, id="s", text="Hi", speaker="A", start=0.5, end=1.0
    )
    state = state_of(*SPOKEN_TURN[:2], segment, transcribed("Hi"))
    [item] = state
    [found] = item.parts[0].segments
    assert (found.speaker, found.text, found.start_s, found.end_s) == ("A", "Hi", 0.5, 1.0)
    assert item.text == "Hi"


def test_written_answers() -> None:
    """Text deltas make a text part, which the done event completes."""
    state = state_of(added(message("a", "assistant", status="in_progress")))
    state.see(ev.ResponseOutputTextDelta(**PLACE, delta="Go"))
    assert state.render() == "assistant: Go"
    state.see(ev.ResponseOutputTextDone(**PLACE, text="Good."))
    [item] = state
    assert item.parts == (HistoryPart(kind="text", text="Good.", final=True),)


def test_parts_of_all_kinds() -> None:
    """Images, and parts unknown to this version, have a place in the text."""
    parts = (ev.InputText(text="Look:"), ev.InputImage(), ev.UnknownObject({"type": "smell"}))
    state = state_of(added(message("u", "user", *parts)))
    assert state.render() == "user: Look: [image] [other]"


# what was heard


def interrupted(heard_ms: int = 1000, generated_ms: int = 2000) -> dict[str, Any]:
    """Return what a sink says of item a, of which half was heard."""
    return {"item_id": "a", "heard_ms": heard_ms, "generated_ms": generated_ms}


TRUNCATED = ev.ConversationItemTruncated(item_id="a", content_index=0, audio_end_ms=950)


def test_what_was_heard_is_kept_beside_what_was_generated() -> None:
    """After a truncation the words are still here, the model has them no more."""
    state = state_of(*SPOKEN_TURN, interrupted(), *SPOKEN_END, TRUNCATED)
    answer = state.get("a")
    assert answer is not None
    assert answer.cut_off
    assert answer.text == "It is nine o'clock now."
    assert answer.estimated_heard_text == "It is nine"
    [part] = answer.parts
    assert (part.heard_ms, part.generated_ms, part.in_context) == (1000, 2000, False)
    assert state.render() == "user: [audio]\nassistant: It is nine [interrupted after 1000 ms]"
    assert "o'clock now. [interrupted" in state.render(view="generated")


def test_a_truncation_alone_tells_the_time_but_not_the_share() -> None:
    """Without a sink's word on the whole length, nothing is estimated."""
    state = state_of(*SPOKEN_TURN, *SPOKEN_END, TRUNCATED)
    answer = state.get("a")
    assert answer is not None
    [part] = answer.parts
    assert (part.heard_ms, part.generated_ms, part.in_context) == (950, None, False)
    assert part.estimated_heard_text is None
    assert "assistant: [audio] [interrupted after 950 ms]" in state.render()


def test_heard_to_the_end_is_not_cut_off() -> None:
    """An item that the interruption left alone, and that was heard, is whole."""
    left = interrupted(2000)
    state = state_of(*SPOKEN_TURN, *SPOKEN_END, left)
    answer = state.get("a")
    assert answer is not None
    assert not answer.cut_off
    assert answer.estimated_heard_text == "It is nine o'clock now."


def test_heard_as_far_as_it_had_come_and_then_cut() -> None:
    """The server had more: all the words that came with what was heard, were heard."""
    state = state_of(
        *SPOKEN_TURN,
        {"item_id": "a", "heard_ms": 500, "generated_ms": 500},
        ev.ConversationItemTruncated(item_id="a", content_index=0, audio_end_ms=500),
    )
    item = state.get("a")
    assert item is not None
    assert (item.cut_off, item.parts[0].heard_ms) == (True, 500)
    assert item.estimated_heard_text == item.text != ""


def test_left_alone_and_not_heard_stays_in_context() -> None:
    """Where no truncation was possible, the model believes what was never heard."""
    state = state_of(*SPOKEN_TURN, interrupted(0))
    answer = state.get("a")
    assert answer is not None
    assert answer.parts[0].in_context
    assert answer.estimated_heard_text == ""


@pytest.mark.parametrize(
    ("words", "heard_ms", "heard"),
    [
        ("one two three", 500, "one"),
        ("one two three", 540, "one two"),
        ("one two three", 1000, "one two three"),
        ("one two three", 5000, "one two three"),
        ("今日は良い天気", 500, "今日は"),
        ("Hello there", 100, ""),
    ],
)
def test_heard_words_are_whole(words: str, heard_ms: int, heard: str) -> None:
    """The estimate ends at a word's end, in scripts that have words."""
    part = HistoryPart(kind="audio", text=words, heard_ms=heard_ms, generated_ms=1000)
    assert part.estimated_heard_text == heard


def test_sounds_that_are_no_items_are_ignored() -> None:
    """An application's own sound that was cut off is not part of the conversation."""
    assert ids(state_of(interrupted())) == []


# calls


def test_calls_and_their_outputs() -> None:
    """A call has its arguments as soon as they are there, and its output once it is added."""
    call = ev.FunctionCallItem(id="f", name="time", arguments="", call_id="c", status="in_progress")
    state = state_of(added(call))
    done = ev.ResponseFunctionCallArgumentsDone(
        response_id="r", item_id="f", call_id="c", arguments='{"zone": "CET"}'
    )
    state.see(done)
    [open_call] = state.calls()
    assert (open_call.arguments, open_call.output) == ('{"zone": "CET"}', None)
    state.see(added(ev.FunctionCallOutputItem(id="o", call_id="c", output="21:00"), "f"))
    [answered] = state.calls()
    assert (answered.name, answered.output, answered.output_item_id) == ("time", "21:00", "o")
    assert state.render() == 'assistant calls time({"zone": "CET"})\nfunction returns 21:00'


def test_mcp_items() -> None:
    """A call that the server made shows its outcome; other items show what they are."""
    call = ev.McpCallItem(
        id="m", server_label="docs", name="find", arguments="{}",
        error=ev.McpToolExecutionError(message="no such page"),
    )  # fmt: skip
    listed = ev.McpListToolsItem(id="l", server_label="docs", tools=[])
    state = state_of(added(listed), added(call, "l"))
    assert state.render() == (
        "[mcp_list_tools]\nassistant calls docs.find({}) -> error: no such page"
    )


# usage


def session(**fields: Any) -> ev.SessionCreated:
    """Return session.created with a model and a transcriber."""
    source = ev.AudioInputConfig(transcription=ev.Transcription(model="gpt-4o-transcribe"))
    return ev.SessionCreated(
        session=ev.RealtimeSession(
            id="s", model="gpt-realtime-2025-08-28", audio=ev.AudioConfig(input=source), **fields
        )
    )


USAGE = ev.Usage(
    total_tokens=1150,
    input_tokens=1000,
    output_tokens=150,
    input_token_details=ev.InputTokenDetails(
        text_tokens=600,
        audio_tokens=400,
        image_tokens=0,
        cached_tokens=500,
        cached_tokens_details=ev.CachedTokensDetails(text_tokens=300, audio_tokens=200),
    ),
    output_token_details=ev.OutputTokenDetails(text_tokens=50, audio_tokens=100),
)


def response_done(usage: Any = USAGE, **fields: Any) -> ev.ResponseDone:
    """Return the end of a response."""
    return ev.ResponseDone(response=ev.Response(id="r", status="completed", usage=usage, **fields))


def test_usage_is_summed_by_model_and_kind() -> None:
    """Cached tokens are counted apart; responses and transcriptions add up for their models."""
    usage = ev.TokenUsage(
        input_tokens=30, output_tokens=5, total_tokens=35,
        input_token_details=ev.TranscriptionTokenDetails(text_tokens=10, audio_tokens=20),
    )  # fmt: skip
    state = state_of(session(), response_done(), response_done(), transcribed("Hi", usage))
    counts = state.usage["gpt-realtime-2025-08-28"]
    assert counts == TokenCounts(
        input_text=600, input_audio=400, cached_text=600, cached_audio=400,
        output_text=100, output_audio=200,
    )  # fmt: skip
    assert counts.total == 2300
    assert state.usage["gpt-4o-transcribe"] == TokenCounts(
        input_text=10, input_audio=20, output_text=5
    )


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (ev.Usage(input_tokens=7, output_tokens=3), TokenCounts(input_text=7, output_text=3)),
        (
            ev.Usage(
                input_tokens=10,
                input_token_details=ev.InputTokenDetails(
                    text_tokens=4, audio_tokens=5, cached_tokens=6
                ),
            ),
            TokenCounts(input_audio=4, cached_text=5, cached_audio=1),
        ),
        (ev.Usage(), TokenCounts()),
    ],
)
def test_what_the_details_leave_open(usage: ev.Usage, counts: TokenCounts) -> None:
    """Tokens without a kind count as text, cached ones are taken from text first."""
    assert state_of(session(), response_done(usage)).usage["gpt-realtime-2025-08-28"] == counts


def test_cost_by_a_price_table() -> None:
    """Each kind has its price; a dated model may be priced without its date."""
    prices = {
        "gpt-realtime": Prices(
            input_text=4, input_audio=32, cached_text=0.4, output_text=16, output_audio=64
        )
    }
    seconds = ev.DurationUsage(seconds=90.0)
    state = state_of(session(), response_done(), transcribed("Hi", seconds))
    cost = state.cost(prices)
    wanted = (300 * 4 + 200 * 32 + 300 * 0.4 + 200 * 32 + 50 * 16 + 100 * 64) / 1e6
    assert cost.total == pytest.approx(wanted)
    assert cost.unpriced == ["gpt-4o-transcribe"]
    more = state.cost({**prices, "gpt-4o-transcribe": Prices(audio_minute=0.006)})
    assert more.by_model["gpt-4o-transcribe"] == pytest.approx(0.009)
    assert more.total == pytest.approx(wanted + 0.009)
    assert more.unpriced == []


def test_out_of_band_responses_cost_but_are_no_part_of_it() -> None:
    """Their items come in no conversation event; their words are forgotten when they end."""
    words = ev.ResponseOutputTextDelta(response_id="r", item_id="x", delta="Topic: time")
    output: list[Any] = [message("x", "assistant", ev.OutputText(text="Topic: time"))]
    state = state_of(session(), words, response_done(output=output))
    assert ids(state) == []
    assert state.usage["gpt-realtime-2025-08-28"].total == 1150
    state.see(added(message("x", "assistant")))
    assert state.get("x") is not None
    assert state.render() == ""


def test_the_final_items_of_a_response_are_taken() -> None:
    """Where a server sends no end of the item, the response's end has it all."""
    output: list[Any] = [message("a", "assistant", ev.OutputText(text="Done."), status="completed")]
    state = state_of(added(message("a", "assistant")), response_done(None, output=output))
    assert state.render() == "assistant: Done."


# snapshots


def test_a_snapshot_goes_to_json_and_back() -> None:
    """A restored state says the same, and goes on the same."""
    events = [session(), *SPOKEN_TURN, interrupted(), *SPOKEN_END, TRUNCATED, response_done()]
    state = state_of(*events, ev.ConversationItemDeleted(item_id="u"), text("late", "?", "lost"))
    data = msgspec.json.encode(state.snapshot())
    restored = HistoryState()
    restored.load(msgspec.json.decode(data, type=HistorySnapshot))
    assert restored.snapshot() == state.snapshot()
    for each in (state, restored):
        each.see(text("lost", "!", "u"))
    assert ids(restored) == ids(state) == ["lost", "late", "a"]


# in a session


@pytest.mark.anyio
async def test_each_session_has_its_own_history() -> None:
    """One plugin serves many sessions; what it knows is there before any handler runs."""
    history = History()
    seen: list[str] = []
    async with session_on(history) as (one, wire), session_on(history) as (other, _):
        one.on(ev.ConversationItemAdded)(lambda event: seen.append(history.of(one).render()))
        wire.feed(text("a", "Hello"))
        assert history.of(one).render() == "user: Hello"
        assert len(history.of(other)) == 0
    assert seen == ["user: Hello"]
    assert history.of(one).render() == "user: Hello"


@pytest.mark.anyio
async def test_links_that_are_left_out_are_told_from_null() -> None:
    """Null means first, and nothing at all means last."""
    history = History()
    async with session_on(history) as (session, wire):
        wire.feed(text("a", "1"), text("b", "2"))
        frame = b'{"type":"conversation.item.added","item":{"id":"c","type":"message"'
        wire.transport.feed(frame + b',"role":"user","content":[]}}')
        assert ids(history.of(session)) == ["b", "a", "c"]


@pytest.mark.anyio
async def test_a_saved_history_is_restored_into_a_session() -> None:
    """JSON text goes out and in; what is no snapshot is refused."""
    history = History()
    async with session_on(history) as (session, wire):
        wire.feed(text("a", "Hello"))
        saved = history.snapshot(session)
    async with session_on(history) as (session, wire):
        history.restore(session, saved)
        wire.feed(text("b", "again", "a"))
        assert history.of(session).render() == "user: Hello\nuser: again"
        with pytest.raises(msgspec.DecodeError):
            history.restore(session, b"{}")
    async with session_on() as (session, _):
        with pytest.raises(UsageError, match=r"this session has no history"):
            history.restore(session, saved)


@pytest.mark.breaks_rules("*")
@pytest.mark.anyio
async def test_audio_is_not_listened_to() -> None:
    """Audio deltas pass undecoded: nobody here asks for them."""
    async with session_on(History()) as (session, wire):
        before = session.statistics().frames_skipped
        wire.feed(ev.ResponseOutputAudioDelta(**PLACE, delta=bytes(480)))
        assert session.statistics().frames_skipped == before + 1


@pytest.mark.anyio
async def test_what_is_raw_data_costs_only_itself() -> None:
    """An item, a usage and a session that drifted are read as far as they go."""
    history = History()
    async with session_on(history) as (session, wire):
        wire.transport.feed(
            b'{"type":"conversation.item.added","previous_item_id":null,"item":'
            b'{"id":"n","type":"novelty","content":7}}'
        )
        wire.transport.feed(
            b'{"type":"response.done","response":{"id":"r","usage":'
            b'{"input_tokens":"many","output_tokens":3},"output":9}}'
        )
        wire.transport.feed(b'{"type":"session.updated","session":{"type":"odd","model":5}}')
        state = history.of(session)
        assert state.render() == "[novelty]"
        assert state.usage[""] == TokenCounts(output_text=3)
