"""How much silence ends a turn, and what that costs: `python -m benchmarks.turns`.

What people say to a voice agent, in one breath or in several, spoken by the local voice and heard
by the local detector, with the pauses of eSpeak. A sentence is split if it makes more than one
turn; the wait is from its last sound to the event that ends it. Takes some minutes
for all voices.
"""

from __future__ import annotations

import argparse
from array import array
from statistics import median

import anyio
from rich.console import Console
from rich.table import Table

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, SileroDetector, Voice

SILENCES_MS = (200, 300, 400, 500, 600, 800)
VOICES = {
    "slow": Voice("en-us", rate_wpm=150, pitch=60),
    "usual": Voice("en-us", rate_wpm=175, pitch=60),
    "fast": Voice("en-us", rate_wpm=200, pitch=60),
}

ONE_CLAUSE = """
    How long does the pasta take?|Tell me all about it.|I would like to book a table for two.
    What is the weather like tomorrow?|Can you turn the lights off?|Set a timer for ten minutes.
    My order has not arrived yet.|I forgot my password again.|Where is the nearest pharmacy?
    Please call me back this afternoon.|How much does it cost to send it back?
    I am looking for a gift for my mother.|Is there a train to the airport at six?
    Could you say that once more?|I need to change the date of my flight.
    Play something quiet.|Which of the two is cheaper?|The number is on the back of the card.
    Do I have to pay for it now?|It started making a strange noise yesterday.
    I think it was the second of March.|Give me the short version.|Who wrote that book?
    Remind me to water the plants.|What do I do with the rest of the stock?
"""
COMMAS = """
    Well, I am not sure about that.|Actually, add some salt.|Yes, that would be fine.
    No, I meant the other one.|First of all, thank you for your help.|Hello, my name is Anna Bell.
    If it rains, we will stay at home.|Okay, and what about the second room?
    I need milk, eggs, flour, and a lemon.|My address is twelve Park Lane, second floor.
    Let me see, it was on a Tuesday.|To be honest, I liked the old one better.
    Wait, I would rather have rice.|Sorry, could you speak up?|The red one, not the blue one.
    In that case, send it to my office.|Good morning, I am calling about the flat.
    You know, it used to be much cheaper.|When I press the button, nothing happens.
    Please, just tell me when it opens.|After that, I restarted it, and it worked.
    The thing is, I leave on Friday.|Oh, before I forget, bring your passport.
    Fine, let us do it that way.|So, what would you recommend?
"""
SENTENCES = """
    Hello! How do I cook a risotto?|Wait. How much rice do I need?|Yes. Please do that.
    I tried it twice. It still does not work.|No. The other one.|Thank you. That is all.
    My name is Miller. M, I, L, L, E, R.|It is broken. Can I send it back?
    Good evening. I have a question about my bill.|That is too late. Is there anything earlier?
    Let me think. Maybe the one on Monday.|I am not sure. What do you think?
    Right. And how do I get there?|Sorry! I was on mute.|One moment. I have to look it up.
    There are three of us. Two adults, and a child.|It is urgent. When can you come?
    I do not know. Ask my wife.|Great! Then I will take it.|Hm. That sounds expensive.
"""
KINDS = {
    "one clause": ONE_CLAUSE,
    "with commas": COMMAS,
    "two sentences": SENTENCES,
}


def texts(kind: str) -> list[str]:
    """Return the sentences of a kind."""
    lines = (line.strip() for line in KINDS[kind].strip().splitlines())
    return [text for line in lines for text in line.split("|")]


class Again(SileroDetector):
    """What silero said of a sound the first time: the same for each setting.

    Args:
        said: What it has said so far.
    """

    def __init__(self, said: list[float]) -> None:
        super().__init__()
        self._said = said
        self._at = 0

    def probability(self, chunk: bytes) -> float:
        """Return how likely the chunk is speech, from 0 to 1."""
        if self._at == len(self._said):
            self._said.append(super().probability(chunk))
        self._at += 1
        return self._said[self._at - 1]


async def heard(pcm: bytes) -> dict[int, tuple[int, int]]:
    """Return how many turns the server finds, and how late the last one ends, in ms.

    Args:
        pcm: What is said, PCM16 at 24 kHz, without silence around it.

    Returns:
        Both, by how much silence ends a turn.
    """
    said: list[float] = []
    server = RealtimeServer(detector_factory=lambda: Again(said))
    found: dict[int, tuple[int, int]] = {}
    for silence_ms in SILENCES_MS:
        ends_ms: list[int] = []
        vad = ev.ServerVad(silence_duration_ms=silence_ms, create_response=False)
        async with (
            server.connect_memory() as transport,
            Bus().session(transport, turn_detection=vad) as session,
        ):
            session.on(ev.InputAudioBufferSpeechStopped)(
                lambda event, ends_ms=ends_ms: ends_ms.append(event.audio_end_ms)  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
            )
            await session.append_audio(bytes(48 * 500) + pcm + bytes(48 * 1500))
            await session.clear_input()  # by its answer all has been heard
        late_ms = ends_ms[-1] - 500 - len(pcm) // 48 if ends_ms else 0
        found[silence_ms] = len(ends_ms), late_ms
    return found


def spoken(voice: Voice, text: str) -> bytes:
    """Return what a voice says, without the silence around it."""
    pcm = array("h", b"".join(piece.pcm for piece in voice.synthesize(text)))
    loud = [at for at, value in enumerate(pcm) if abs(value) > 500]
    return pcm[loud[0] : loud[-1] + 1].tobytes()


async def measure(voices: list[Voice]) -> None:
    """Print how many sentences are split, of each kind, and how long an answer has to wait."""
    found = {
        kind: [await heard(spoken(voice, text)) for voice in voices for text in texts(kind)]
        for kind in KINDS
    }
    table = Table(title="sentences split in two or more, and the wait for the end")
    table.add_column("silence_duration_ms", justify="right")
    for kind, sounds in found.items():
        table.add_column(f"{kind} ({len(sounds)})", justify="right")
    table.add_column("wait, median ms", justify="right")
    for silence_ms in SILENCES_MS:
        split = [str(sum(each[silence_ms][0] > 1 for each in sounds)) for sounds in found.values()]
        waits = [each[silence_ms][1] for sounds in found.values() for each in sounds]
        table.add_row(str(silence_ms), *split, f"{median(waits):.0f}")
    Console().print(table)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--voices", default=",".join(VOICES), help="some of " + ", ".join(VOICES))
    names = parser.parse_args().voices.split(",")
    anyio.run(measure, [VOICES[name] for name in names])


if __name__ == "__main__":
    main()
