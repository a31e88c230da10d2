"""The local voice: eSpeak NG speaks, clause by clause."""

import subprocess
import sys
import threading
import time
from itertools import groupby
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import MissingExtra, UsageError
from realtime_bus.server import _voice
from realtime_bus.server._audio import level_dbfs
from realtime_bus.server._voice import Spoken, Voice, split_text, voice_named

TEXT = "Good evening. First, boil the water; then add salt!\nReady?"


def spoken_by(voice: Voice, text: str = "Hello there, my friend.") -> bytes:
    """Return the whole sound of a text."""
    return b"".join(spoken.pcm for spoken in voice.synthesize(text))


def test_a_text_is_spoken_clause_by_clause() -> None:
    """Each clause comes with its own sound, audible and of a plausible length."""
    spoken = list(Voice().synthesize(TEXT))
    assert [piece.text for piece in spoken] == [
        "Good evening. ", "First, ", "boil the water; ", "then add salt!\n", "Ready?",
    ]  # fmt: skip  # one line
    assert all(200 < len(piece.pcm) / 48 < 3000 for piece in spoken)
    assert all(level_dbfs(piece.pcm) > -35 for piece in spoken)
    assert all(len(piece.pcm) % 2 == 0 for piece in spoken)


def pauses_ms(pcm: bytes) -> list[int]:
    """Return the stretches of near-silence from 80 ms on, as a listener has them."""
    frames = [memoryview(pcm[at : at + 240]).cast("h") for at in range(0, len(pcm) - 240, 240)]
    quiet = [max(*frame, -min(frame)) < 200 for frame in frames]  # 5 ms each
    runs = [sum(1 for _ in run) * 5 for silent, run in groupby(quiet) if silent]
    return [length_ms for length_ms in runs if length_ms >= 80]


def test_the_voice_breathes_between_clauses() -> None:
    """A short pause at a comma, a longer one at a full stop, none after the last word."""
    pcm = spoken_by(Voice(), "First, warm the stock. Then add the rice.")
    comma_ms, stop_ms = pauses_ms(pcm)
    assert 100 <= comma_ms <= 200
    assert 250 <= stop_ms <= 400
    assert pauses_ms(spoken_by(Voice(), "Warm the stock")) == []
    assert pauses_ms(spoken_by(Voice(), "Warm the stock.\n\n")) == []


def test_a_clause_cut_for_its_length_has_no_pause() -> None:
    """Where nobody would breathe, nobody does; where the line breaks, the voice does."""
    assert pauses_ms(spoken_by(Voice(), "many yellow lemons in a bowl " * 6)) == []
    assert len(pauses_ms(spoken_by(Voice(), "Warm stock\nSoft onion"))) == 1


@pytest.mark.anyio
async def test_speaking_leaves_the_event_loop_free() -> None:
    """The async voice synthesizes in a worker thread, and gives the same clauses."""
    used = set[int]()

    class Watched(Voice):
        def _spoken(self, clause: str, pauses: bool) -> Spoken:
            used.add(threading.get_ident())
            return super()._spoken(clause, pauses)

    pieces = [piece.text async for piece in Watched().speak(TEXT)]
    assert pieces == list(split_text(TEXT))
    assert threading.get_ident() not in used


@given(
    st.text(alphabet=st.sampled_from("ab .,!?\n'\"\u2026\u3002\uff0c\x00\U0001f600"), max_size=400)
)
def test_clauses_join_to_the_text(text: str) -> None:
    """Nothing is lost or added by splitting, and no clause is too long to wait for."""
    clauses = list(split_text(text))
    assert "".join(clauses) == text
    assert all(clauses)
    assert all(len(clause.strip()) <= 120 for clause in clauses)


def test_a_number_is_not_split() -> None:
    """A stop within a word ends no clause; a full-width one needs no space after it."""
    assert list(split_text("It costs 3.50, not 4.")) == ["It costs 3.50, ", "not 4."]
    assert list(split_text("\u4f60\u597d\u3002\u518d\u89c1")) == [
        "\u4f60\u597d\u3002",
        "\u518d\u89c1",
    ]


def test_a_long_sentence_is_split_between_words() -> None:
    """A sentence without stops is cut at a space."""
    clauses = list(split_text("word " * 100))
    assert len(clauses) > 1
    assert all(clause.endswith("word ") for clause in clauses)


@pytest.mark.parametrize(
    "text",
    ["." * 24_000 + "x", ".'" * 12_000 + "x", "\u3002" * 24_000, " " * 24_000, "\n" * 24_000],
    ids=["stops", "quoted stops", "full-width stops", "spaces", "lines"],
)
def test_no_text_is_expensive_to_split(text: str) -> None:
    """Each piece is found in the next 120 characters: no text of 24 kB takes 37 s, as one did."""
    begun_s = time.process_time()
    clauses = list(split_text(text))
    assert time.process_time() - begun_s < 0.5
    assert "".join(clauses) == text
    assert max(map(len, clauses)) <= 120


@pytest.mark.anyio
async def test_voices_that_wait_for_their_turn_hold_no_worker_threads() -> None:
    """One speaks at a time: the others wait outside the application's threads."""
    going, speaking = threading.Event(), anyio.Event()

    class Slow(Voice):
        def _spoken(self, clause: str, pauses: bool) -> Spoken:
            anyio.from_thread.run_sync(speaking.set)
            assert going.wait(20)
            return Spoken(clause, b"")

    async def speak() -> None:
        async for _ in Slow().speak("Hello."):
            pass

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(speak)
        await speaking.wait()
        await anyio.lowlevel.checkpoint()
        assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
        going.set()


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "\x00\x01"])
def test_nothing_to_say_is_silence(text: str) -> None:
    """A text without words gives no sound."""
    assert spoken_by(Voice(), text) == b""


def test_strange_characters_are_spoken_around() -> None:
    """Control characters (commands to eSpeak), NUL and lone surrogates do no harm."""
    assert len(spoken_by(Voice(), "one \x01250S two\x00three \ud800 four")) > 48 * 800


def test_voices_differ() -> None:
    """A person and an assistant can be told apart: pitch, rate and variant are heard."""
    slow, fast = spoken_by(Voice(rate_wpm=120)), spoken_by(Voice(rate_wpm=250))
    assert len(slow) > 1.4 * len(fast)
    low, high = spoken_by(Voice(pitch=20)), spoken_by(Voice("en-gb+f3", pitch=80))
    assert pitch_hz(high) > 1.5 * pitch_hz(low)


def pitch_hz(pcm: bytes) -> float:
    """Return the pitch of the loudest stretch, by autocorrelation."""
    values = memoryview(pcm).cast("h")
    middle = max(range(0, len(values) - 2400, 1200), key=lambda at: _energy(values[at : at + 2000]))
    window = values[middle : middle + 2400]
    lags = range(24_000 // 400, 24_000 // 60)
    best = max(lags, key=lambda lag: sum(window[i] * window[i + lag] for i in range(0, 2000, 2)))
    return 24_000 / best


def _energy(values: memoryview) -> int:
    return sum(value * value for value in values)


def test_voices_do_not_mix_across_threads() -> None:
    """Two voices speaking at once from two threads each sound as they do alone."""
    voices = [Voice(rate_wpm=120), Voice(rate_wpm=250)]
    alone = [len(spoken_by(voice)) for voice in voices]
    together: dict[int, list[int]] = {0: [], 1: []}

    def talk(which: int) -> None:
        together[which] = [len(spoken_by(voices[which])) for _ in range(5)]

    threads = [threading.Thread(target=talk, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which in (0, 1):
        assert all(abs(length - alone[which]) < 48 * 30 for length in together[which])


def test_every_protocol_voice_can_speak() -> None:
    """Each voice name of the protocol has a voice here, and an unknown one gets marin's."""
    names = [
        "alloy",
        "ash",
        "ballad",
        "cedar",
        "coral",
        "echo",
        "marin",
        "sage",
        "shimmer",
        "verse",
    ]
    assert all(spoken_by(voice_named(name), "Hi.") for name in names)
    assert len({repr(voice_named(name)) for name in names}) == len(names)
    assert voice_named("voice_1234") is voice_named("marin")


def test_an_unknown_voice_is_an_error() -> None:
    """A language that eSpeak does not know is named in the error."""
    with pytest.raises(UsageError, match="no voice 'xx-none'"):
        spoken_by(Voice("xx-none"))


@pytest.mark.parametrize("option", [{"rate_wpm": 10}, {"pitch": 101}, {"pitch_range": -1}])
def test_a_number_out_of_range_is_an_error(option: dict[str, int]) -> None:
    """Rate, pitch and range are checked when the voice is made."""
    (name,) = option
    with pytest.raises(UsageError, match=f"{name} must be from"):
        Voice(**option)


@pytest.mark.parametrize("fault", ["missing", "no library", "no data"])
def test_a_missing_espeak_names_the_extra(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without eSpeak, or with one that does not work, the error says which extra to install."""
    import espeakng_loader

    def no_data() -> str:
        raise RuntimeError("data path not exists")

    if fault == "missing":
        monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    elif fault == "no library":
        monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: "/nowhere.so")
    else:
        monkeypatch.setattr(espeakng_loader, "get_data_path", no_data)
    engine = _voice._engine
    with monkeypatch.context() as patch:
        patch.setattr(_voice, "_engine", engine.__wrapped__)  # the real one is started already
        with pytest.raises(MissingExtra, match=r"realtime-bus\[server\]"):
            spoken_by(Voice())


_FROM_FAR_AWAY = """
import sys
import espeakng_loader
data = sys.argv[1] if len(sys.argv) > 1 else ""
espeakng_loader.get_data_path = lambda: data
from realtime_bus.server._voice import Voice
print(sum(len(spoken.pcm) for spoken in Voice().synthesize("Hello.")))
"""


def run_far_away(data_path: Path) -> subprocess.CompletedProcess[str]:
    """Speak in a fresh process whose eSpeak data are elsewhere."""
    command = [sys.executable, "-c", _FROM_FAR_AWAY, str(data_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def test_a_long_installation_path_is_no_obstacle(tmp_path: Path) -> None:
    """A path longer than eSpeak can hold is replaced by a short one."""
    import espeakng_loader

    far = tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 8)
    far.mkdir(parents=True)
    (far / "data").symlink_to(espeakng_loader.get_data_path())
    finished = run_far_away(far / "data")
    assert finished.stderr == ""
    assert int(finished.stdout) > 48 * 100


def test_broken_data_do_not_end_the_process(tmp_path: Path) -> None:
    """Missing data of eSpeak are an exception like any other, not the end of the server."""
    finished = run_far_away(tmp_path)
    assert "realtime_bus.errors.MissingExtra" in finished.stderr
