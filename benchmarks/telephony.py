"""Many calls on one bus in one process: `python -m benchmarks.telephony --calls 200 --seconds 20`.

The application under test is a process of its own: uvicorn, Starlette, one bus, and for each call a
`PhoneCall` with `Interruption` on a session that is dialled over a socket. The world around it is
another process: phones that send 50 frames a second and send every mark back, and a model that
speaks µ-law at real-time pace for half of the time, the calls evenly apart. Every frame of audio
carries the time at which it was sent, and passes through untouched: that is the lateness, from
phone to model and from model to phone. CPU is the application's own, user and system.

`--floor` measures a bridge of thirty lines beside it: json, `websockets`, no account of what was
heard, no barge-in. On a busy machine lateness says more about the machine; CPU a call does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pybase64
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask

from realtime_bus import events as ev

FRAME_MS = 20
DELTA_MS = 100
SPEAKING_S = 5.0
_PLACE: dict[str, Any] = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}


def _stamped(duration_ms: int) -> bytes:
    """Return µ-law whose every frame begins with the time."""
    frame = struct.pack("<q", time.perf_counter_ns()).ljust(8 * FRAME_MS, b"\xff")
    return frame * (duration_ms // FRAME_MS)


def _age_ms(audio: str | bytes) -> float:
    """Return how old audio is, in base64."""
    stamp = pybase64.b64decode(audio[:12])[:8]
    return float((time.perf_counter_ns() - struct.unpack("<q", stamp)[0]) / 1e6)


# --- the world, in its own process


class _Connection(asyncio.Protocol):
    """One end of a WebSocket, as cheap as can be: messages in a callback."""

    masks = False

    def __init__(self) -> None:
        self._rest = b""
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set when connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # it is one of TCP

    def send(self, message: str | bytes) -> None:
        """Send a text message; a client masks with zeros, which changes nothing."""
        data = message.encode() if isinstance(message, str) else message
        bit = 0x80 if self.masks else 0
        head = (
            bytes((0x81, bit | len(data)))
            if len(data) < 126
            else struct.pack("!BBH", 0x81, bit | 126, len(data))
        )
        self.transport.write(head + (bytes(4) if self.masks else b"") + data)

    def messages(self, data: bytes) -> None:
        """Read frames."""
        data = self._rest + data
        at = 0
        while len(data) - at >= 2:
            length, place = data[at + 1] & 0x7F, at + 2
            if length == 126:
                length, place = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, place = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            key = b""
            if data[at + 1] & 0x80:
                key, place = data[place : place + 4], place + 4
            if len(data) < place + length:
                break
            message = data[place : place + length]
            if data[at] & 0x0F == 1:
                self.message(apply_mask(message, key) if key else message)
            at = place + length
        self._rest = data[at:]

    def message(self, message: bytes) -> None:
        """Take a text message."""


class _Model(_Connection):
    """Says who it is, confirms, and speaks half of the time."""

    def __init__(self, world: _World) -> None:
        super().__init__()
        self._world = world
        self._shaking = ServerProtocol(max_size=None)
        self._speaking: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Shake hands first."""
        if self._speaking is not None:
            self.messages(data)
            return
        self._shaking.receive_data(data)
        for event in self._shaking.events_received():
            if isinstance(event, Request):
                self._shaking.send_response(self._shaking.accept(event))
                self.transport.writelines(self._shaking.data_to_send())
                self.send(ev.SessionCreated(session=_session()).to_json())
                self._speaking = asyncio.ensure_future(self._speak())
            elif isinstance(event, Frame):
                self.message(bytes(event.data))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Fall silent."""
        if self._speaking is not None:
            self._speaking.cancel()

    def message(self, message: bytes) -> None:
        """Note how late the caller's audio is, and confirm settings."""
        if b'"input_audio_buffer.append"' in message:
            audio = json.loads(message)["audio"]
            self._world.up_ms.append(_age_ms(audio))
            self._world.up_frames += len(audio) * 3 // 4 // 160
        elif b'"session.update"' in message:
            self.send(ev.SessionUpdated(session=_session()).to_json())

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._world.phase() * 2 * SPEAKING_S)
        due_s = loop.time()
        response = ev.Response(id="r", conversation_id="c", status="in_progress")
        item = ev.MessageItem(id="i", role="assistant", content=[])
        while True:
            self.send(ev.ResponseCreated(response=response).to_json())
            self.send(
                ev.ResponseOutputItemAdded(response_id="r", output_index=0, item=item).to_json()
            )
            for _ in range(int(SPEAKING_S * 1000) // DELTA_MS):
                delta = ev.ResponseOutputAudioDelta(**_PLACE, delta=_stamped(DELTA_MS))
                self.send(delta.to_json())
                due_s += DELTA_MS / 1000
                await asyncio.sleep(due_s - loop.time())
            self.send(ev.ResponseOutputAudioDone(**_PLACE).to_json())
            done = ev.Response(id="r", conversation_id="c", status="completed")
            self.send(ev.ResponseDone(response=done).to_json())
            due_s += SPEAKING_S
            await asyncio.sleep(due_s - loop.time())


def _session() -> ev.RealtimeSession:
    audio = ev.AudioConfig(
        input=ev.AudioInputConfig(format=ev.AudioPCMU()),
        output=ev.AudioOutputConfig(format=ev.AudioPCMU()),
    )
    return ev.RealtimeSession(id="sess", audio=audio)


class _Phone(_Connection):
    """Sends a frame every 20 ms, and every mark back."""

    masks = True

    def __init__(self, world: _World, port: int) -> None:
        super().__init__()
        self._world = world
        self._port = port
        self._open = False
        self._talking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        super().connection_made(transport)
        self.transport.write(
            b"GET /twilio HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Skip the handshake."""
        if not self._open:
            _, _, data = data.partition(b"\r\n\r\n")
            self._open = True
            self._talking = asyncio.ensure_future(self._talk())
        self.messages(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Hang up."""
        if self._talking is not None:
            self._talking.cancel()

    def message(self, message: bytes) -> None:
        """Note how late the model's audio is; send marks back."""
        if message.startswith(b'{"event":"mark"'):
            self._world.marks += 1
            self.send(message)
        elif message.startswith(b'{"event":"media"'):
            _, _, payload = message.partition(b'"payload":"')
            self._world.down_ms.append(_age_ms(payload))
            self._world.down_frames += len(payload) * 3 // 4 // 160

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        self.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
        self.send(
            '{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1","customParameters":{},'
            '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}'
        )
        due_s = loop.time() + self._world.phase() * FRAME_MS / 1000
        chunk = 0
        while True:
            await asyncio.sleep(max(0, due_s - loop.time()))
            chunk += 1
            payload = pybase64.b64encode_as_string(_stamped(FRAME_MS))
            self.send(
                f'{{"event":"media","sequenceNumber":"{chunk + 1}","media":{{"track":"inbound",'
                f'"chunk":"{chunk}","timestamp":"{20 * chunk}","payload":"{payload}"}},'
                '"streamSid":"MZ1"}'
            )
            due_s += FRAME_MS / 1000


class _World:
    """Phones and the model, and what they have seen."""

    def __init__(self) -> None:
        self._phases = 0
        self.forget()

    def forget(self) -> None:
        """Begin to count."""
        self.up_ms: list[float] = []
        self.down_ms: list[float] = []
        self.up_frames = self.down_frames = self.marks = 0

    def phase(self) -> float:
        """Return a number from 0 to 1, evenly spread over those who ask."""
        self._phases += 1
        return (self._phases * 0.6180339887) % 1

    async def run(self, app_port: int, calls: int, seconds: float) -> dict[str, Any]:
        """Hold the calls; return what was seen in the time after they had all begun."""
        loop = asyncio.get_running_loop()
        phones: list[_Phone] = []
        for _ in range(calls):
            _, phone = await loop.create_connection(
                lambda: _Phone(self, app_port), "127.0.0.1", app_port
            )
            phones.append(phone)
            await asyncio.sleep(0.01)
        await asyncio.sleep(2 * SPEAKING_S + 1)  # until everybody has spoken once
        self.forget()
        _say({"counting": True})
        cpu_s, began_s = time.process_time(), loop.time()
        await asyncio.sleep(seconds)
        took_s = loop.time() - began_s
        found = {
            "up_ms": _cuts(self.up_ms),
            "down_ms": _cuts(self.down_ms),
            "up_share": self.up_frames / (took_s * 50 * calls),
            "down_share": self.down_frames / (took_s * 25 * calls),
            "marks": self.marks,
            "world_cpu": (time.process_time() - cpu_s) / took_s,
        }
        _say({"counted": True})
        for phone in phones:
            phone.transport.close()
        return found


def _cuts(found: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(found, n=1000) if len(found) > 1 else [0.0] * 999
    return {"p50": cuts[499], "p99": cuts[989], "max": max(found, default=0.0)}


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _world(calls: int, seconds: float) -> None:
    world = _World()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Model(world), "127.0.0.1", 0)
    _say({"model_port": server.sockets[0].getsockname()[1]})
    told = json.loads(await asyncio.to_thread(sys.stdin.readline))
    _say(await world.run(told["app_port"], calls, seconds))
    server.close()


# --- the application


def _by_hand(url: str, mark_ms: int) -> Callable[[Any], Any]:
    """Return an endpoint without the bus: json, websockets, and a mark behind each piece."""
    from websockets.asyncio.client import connect  # noqa: PLC0415 - not in the world's process

    async def up(websocket: Any, model: Any) -> None:
        async for text in websocket.iter_text():
            message = json.loads(text)
            if message["event"] == "media":
                audio = message["media"]["payload"]
                append = {"type": "input_audio_buffer.append", "audio": audio}
                await model.send(json.dumps(append))

    async def down(websocket: Any, model: Any) -> None:
        number = 0
        async for text in model:
            message = json.loads(text)
            if message["type"] != "response.output_audio.delta":
                continue
            audio = pybase64.b64decode(message["delta"])
            for start in range(0, len(audio), 8 * mark_ms):
                number += 1
                piece = pybase64.b64encode_as_string(audio[start : start + 8 * mark_ms])
                media = {"event": "media", "streamSid": "MZ1", "media": {"payload": piece}}
                mark = {"event": "mark", "streamSid": "MZ1", "mark": {"name": str(number)}}
                await websocket.send_text(json.dumps(media, separators=(",", ":")))
                await websocket.send_text(json.dumps(mark, separators=(",", ":")))

    async def answer(websocket: Any) -> None:
        await websocket.accept()
        async with connect(url, compression=None) as model:
            downward = asyncio.ensure_future(down(websocket, model))
            await up(websocket, model)
            downward.cancel()

    return answer


def _application(model_port: int, mark_ms: int, *, by_hand: bool) -> Any:
    from starlette.applications import Starlette  # noqa: PLC0415 - not in the world's process
    from starlette.routing import WebSocketRoute  # noqa: PLC0415 - the same
    from starlette.websockets import WebSocket  # noqa: PLC0415 - the same

    from realtime_bus import Bus  # noqa: PLC0415 - the same
    from realtime_bus_plugins.interruption import Interruption  # noqa: PLC0415 - the same
    from realtime_bus_plugins.telephony import PhoneCall  # noqa: PLC0415 - the same

    bus = Bus()
    url = f"ws://127.0.0.1:{model_port}/v1/realtime?model=any"

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        async with PhoneCall(websocket, mark_ms=mark_ms) as call:
            plugins = [call, Interruption(call)]
            async with bus.connect(url, api_key="none", plugins=plugins, **call.settings) as s:
                await s.wait_closed()

    endpoint = _by_hand(url, mark_ms) if by_hand else answer
    return Starlette(routes=[WebSocketRoute("/twilio", endpoint)])


async def _measure(
    calls: int, seconds: float, mark_ms: int, loop_name: str, *, by_hand: bool = False
) -> dict[str, Any]:
    import uvicorn  # noqa: PLC0415 - not in the world's process

    world = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.telephony", "--world"),
        *("--calls", str(calls), "--seconds", str(seconds)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert world.stdin is not None
    assert world.stdout is not None

    async def hear() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await world.stdout.readline())  # type: ignore[union-attr]  # a pipe was asked for
        return found

    model_port = (await hear())["model_port"]
    with socket.create_server(("127.0.0.1", 0), backlog=calls) as listening:
        config = uvicorn.Config(
            _application(model_port, mark_ms, by_hand=by_hand),
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            log_level="error",
            lifespan="off",
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        world.stdin.write(json.dumps({"app_port": listening.getsockname()[1]}).encode() + b"\n")
        await hear()
        cpu, began_s = os.times(), time.perf_counter()
        await hear()
        used, took_s = os.times(), time.perf_counter() - began_s
        found = await hear()
        server.should_exit = True
        await serving
    await world.wait()
    cpu_s = used.user - cpu.user + used.system - cpu.system
    return found | {
        "calls": calls,
        "mark_ms": mark_ms,
        "loop": "by hand" if by_hand else loop_name,
        "cpu_ms_per_call_second": 1000 * cpu_s / took_s / calls,
        "cores": cpu_s / took_s,
    }


def _show(found: dict[str, Any]) -> None:
    print(
        f"{found['calls']} calls, a mark every {found['mark_ms']} ms, {found['loop']}: "
        f"{found['cpu_ms_per_call_second']:.2f} ms of CPU a second and call "
        f"({found['cores']:.2f} cores; the world {found['world_cpu']:.2f}); {found['marks']} marks"
    )
    for way, name in (("up", "phone to model"), ("down", "model to phone")):
        cuts = found[f"{way}_ms"]
        print(
            f"  {name}: {100 * found[f'{way}_share']:.1f} % of the audio; late by "
            + ", ".join(f"{key} {value:.1f} ms" for key, value in cuts.items())
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telephony")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--mark-ms", type=int, default=20)
    parser.add_argument("--floor", action="store_true", help="a bridge written by hand, too")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--world", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.world:
        asyncio.run(_world(options.calls, options.seconds))
        return
    run: Callable[..., Any] = asyncio.run
    if options.uvloop:
        import uvloop  # noqa: PLC0415 - of the group `bench`

        run = uvloop.run
    name = "uvloop" if options.uvloop else "asyncio"
    for by_hand in (False, True) if options.floor else (False,):
        measured = _measure(options.calls, options.seconds, options.mark_ms, name, by_hand=by_hand)
        _show(run(measured))


if __name__ == "__main__":
    main()
