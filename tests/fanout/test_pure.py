"""The parts that do no I/O: names, the buffer, what is done, and who works on what."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realtime_bus_plugins.fanout._buffer import Buffer, Message
from realtime_bus_plugins.fanout._reader import Progress
from realtime_bus_plugins.fanout._shares import Record, next_record, plan
from realtime_bus_plugins.fanout._subjects import Choice, Names, escape, name_tokens, unescape


@settings(max_examples=40)
@given(st.text())
def test_any_id_becomes_one_token_and_comes_back(text: str) -> None:
    """No dot, no wildcard, no blank; what is not too long can be read again."""
    token = escape(text)
    assert re.fullmatch(r"[A-Za-z0-9_=-]{1,200}", token)
    if len(token) < 66 and "\ufffd" not in text and text.isprintable():
        assert unescape(token) == text


@settings(max_examples=40)
@given(st.text(), st.text())
def test_two_ids_are_two_tokens(one: str, other: str) -> None:
    """However they look."""
    assert (escape(one) == escape(other)) == (one == other)


@settings(max_examples=40)
@given(st.text(max_size=600))
def test_any_wire_name_is_the_end_of_a_subject(name: str) -> None:
    """Without empty tokens and wildcards, and not too long."""
    subject = Names("app").event("sess", "server", name)
    assert re.fullmatch(r"app\.sess\.server(\.[A-Za-z0-9_=-]+)+", subject)
    assert len(subject) < 1000


def test_names_stay_readable() -> None:
    """A subject is what the documentation says."""
    assert name_tokens("response.output_audio_transcript.delta") == (
        "response.output_audio_transcript.delta"
    )
    assert Names("app").transform(8) == ("app.*.>", "app.{{partition(8,1)}}.{{wildcard(1)}}.>")


def test_what_is_chosen() -> None:
    """Beginning and end always; audio only if asked for; what is left out is left out."""
    choice = Choice(["response.*", "session.update"], without=["response.done"], audio=False)
    wanted = {"response.created", "session.update", "bus.closed", "bus.connected"}
    every = {*wanted, "response.done", "response.output_audio.delta", "error", "bus.drift"}
    assert {name for name in every if choice.wants(name)} == wanted


def message(number: int) -> Message:
    """Make a message."""
    return Message(f"s{number}", b"x", f"k{number}", {}, owner=number % 3)


_ONE_IS_LOST = [*["put"] * 7, "take", "ack", *["take"] * 4, "ack", "ack", "gone"]


@example([*_ONE_IS_LOST, "take", "take", "ack", "ack", "ack"])
@given(st.lists(st.sampled_from(["put", "take", "ack", "lost", "gone", "rewind"]), max_size=60))
@settings(max_examples=50)
def test_the_buffer_sends_in_order_whatever_happens(steps: list[str]) -> None:  # noqa: C901  # a step a branch
    """What the broker takes is in order in each session, whatever it loses or gets twice."""
    buffer = Buffer(
        max_pending=20, max_pending_bytes=10**6, max_in_flight=4, overflow="drop_oldest"
    )
    put, dropped = 0, set[str]()
    wire: list[tuple[int, str]] = []  # what is on its way, in order
    stored: list[str] = []

    def arrive() -> None:
        token, key = wire.pop(0)
        if key not in stored:
            stored.append(key)
        buffer.acknowledge(token)

    for step in [*steps, "rewind", *(["take", "ack"] * 25)]:
        if step == "put":
            gone = buffer.put(message(put))
            put += 1
            if gone is not None:
                dropped.add(gone.key)
        elif step == "take" and buffer.sendable:
            token, sent = buffer.take()
            wire.append((token, sent.key))
        elif step == "ack" and wire:
            arrive()
        elif step == "lost" and wire:  # it arrives, but the answer does not
            _, key = wire.pop(0)
            if key not in stored:
                stored.append(key)
        elif step == "gone" and wire:  # a leader has lost it, and another one takes the next
            wire.pop(0)
        elif step == "rewind":
            wire.clear()  # the connection broke
            buffer.rewind()
        assert len(buffer) <= 20
    for session in range(3):
        of_one = [int(key[1:]) for key in stored if int(key[1:]) % 3 == session]
        assert of_one == sorted(of_one)
    assert {*stored} | dropped == {f"k{number}" for number in range(put)}
    assert len(buffer) == 0
    assert buffer.pending_bytes == 0


@settings(max_examples=40)
@given(st.permutations(range(1, 12)), st.data())
def test_the_floor_is_below_all_that_is_not_done(order: list[int], data: st.DataObject) -> None:
    """Whatever settles first, and however often it is told."""
    progress = Progress(0)
    for number in range(1, 12):
        assert progress.begin(number)
        assert not progress.begin(number)
    done: set[int] = set()
    for number in order:
        progress.settle(number)
        progress.settle(data.draw(st.sampled_from(sorted({*done, number}))))
        done.add(number)
        left = set(range(1, 12)) - done
        assert progress.floor == min(left, default=12) - 1
        assert progress.unsettled == len(left)


@settings(max_examples=40)
@given(st.sets(st.text("abc", min_size=1), min_size=1, max_size=6), st.integers(1, 20), st.data())
def test_workers_come_to_equal_shares(
    workers: set[str], partitions: int, data: st.DataObject
) -> None:
    """From any owners, the dead included, in a few rounds, and then nothing moves."""
    some = st.sampled_from([*sorted(workers), "dead", ""])
    owners = {each: data.draw(some) for each in range(partitions)}
    for _ in range(4):
        for worker in data.draw(st.permutations(sorted(workers))):
            wanted = plan(worker, workers, partitions, owners)
            owners |= dict.fromkeys(wanted.release, "")
            owners |= dict.fromkeys(wanted.take, worker)
    shares = [list(owners.values()).count(worker) for worker in workers]
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1
    assert all(plan(worker, workers, partitions, owners) == ([], []) for worker in workers)


@pytest.mark.parametrize(
    ("found", "floor", "delivered", "died", "strikes"),
    [
        (None, 0, 0, False, 0),
        (Record(worker="a", epoch=1, floor=5), 9, 12, True, 1),  # it got somewhere, then died
        (Record(worker="a", epoch=2, floor=9, strikes=1), 9, 12, True, 2),  # at the same place
        (Record(worker="a", epoch=2, floor=9, strikes=1), 9, 9, True, 0),  # with nothing in hand
        (Record(epoch=2, floor=9, strikes=1), 9, 9, False, 0),  # handed over
        (Record(worker="b", epoch=3, floor=9, strikes=2), 9, 12, False, 2),  # it goes on itself
    ],
)
def test_deaths_at_one_place_are_counted(
    found: Record | None, floor: int, delivered: int, died: bool, strikes: int
) -> None:
    """Those that leave events in hand, at the same floor in a row."""
    record = next_record(found, "b", floor=floor, newest=12, delivered=delivered, died=died)
    assert (record.worker, record.floor, record.strikes) == ("b", floor, strikes)
    assert record.epoch == (found.epoch if found else 0) + 1
