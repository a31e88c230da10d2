"""The commands that show what is guaranteed, in small: they find nothing, and what is wrong."""

from __future__ import annotations

import pytest

from benchmarks import fuzz, soak
from realtime_bus import events as ev
from realtime_bus.codec import Decoder


def test_mutated_frames_are_what_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    """A round through the codec and a session with plugins."""
    assert fuzz.main(["--frames", "1000", "--seed", "ci"]) == 0
    assert "1000 frames, seed ci: nothing found" in capsys.readouterr().out


def test_the_fuzzer_finds_what_is_wrong_and_tells_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A codec that loses a field is found, and the round runs again by its seed."""
    decode = Decoder.decode

    def forgetful(self: Decoder, frame: bytes | str) -> ev.Event:
        event = decode(self, frame)
        if isinstance(event, ev.ResponseOutputTextDelta) and event.delta == "word ":
            return ev.ResponseOutputTextDelta(
                **{name: getattr(event, name) for name in event.__struct_fields__} | {"delta": ""}
            )
        return event

    monkeypatch.setattr(Decoder, "decode", forgetful)
    assert fuzz.main(["--frames", "1000"]) == 1
    seed = capsys.readouterr().out.split("--only ")[1].strip()
    assert fuzz.main(["--only", seed]) == 1
    monkeypatch.undo()
    assert fuzz.main(["--only", seed]) == 0


@pytest.mark.slow
def test_some_minutes_of_a_session_in_trouble() -> None:
    """On a virtual clock: both sides agree, all was resolved, and the session goes on."""
    lived = soak.hour(11, hour_s=300.0)
    assert lived.found == []
    assert lived.figures["steps"] > 50
