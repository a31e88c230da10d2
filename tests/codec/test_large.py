"""Frames that are made to cost much: each is read in a time that its length explains."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from time import process_time
from typing import Any

import pytest

from realtime_bus import decode, narrow
from realtime_bus import events as ev
from realtime_bus.codec import Decoder

from ._watched import AUDIO, DELETED, RETRIEVED, Watched, text

COUNT = 100_000


def many(inside: bytes, one: str, count: int = COUNT) -> bytes:
    """Make a frame with so many of one thing in it."""
    return inside % ",".join(one.replace("#", str(i)) for i in range(count)).encode()


DONE = b'{"type":"response.done","response":'
COSTLY: dict[str, Callable[[], bytes]] = {
    "unknown fields": partial(many, DONE + b"{},%b}", '"f#":1'),
    "strings for objects": partial(many, DONE + b'{"output":[%b]}}', '"a"'),
    "unknown objects": partial(many, DONE + b'{"output":[%b]}}', '{"type":"x"}'),
    "wrong entries": partial(many, DONE + b'{"metadata":{%b}}}', '"k#":1'),
    "nested unknown fields": partial(
        many, b'{"type":"rate_limits.updated","rate_limits":[%b]}', '{"x":1}'
    ),
    "an unknown type": partial(many, b'{"type":"novelty","a":[%b]}', '"a"'),
    "an unknown field": partial(many, DONE + b'{},"a":[%b]}', '"a"'),
    "half characters": partial(many, DONE + b'{},"a":[%b]}', '"\\ud800"'),
    "audio in parts": partial(
        many,
        b'{"type":"conversation.item.added","item":{"type":"message","role":"user","content":[%b]}}',
        '{"type":"input_audio","audio":"AAAA"}',
        count=20_000,
    ),
    "an end too early": partial(many, b'{"type":"response.done","a":[%b]', '"a"'),
}
"""Made by the tests that read them."""


def took_s(run: Callable[[], object]) -> float:
    """Return how long it takes this process, whatever others do meanwhile."""
    started_s = process_time()
    run()
    return process_time() - started_s


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer makes each line cost more")
@pytest.mark.parametrize("name", COSTLY)
def test_no_frame_holds_up_its_reader_for_long(name: str) -> None:
    """First and later frames, whatever is wrong in them, and however often."""
    frame, decoder = COSTLY[name](), Decoder()
    usual_s = min(took_s(lambda: sum(range(2_000_000))) for _ in range(3))
    costs_s = min(took_s(lambda: narrow(decoder.decode(frame))) for _ in range(3))
    assert costs_s < 15 * usual_s
    first_s = took_s(lambda: narrow(Decoder().decode(frame)))
    assert first_s < 30 * usual_s


def test_what_is_too_much_stays_raw_and_is_told() -> None:
    """Beyond so many values nothing is looked at, and that is one kind of drift."""
    watched = Watched()
    event = watched.decode(COSTLY["unknown objects"]()[:-300_000].rpartition(b",")[0] + b"]}}")
    output = event.response.output
    assert isinstance(output[0], ev.UnknownObject)
    assert output[-1] == {"type": "x"}
    assert ("response.done", "", "constraint") in watched.counts
    assert any("no more are looked at" in drift.message for drift in watched.reports)
    narrowed = narrow(event).response.output
    assert all(isinstance(item, ev.UnknownObject) for item in narrowed)


def test_unknown_fields_are_counted_up_to_a_bound() -> None:
    """A frame with many tells of a hundred; the next one is read without a look at them."""
    watched = Watched()
    event = watched.decode(DELETED | {f"f{number}": 1 for number in range(3000)})
    assert event == ev.ConversationItemDeleted(event_id="event_1", item_id="item_1")
    assert len(watched.counts) == 100


MEGABYTE = "AAAA" * 400_000


@pytest.mark.parametrize("known", [False, True], ids=["first frame", "later frame"])
def test_a_large_frame_keeps_what_fits(*, known: bool) -> None:
    """Of a large frame with one wrong field, all others are there, the audio among them."""
    watched = Watched(AUDIO) if known else Watched()
    event = watched.decode(AUDIO | {"delta": MEGABYTE, "item_id": 5, "output_index": "x"})
    assert event.delta == bytes(1_200_000)
    assert (event.item_id, event.output_index) == (5, "x")
    assert event.response_id == "resp_1"
    assert {path for _, path, _ in watched.counts} == {"item_id", "output_index"}


def test_a_large_field_that_does_not_fit_counts_as_missing() -> None:
    """It is not parsed at all, and told; the rest of the event is there."""
    watched = Watched()
    wrong = RETRIEVED["item"] | {"role": 5, "content": [{"type": "input_text", "text": MEGABYTE}]}
    event = watched.decode(RETRIEVED | {"item": wrong})
    assert event.item is None
    assert event.event_id == "event_1"
    assert narrow(event).item == ev.UnknownObject({})
    assert watched.counts == {(RETRIEVED["type"], "item", "constraint"): 1}


def test_a_large_frame_by_an_old_name() -> None:
    """Names of the beta protocol are known in large frames that drift, too."""
    event = Watched().decode(
        AUDIO | {"type": "response.audio.delta", "delta": MEGABYTE, "item_id": None}
    )
    assert isinstance(event, ev.ResponseOutputAudioDelta)
    assert len(event.delta) == 1_200_000


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (text({"type": "novelty", "x": MEGABYTE}), ev.UnknownEvent),
        (text({"kind": "novelty", "x": MEGABYTE}), ev.InvalidFrame),
        (text({"type": 5, "x": MEGABYTE}), ev.InvalidFrame),
        (text([MEGABYTE]), ev.InvalidFrame),
        (text({"type": "novelty", "x": MEGABYTE})[:-1], ev.InvalidFrame),
        (text({"type": "response.done", "x": MEGABYTE})[:-1], ev.InvalidFrame),
        (b"[" * 2_000_000, ev.InvalidFrame),
    ],
    ids=["unknown", "no type", "odd type", "array", "cut off", "known and cut off", "nested"],
)
def test_a_large_frame_that_is_no_event(frame: bytes, kind: type[ev.Event]) -> None:
    """It is told apart like a small one, and kept."""
    event: Any = decode(frame)
    assert type(event) is kind
    assert event.frame is frame


def test_an_id_that_is_too_long_is_none_where_narrowed() -> None:
    """State machines key by ids, so the length of those is bounded; it is kept raw, and told."""
    watched = Watched(DELETED)
    event = watched.decode(DELETED | {"item_id": "i" * 513})
    assert event.item_id == "i" * 513
    assert narrow(event).item_id == ""
    assert watched.counts == {(DELETED["type"], "item_id", "constraint"): 1}
    assert Watched().decode(DELETED | {"item_id": "i" * 512}).item_id == "i" * 512
