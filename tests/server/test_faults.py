"""Plans of faults, and the injector that carries them out: data and time in, frames out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_bus.errors import UsageError
from realtime_bus.server import FaultFired, FaultPlan, FaultPlanError, faults
from realtime_bus.server._fault_injector import FaultInjector
from realtime_bus.server._fault_order import may_overtake, told


def frame(type_: str, **fields: Any) -> bytes:
    """Return an event as the server sends it."""
    return msgspec.json.encode({"type": type_, "event_id": f"event_{type_}", **fields})


def delta(number: int = 0, response_id: str = "resp_1") -> bytes:
    """Return an audio delta."""
    return frame(
        "response.output_audio.delta", response_id=response_id, item_id="item_1", delta=f"{number}"
    )


def done(status: str = "completed", response_id: str = "resp_1") -> bytes:
    """Return a response's end."""
    return frame("response.done", response={"id": response_id, "status": status, "output": []})


class Wire:
    """An injector from whose end the frames are taken when they are due."""

    def __init__(self, *planned: faults.AnyFault, seed: int = 1, connection: int = 1) -> None:
        self.fired: list[FaultFired] = []
        self.sent: list[bytes] = []
        self.now_s = 100.0
        self.injector = FaultInjector(
            planned,
            seed=seed,
            connection=connection,
            now_s=self.now_s,
            on_fired=self.fired.append,
        )

    def send(self, *frames: bytes) -> list[bytes]:
        """Have the server send, and return what gets out at once."""
        due = [each for frame in frames for each in self.injector.send(frame, self.now_s)]
        self.sent += due
        return due

    def receive(self, *types: str) -> None:
        """Have the client send."""
        for each in types:
            self.injector.receive(frame(each), self.now_s)

    def wait(self, seconds: float) -> list[bytes]:
        """Let time pass, from one deadline to the next, and return what gets out."""
        due: list[bytes] = []
        end_s = self.now_s + seconds
        while (at := self.injector.next_deadline()) is not None and at <= end_s:
            assert at >= self.now_s
            self.now_s = at
            due += self.injector.tick(at)
        self.now_s = end_s
        self.sent += due
        return due

    @property
    def kinds(self) -> list[str]:
        """Return what has fired."""
        return [fired.kind for fired in self.fired]


# Plans


def test_a_plan_is_read_from_toml_and_json(tmp_path: Path) -> None:
    """Both say the same; a plan's text is one that can be read again."""
    (tmp_path / "plan.toml").write_text(
        'seed = 7\n[[faults]]\nkind = "close"\ncode = 1012\nat = "response.*.delta"\nnth = 5\n'
        '[[faults]]\nkind = "refuse"\nstatus = 429\ntimes = 3\n'
    )
    plan = FaultPlan.named(str(tmp_path / "plan.toml"))
    assert plan == FaultPlan(
        (
            faults.Close(code=1012, at="response.*.delta", nth=5),
            faults.Refuse(status=429, times=3),
        ),
        seed=7,
    )
    (tmp_path / "plan.json").write_text(str(plan))
    assert FaultPlan.from_file(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("text", "told_so"),
    [
        ("[", "no fault plan"),
        ('{"faults": [{"kind": "dorp"}]}', r"'dorp' - at `\$.faults\[0\].kind`; the kinds are cl"),
        ('{"faults": [{"kind": "drop", "afer_s": 1}]}', r"`afer_s` - at `\$.faults\[0\]`"),
        ('{"faults": [{"kind": "stall", "code": 1001}]}', "unknown field `code`"),
        ('{"faults": [{"kind": "close", "code": 99}]}', "close code 99 may not be sent"),
        ('{"faults": [{"kind": "lose", "at": "response.creatd"}]}', "mean 'response.created'"),
        ('{"seed": "x"}', "Expected `int`, got `str` - at `\\$.seed`"),
    ],
)
def test_a_file_that_is_no_plan(tmp_path: Path, text: str, told_so: str) -> None:
    """The error names the file, the place in it, and what may stand there."""
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(FaultPlanError, match=told_so) as caught:
        FaultPlan.from_file(path)
    assert caught.value.path == str(path)
    with pytest.raises(FaultPlanError, match="nowhere"):
        FaultPlan.named(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    ("make", "told_so"),
    [
        (lambda: faults.Drop(after_s=-1), "after_s must be 0 or more"),
        (lambda: faults.Drop(at="error", on="response.create"), "not both"),
        (lambda: faults.Drop(on="response.created"), "no client event is named"),
        (lambda: faults.Drop(nth=0), "nth counts from 1"),
        (lambda: faults.Drop(times=-1), "times must be 0"),
        (lambda: faults.Drop(p=0), "p must be above 0"),
        (lambda: faults.Drop(connection=0), "connections count from 1"),
        (lambda: faults.Stall(for_s=-1), "for_s must be 0 or more"),
        (lambda: faults.Refuse(status=200), "status must be an HTTP error"),
        (lambda: faults.Refuse(after_s=3), "'refuse' takes no after_s"),
        (faults.ShortLife, "needs after_s"),
        (lambda: faults.ShortLife(after_s=1, nth=2), "takes no nth"),
        (lambda: faults.LateDeltas(at="error"), "takes no at"),
        (lambda: faults.SlowRead(bytes_per_s=0), "bytes_per_s must be above 0"),
        (lambda: faults.Unknown(count=0), "count must be 1 or more"),
        (lambda: faults.Reorder(events=0), "events must be 1 or more"),
    ],
)
def test_a_fault_that_cannot_be(make: Any, told_so: str) -> None:
    """It is refused where it is made."""
    with pytest.raises(UsageError, match=told_so):
        make()


def test_a_seed_makes_the_same_plan_each_time() -> None:
    """Plans of many seeds have every kind among them; kinds can be chosen."""
    plans = [FaultPlan.from_seed(seed) for seed in range(300)]
    assert plans == [FaultPlan.named(str(seed)) for seed in range(300)]
    counted = Counter(fault.kind for plan in plans for fault in plan.faults)
    assert len(counted) == len(faults.AnyFault.__args__)  # type: ignore[attr-defined]  # a union
    assert all(msgspec.json.decode(str(plan), type=FaultPlan) == plan for plan in plans)
    few = FaultPlan.from_seed(3, kinds=[faults.Drop, faults.Delay])
    assert sorted(fault.kind for fault in few.faults) == ["delay", "drop"]


# When


def test_nothing_is_changed_without_faults() -> None:
    """Frames go through as they are, at once."""
    wire = Wire()
    assert wire.send(delta(1), b"\xff", done()) == [delta(1), b"\xff", done()]
    assert wire.injector.next_deadline() is None


def test_an_event_sets_a_fault_off() -> None:
    """At the n-th of its name, so many times, on this connection, and not before its time."""
    nth = Wire(faults.Lose(at="response.*.delta", nth=2, times=2))
    assert nth.send(done(), delta(1), delta(2), delta(3), delta(4)) == [done(), delta(1), delta(4)]
    assert [fired.event for fired in nth.fired] == ["response.output_audio.delta"] * 2
    without_bound = Wire(faults.Lose(at="response.*.delta", times=0))
    assert without_bound.send(delta(1), done(), delta(2)) == [done()]
    elsewhere = Wire(faults.Lose(connection=2))
    assert elsewhere.send(delta()) == [delta()]
    later = Wire(faults.Lose(after_s=5))
    assert later.send(delta(1)) == [delta(1)]
    later.wait(5)
    assert later.send(delta(2), delta(3)) == [delta(3)]
    assert later.fired[0].at_s == 5


def test_a_client_sets_a_fault_off() -> None:
    """One of events is done to the server's next event, one of the connection begins at once."""
    wire = Wire(faults.Lose(on="response.create", nth=2))
    wire.receive("response.create")
    assert wire.send(delta(1)) == [delta(1)]
    wire.receive("session.update", "response.create")
    assert wire.send(delta(2), delta(3)) == [delta(3)]
    dropped = Wire(faults.Drop(on="response.create"))
    dropped.receive("response.create")
    assert dropped.send(delta()) == []
    assert isinstance(dropped.injector.end, faults.Drop)
    assert dropped.fired[0].event == "response.create"


def test_chance_is_drawn_from_the_seed() -> None:
    """The same plan does the same to the same frames; another seed, or connection, does not."""

    def lost(**options: Any) -> list[bytes]:
        wire = Wire(faults.Lose(times=0, p=0.5), **options)
        return wire.send(*(delta(number) for number in range(100)))

    assert lost(seed=3) == lost(seed=3)
    assert 25 < len(lost(seed=3)) < 75
    assert lost(seed=3) != lost(seed=4)
    assert lost(seed=3) != lost(seed=3, connection=2)


# What is done to events


def test_frames_that_are_no_events() -> None:
    """Each way of breaking one comes before the event, or in its place."""
    for how in faults.Garbling.__args__:  # type: ignore[attr-defined]  # a Literal
        wire = Wire(faults.Malform(how=how))
        broken, whole = wire.send(delta())
        assert whole == delta()
        assert told(broken) is None
        wire = Wire(faults.Malform(how=how, instead=True))
        assert wire.send(delta()) == [broken]
    at_random = Wire(faults.Malform(times=0))
    at_random.send(*[delta()] * 60)
    assert len(set(at_random.sent)) == 8


def test_events_that_nobody_knows_and_events_twice() -> None:
    """They come before the event and after it, and each fault is counted once."""
    wire = Wire(faults.Unknown(count=2), faults.Duplicate(count=2))
    *strange, first, second, third = wire.send(delta())
    assert {told(each).type for each in strange} == {"response.hologram.delta"}  # type: ignore[union-attr]  # each is told: none is None
    assert (len(strange), first, second, third) == (2, delta(), delta(), delta())
    assert wire.kinds == ["unknown", "duplicate"]


def test_fields_that_are_missing_or_null() -> None:
    """The one that was named, however deep, or any but the type."""
    (sent,) = Wire(faults.Missing(field="response.status")).send(done())
    assert msgspec.json.decode(sent)["response"] == {"id": "resp_1", "output": []}
    (sent,) = Wire(faults.Null(field="response.output")).send(done())
    assert msgspec.json.decode(sent)["response"]["output"] is None
    in_list = frame("response.done", response={"output": [{"id": "item_1"}]})
    (sent,) = Wire(faults.Null(field="response.output.0.id")).send(in_list)
    assert msgspec.json.decode(sent)["response"]["output"] == [{"id": None}]
    unharmed = Wire(faults.Null(field="response.output.0.id"))
    assert unharmed.send(done(), b"no JSON") == [done(), b"no JSON"]
    assert unharmed.fired == []
    missed: set[str] = set()
    inner = {"id": 0, "status": 0, "output": 0}
    for each in Wire(faults.Missing(times=0)).send(*[done()] * 100):
        left = msgspec.json.decode(each)
        assert left["type"] == "response.done"
        missed |= {"event_id", "response"} - left.keys()
        missed |= inner.keys() - left.get("response", inner).keys()
    assert missed == {"event_id", "response", *inner}


def test_audio_after_the_end_of_a_cancelled_response() -> None:
    """More of its own audio, with new ids; a response that was completed is left alone."""
    wire = Wire(faults.LateDeltas(count=2))
    assert wire.send(delta(1), done("completed")) == [delta(1), done("completed")]
    assert wire.send(done("cancelled", "resp_2")) == [done("cancelled", "resp_2")]
    _, end, *late = wire.send(delta(2), done("cancelled"))
    assert end == done("cancelled")
    plain = [msgspec.json.decode(each) for each in late]
    assert [(each["response_id"], each["delta"]) for each in plain] == [("resp_1", "2")] * 2
    assert len({each["event_id"] for each in plain}) == 2
    assert wire.kinds == ["late_deltas"]


# Time


def test_everything_later() -> None:
    """By the latency and some of the jitter, in its order, for as long as it was ordered."""
    wire = Wire(faults.Delay(latency_s=0.2, jitter_s=0.3, for_s=10))
    wire.wait(0)
    assert wire.send(delta(1), delta(2), delta(3)) == []
    assert wire.injector.held_bytes == 3 * len(delta(1))
    assert wire.wait(0.2) == []
    assert wire.wait(0.3) == [delta(1), delta(2), delta(3)]
    assert wire.injector.held_bytes == 0
    wire.wait(10)
    assert wire.send(delta(4)) == [delta(4)]


@pytest.mark.parametrize("half_open", [False, True])
def test_silence(half_open: bool) -> None:
    """Nothing gets out before it is over; half open, nothing is read either."""
    kind = faults.HalfOpen if half_open else faults.Stall
    wire = Wire(kind(at="response.output_audio.delta", nth=2, for_s=5))
    assert wire.send(delta(1), delta(2), delta(3)) == [delta(1), delta(2)]
    assert wire.injector.flush(wire.now_s) == []
    assert wire.wait(4.9) == []
    assert (wire.now_s < wire.injector.deaf_until_s) is half_open
    assert wire.wait(0.2) == [delta(3)]
    assert wire.now_s > wire.injector.deaf_until_s
    for_ever = Wire(kind())
    for_ever.wait(0)
    assert for_ever.send(delta()) == []
    assert for_ever.injector.next_deadline() is None


def test_a_client_that_sends_more_than_is_read() -> None:
    """What was read is made up for by not reading: so many bytes a second."""
    wire = Wire(faults.SlowRead(bytes_per_s=len(frame("response.create")), for_s=10))
    wire.wait(0)
    wire.receive("response.create", "response.create")
    assert wire.injector.deaf_until_s == wire.now_s + 2
    assert wire.injector.next_deadline() == wire.now_s + 2
    wire.wait(10)
    wire.receive("response.create")
    assert wire.injector.deaf_until_s < wire.now_s


def test_a_close_comes_behind_what_is_delayed() -> None:
    """A drop does not: what is on its way is lost. After either nothing gets out."""
    closed = Wire(faults.Delay(latency_s=1), faults.Close(code=1012, after_s=2))
    closed.wait(1.5)
    closed.send(delta(1))
    assert closed.wait(0.5) == []
    assert closed.send(delta(2)) == []
    assert closed.injector.end is None
    assert closed.wait(1) == [delta(1)]
    assert closed.injector.end == faults.Close(code=1012, after_s=2)
    dropped = Wire(faults.Delay(latency_s=1), faults.Drop(after_s=2))
    dropped.wait(1.5)
    dropped.send(delta(1))
    assert dropped.wait(10) == []
    assert dropped.send(delta(2)) == []
    assert dropped.kinds == ["delay", "drop"]
    assert dropped.fired[1].at_s == 2


def test_the_event_that_ends_a_connection_still_gets_out() -> None:
    """And nothing after it."""
    for fault in (faults.Drop(at="response.done"), faults.Close(at="response.done")):
        wire = Wire(fault)
        assert wire.send(delta(), done(), delta(2)) == [delta(), done()]
        assert wire.injector.end == fault


def test_what_waits_goes_out_when_the_session_ends() -> None:
    """In its order, whatever it waits for."""
    wire = Wire(faults.Delay(latency_s=9), faults.Reorder(at="rate_limits.updated"))
    wire.wait(0)
    wire.send(frame("rate_limits.updated"), delta(1))
    assert wire.injector.held_bytes > 0
    assert wire.injector.flush(wire.now_s) == [delta(1), frame("rate_limits.updated")]
    assert wire.injector.held_bytes == 0


# Order


def test_independent_events_overtake() -> None:
    """So many, until one comes that must not, or until the time is up."""
    limits = frame("rate_limits.updated", rate_limits=[])
    few = Wire(faults.Reorder(at="rate_limits.updated", events=2))
    assert few.send(limits, delta(1), delta(2), delta(3)) == [delta(1), delta(2), limits, delta(3)]
    assert few.kinds == ["reorder"]
    stopped = Wire(faults.Reorder(at="rate_limits.updated", events=9))
    assert stopped.send(limits, delta(1), limits) == [delta(1), limits, limits]
    waited = Wire(faults.Reorder(at="rate_limits.updated", hold_s=0.5))
    assert waited.send(limits) == []
    assert waited.wait(0.5) == [limits]
    assert waited.fired == []


WORDS = frame(
    "response.output_audio_transcript.delta", response_id="resp_1", item_id="item_1", delta="a"
)
HEARD = frame("conversation.item.input_audio_transcription.completed", item_id="item_0")
CREATED = frame("response.created", response={"id": "resp_9", "conversation_id": None})
ASIDE = frame("response.output_text.delta", response_id="resp_9", item_id="item_9", delta="b")
ITEM_DONE = frame("conversation.item.done", item={"id": "item_1"})
OUTPUT_DONE = frame("response.output_item.done", response_id="resp_1", item={"id": "item_1"})
AUDIO_DONE = frame("response.output_audio.done", response_id="resp_1", item_id="item_1")


@pytest.mark.parametrize(
    ("earlier", "later", "may"),
    [
        (WORDS, delta(), True),
        (delta(), WORDS, True),
        (delta(), frame("response.output_audio_transcript.delta", item_id="item_2"), False),
        (delta(), delta(), False),
        (delta(), AUDIO_DONE, False),
        (WORDS, AUDIO_DONE, False),
        (ITEM_DONE, OUTPUT_DONE, True),
        (OUTPUT_DONE, done(), False),
        (ITEM_DONE, done(), False),
        (HEARD, done(), True),
        (done(), HEARD, True),
        (HEARD, frame("input_audio_buffer.committed", item_id="item_0"), False),
        (HEARD, frame("conversation.item.deleted", item_id="item_0"), False),
        (HEARD, HEARD, False),
        (ASIDE, delta(), True),
        (delta(), ASIDE, True),
        (ASIDE, ASIDE, False),
        (CREATED, ASIDE, False),
        (CREATED, delta(), False),
        (CREATED, frame("session.updated"), False),
        (frame("session.created"), frame("rate_limits.updated"), False),
        (frame("rate_limits.updated"), frame("rate_limits.updated"), False),
        (frame("session.updated"), frame("error"), False),
        (frame("input_audio_buffer.speech_started", item_id="item_0"), done(), False),
        (frame("rate_limits.updated"), frame("of.tomorrow"), False),
        (frame("rate_limits.updated"), b"no JSON", False),
    ],
)
def test_what_may_overtake_what(earlier: bytes, later: bytes, may: bool) -> None:
    """Only what the protocol leaves open."""
    assert may_overtake(told(later), told(earlier), {"resp_9"}) is may


POOL = [WORDS, HEARD, CREATED, ASIDE, ITEM_DONE, OUTPUT_DONE, delta(), done(), b"no JSON"]


@settings(max_examples=80, deadline=None)
@given(
    picks=st.lists(st.integers(0, len(POOL) - 1), max_size=30),
    seed=st.integers(0, 1000),
    jitter_s=st.sampled_from([0.0, 0.3]),
)
def test_no_order_that_was_promised_is_lost(picks: list[int], seed: int, jitter_s: float) -> None:
    """Nothing is lost or doubled, and whatever must not overtake another has not."""
    frames = [POOL[pick] + b" " * number for number, pick in enumerate(picks)]
    wire = Wire(
        faults.Reorder(times=0, p=0.5, events=4),
        faults.Delay(latency_s=0.1, jitter_s=jitter_s),
        seed=seed,
    )
    for number, each in enumerate(frames):
        wire.send(each)
        wire.wait(0.05 * (number % 4))
    wire.wait(60)
    assert sorted(wire.sent) == sorted(frames)
    beside = {"resp_9"} if CREATED in map(bytes.rstrip, frames) else set()
    place = {each: at for at, each in enumerate(wire.sent)}
    for at, earlier in enumerate(frames):
        for later in frames[at + 1 :]:
            if place[later] < place[earlier]:
                assert may_overtake(told(later), told(earlier), beside)
