"""What a hostile client costs the local server and its neighbour: `python -m benchmarks.hostile`.

Each attack has a `realtime-bus serve` process of its own. Meanwhile a polite neighbour asks for
``session.update`` again and again: its longest wait tells how long the server stood still. Memory
is the process's peak (``VmHWM``) above what it was with the neighbour alone, so it takes Linux.
`--only items,tools` takes some of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pybase64
from anyio.abc import Process
from rich.console import Console
from rich.table import Table

from realtime_bus import RealtimeBusError
from realtime_bus.transport import Transport, dial

LASTS_S = 8.0
"""How long an attack goes on at most, and is watched at least for a quarter of it."""

MIB = 1024 * 1024
_AUDIO = pybase64.b64encode(bytes(4 * MIB)).decode()
_LONG_AUDIO = pybase64.b64encode(bytes(12 * MIB)).decode()


class Attacker:
    """A client that sends what it likes."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.codes: dict[str, int] = {}
        self.closed = ""

    async def run(self) -> None:
        """Read until the end."""
        info = await self.transport.run(self._heard)
        self.closed = f"{info.code} {info.reason}".strip()

    def _heard(self, frame: bytes) -> None:
        if frame.startswith(b'{"type":"error"'):
            code = str(msgspec.json.decode(frame)["error"]["code"])
            self.codes[code] = self.codes.get(code, 0) + 1

    async def say(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        await self.send(msgspec.json.encode({"type": kind, **fields}))

    async def send(self, frame: bytes) -> None:
        """Send a frame, as fast as it is taken."""
        self.transport.send(frame)
        await self.transport.drain()

    async def item(self, *content: dict[str, Any], item_id: str | None = None) -> None:
        """Create a message."""
        item = {"type": "message", "role": "user", "content": content, "id": item_id}
        await self.say("conversation.item.create", item=item)

    async def update(self, **session: Any) -> None:
        """Change settings."""
        await self.say("session.update", session={"type": "realtime", **session})

    @property
    def told(self) -> str:
        """What the server has said to it, in few words."""
        codes = ", ".join(f"{count} {code}" for code, count in self.codes.items())
        return "; ".join(filter(None, (codes, self.closed)))


async def items(client: Attacker) -> None:
    """60 messages of 4 MiB of text."""
    for _ in range(60):
        await client.item({"type": "input_text", "text": "x" * 4 * MIB})


async def audio_items(client: Attacker) -> None:
    """60 messages of 4 MiB of audio."""
    for _ in range(60):
        await client.item({"type": "input_audio", "audio": _AUDIO})


async def many_items(client: Attacker) -> None:
    """30 000 items, each put first."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    for _ in range(30_000):
        await client.say("conversation.item.create", item=item, previous_item_id="root")


async def commits(client: Attacker) -> None:
    """30 000 turns of 100 ms, committed by hand."""
    await client.update(audio={"input": {"turn_detection": None}})
    audio = pybase64.b64encode(bytes(4800)).decode()
    for _ in range(30_000):
        await client.say("input_audio_buffer.append", audio=audio)
        await client.say("input_audio_buffer.commit")


async def transcriptions(client: Attacker) -> None:
    """20 turns of 12 MiB of G.711, to be written down."""
    await client.update(
        audio={
            "input": {
                "turn_detection": None,
                "format": {"type": "audio/pcmu"},
                "transcription": {"model": "whisper-1"},
            }
        }
    )
    for _ in range(20):
        await client.say("input_audio_buffer.append", audio=_LONG_AUDIO)
        await client.say("input_audio_buffer.commit")


async def answers(client: Attacker) -> None:
    """32 responses out of band, each to 12 MiB of audio of its own."""
    message = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_audio", "audio": _LONG_AUDIO}],
    }
    for _ in range(32):
        await client.say("response.create", response={"conversation": "none", "input": [message]})


async def long_turn(client: Attacker) -> None:
    """A turn of 12 MiB of G.711 is answered, 8 times at once."""
    await client.update(audio={"input": {"turn_detection": None, "format": {"type": "audio/pcmu"}}})
    await client.say("input_audio_buffer.append", audio=_LONG_AUDIO)
    await client.say("input_audio_buffer.commit")
    for _ in range(8):
        await client.say("response.create", response={"conversation": "none"})


async def responses(client: Attacker) -> None:
    """A storm of responses out of band, each cancelled at once."""
    for _ in range(20_000):
        await client.say("response.create", response={"conversation": "none"})
        await client.say("response.cancel")


async def stops(client: Attacker) -> None:
    """A text of 4 MiB without words is to be repeated."""
    await client.item({"type": "input_text", "text": "." * 4 * MIB + "x"})
    await client.say("response.create")


async def tools(client: Attacker) -> None:
    """Settings with 20 MiB of tools, four times."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    tool = {"type": "function", "name": "f", "parameters": schema}
    frame = {"type": "realtime", "tools": [tool] * 250_000}
    for _ in range(4):
        await client.say("session.update", session=frame)


async def instructions(client: Attacker) -> None:
    """Instructions of 16 MiB, then 200 updates that name nothing."""
    await client.update(instructions="x" * 16 * MIB)
    for _ in range(200):
        await client.update()


async def unknown_fields(client: Attacker) -> None:
    """An event with a million unknown fields."""
    fields = ",".join(f'"f{number}":0' for number in range(1_000_000))
    await client.send(b'{"type":"response.create",%b}' % fields.encode())


async def values(client: Attacker) -> None:
    """A tool whose schema has five million numbers."""
    tool = {"type": "function", "name": "f", "parameters": {"enum": [1] * 5_000_000}}
    await client.update(tools=[tool])


async def tiny_frames(client: Attacker) -> None:
    """A million messages of no byte at all."""
    for _ in range(1_000):
        for _ in range(1_000):
            client.transport.send(b"")
        await client.transport.drain()


async def deaf(client: Attacker) -> None:
    """Reads nothing, and asks for 10 MiB of audio 200 times."""
    await client.item({"type": "input_audio", "audio": _LONG_AUDIO}, item_id="long")
    client.transport.pause()
    for _ in range(200):
        await client.say("conversation.item.retrieve", item_id="long")


async def listed(client: Attacker) -> None:
    """Reads nothing, and has settings repeated 100 000 times."""
    client.transport.pause()
    for _ in range(100_000):
        await client.update()


ATTACKS: list[Callable[[Attacker], Awaitable[None]]] = [
    items,
    audio_items,
    many_items,
    commits,
    transcriptions,
    answers,
    long_turn,
    responses,
    stops,
    tools,
    instructions,
    unknown_fields,
    values,
    tiny_frames,
    deaf,
    listed,
]


class Neighbour:
    """Asks, waits for the answer, and notes how long it took; in a process of its own."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._answered = anyio.Event()
        self._longest_s = 0.0

    async def run(self) -> None:
        """Ask until stdin ends; print the first time, and the longest wait at the end."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._transport.run, self._heard)
            tasks.start_soon(self._ask_on)
            await anyio.to_thread.run_sync(sys.stdin.read)
            with anyio.move_on_after(60):  # until the server has come back
                await self._answered.wait()
            print(self._longest_s, flush=True)
            tasks.cancel_scope.cancel()

    async def _ask_on(self) -> None:
        await self._ask()
        self._longest_s = 0.0
        print("asking", flush=True)
        while True:
            await self._ask()
            await anyio.sleep(0.01)

    async def _ask(self) -> None:
        self._answered = anyio.Event()
        begun_s = perf_counter()
        self._transport.send(b'{"type":"session.update","session":{"type":"realtime"}}')
        await self._answered.wait()
        self._longest_s = max(self._longest_s, perf_counter() - begun_s)

    def _heard(self, frame: bytes) -> None:
        if b'"session.updated"' in frame[:40]:
            self._answered.set()


async def _be_a_neighbour(url: str) -> None:
    await Neighbour(await dial(url)).run()


@asynccontextmanager
async def _process(*arguments: str) -> AsyncGenerator[tuple[Process, bytes], None]:
    """Run Python as a process; yields it and its first line."""
    process = await anyio.open_process([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    try:
        yield process, await _line_of(process)
    finally:
        process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _line_of(process: Process) -> bytes:
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await process.stdout.receive()
    return line


def _memory_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


async def measure(attack: Callable[[Attacker], Awaitable[None]]) -> tuple[float, float, str]:
    """Return the peak in MiB, the longest wait in seconds, and what the client was told."""
    async with _process("-m", "realtime_bus", "serve", "--port", "0") as (server, line):
        url = line.split()[2].decode()
        before = _memory_mib(server.pid, "VmRSS")
        async with (
            _process("-m", "benchmarks.hostile", "--neighbour", url) as (neighbour, _),
            anyio.create_task_group() as tasks,
        ):
            assert neighbour.stdin is not None
            client = Attacker(await dial(url, max_frame_bytes=None))
            tasks.start_soon(client.run)
            with anyio.move_on_after(LASTS_S), suppress(RealtimeBusError):
                await attack(client)
            await anyio.sleep(LASTS_S / 4)
            await neighbour.stdin.aclose()
            longest_s = float(await _line_of(neighbour))
            tasks.cancel_scope.cancel()
        return _memory_mib(server.pid, "VmHWM") - before, longest_s, client.told


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names, with commas between them")
    parser.add_argument("--neighbour", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.neighbour is not None:
        anyio.run(_be_a_neighbour, given.neighbour)
        return
    wanted = {name for name in str(given.only).split(",") if name}
    table = Table("attack", "peak, MiB", "neighbour waits, ms", "the client is told")
    for attack in ATTACKS:
        name = attack.__name__
        if wanted and name not in wanted:
            continue
        peak, longest_s, told = anyio.run(measure, attack)
        print(f"{name:16} {peak:8.0f} MiB {longest_s * 1000:8.0f} ms  {told}", flush=True)
        table.add_row(str(attack.__doc__), f"{peak:.0f}", f"{longest_s * 1000:.0f}", told)
    Console().print(table)


if __name__ == "__main__":
    main()
