"""A device that is kept open for a session: opened off the event loop, watched, opened again.

The rules:

1. Opening and closing happen in worker threads. A device that was closed while it was being opened
   is closed as soon as it is open.
2. A device is lost when PortAudio says that its stream has ended, or when it has neither taken nor
   given anything for 2.5 s. `DeviceLost` tells so, and it is opened again, at once and then
   with longer pauses, until the session ends; `DeviceReopened` tells of it. The pauses are taken,
   too, before opening one anew that was lost within 2.5 s: it would come and go all the time.
3. What waits to be played waits for a lost device, for 3 s. Then it is dropped, and what comes
   meanwhile with it: nobody waits for it any longer. Where no session keeps the device, at once.
4. A device that runs dry three times within 5 s, the first second aside, does not bear so small a
   block: it is opened again with the next larger one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

import anyio
import anyio.to_thread

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.log import get_logger

from ._portaudio import Block, Device, Kind, NoSoundDevice, Stream, open_stream
from ._recorder import CallSoon, from_other_threads

BLOCKS_MS = (10, 20, 40)
_LOOK_EVERY_S = 0.5
_STALLED_S = 2.5
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_PATIENCE_S = 3.0
_XRUNS = 3
_XRUN_LOOKS = 10

_log = get_logger("realtime_bus.plugins.devices")


class DeviceLost(ev.BusEvent, frozen=True, kw_only=True, tag="bus.device_lost"):
    """A microphone or loudspeaker has ended by itself: unplugged, or its sound server is gone.

    Attributes:
        kind: Which of the two.
        device: Which device was asked for; None for the default.
    """

    kind: Literal["microphone", "speaker"]
    device: int | str | None


class DeviceReopened(ev.BusEvent, frozen=True, kw_only=True, tag="bus.device_reopened"):
    """A lost device is back.

    Attributes:
        kind: Which of the two.
        device: Which device was asked for; None for the default.
        after_s: How long it was gone.
    """

    kind: Literal["microphone", "speaker"]
    device: int | str | None
    after_s: float


class Keeper:
    """Opens, keeps open and closes one device.

    Args:
        kind: Which way.
        device: Which device.
        make: Returns what PortAudio is to call, for a stream of some rate and channels.
        on_given_up: Called when a lost device has been waited for long enough.
    """

    def __init__(
        self,
        kind: Kind,
        device: Device,
        make: Callable[[Stream], Block],
        *,
        on_given_up: Callable[[], object] = lambda: None,
    ) -> None:
        self.kind: Kind = kind
        self._device = device
        self._make = make
        self._on_given_up = on_given_up
        self._opening = threading.Lock()  # held while it is opened
        self._lock = threading.Lock()  # held for a moment: whether it is wanted, and what is open
        self._stream: Stream | None = None
        self._wanted = False
        self._block = 0
        self._closing: threading.Thread | None = None

    @property
    def stream(self) -> Stream | None:
        """The open stream, if there is one."""
        return self._stream

    def open(self) -> None:
        """Open the device; nothing happens if it is open. Blocks: call it in a worker thread.

        Raises:
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        self.want()
        self.open_if_wanted()

    def want(self) -> None:
        """Have it opened by `open_if_wanted`, unless it is closed before."""
        with self._lock:
            self._wanted = True

    def open_if_wanted(self) -> None:
        """Open the device, if it is not open, and was not closed since it was wanted.

        Raises:
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        with self._opening:
            with self._lock:
                closing = self._closing
            if closing is not None:
                closing.join()
            if self._stream is not None or not self._wanted:
                return
            stream = open_stream(self.kind, self._device, self._make, BLOCKS_MS[self._block])
            if not self._take(stream):
                stream.close()

    def _take(self, stream: Stream) -> bool:
        with self._lock:
            if self._wanted:  # not closed while it was being opened
                self._stream = stream
            return self._wanted

    def close(self, *, wait: bool = False) -> None:
        """Let what was played be heard to its end, in a thread of its own, and close the device.

        Args:
            wait: Return when it is closed.
        """
        with self._lock:
            self._wanted = False
            stream, self._stream = self._stream, None
            if stream is not None:
                # no daemon: the interpreter's end waits for it, and so the last words are heard
                self._closing = threading.Thread(
                    target=_discard,
                    args=(stream,),
                    kwargs={"drain": self.kind == "speaker"},
                    name=f"realtime-bus closes the {self.kind}",
                )
                self._closing.start()
            closing = self._closing
        if wait and closing is not None:
            closing.join()

    async def keep(self, session: Session) -> None:
        """Keep the device open until cancelled: watch it, and open it again when it is lost.

        Raises:
            MissingExtra: It is not open, and the package sounddevice is not installed.
            NoSoundDevice: It is not open, and could not be opened.
        """
        if self._stream is None:  # nobody has prepared it
            await anyio.to_thread.run_sync(self.open_if_wanted)
        call_soon = from_other_threads()
        xruns: deque[int] = deque(maxlen=_XRUN_LOOKS)
        looks = short_lived = 0
        opened_s = anyio.current_time()
        while (stream := self._stream) is not None:
            await self._look(stream, call_soon)
            if stream.lost or stream.idle_s > _STALLED_S:
                lived_s = anyio.current_time() - opened_s
                short_lived = short_lived + 1 if lived_s < _STALLED_S else 0
                await self._recover(session, stream, short_lived)
                opened_s, looks = anyio.current_time(), 0
                continue
            looks += 1
            if looks == 2:  # opening is rough
                xruns.clear()
            xruns.append(stream.xruns)
            if xruns[-1] - xruns[0] >= _XRUNS and self._block + 1 < len(BLOCKS_MS):
                await self._enlarge(stream)
                looks = 0

    async def _look(self, stream: Stream, call_soon: CallSoon) -> None:
        """Wait until it is time to look at a stream: now and then, and when it is lost."""
        lost = anyio.Event()
        stream.on_lost = lambda: call_soon(lost.set)
        with anyio.move_on_after(_LOOK_EVERY_S):
            if not stream.lost:
                await lost.wait()

    async def _recover(self, session: Session, stream: Stream, attempt: int) -> None:
        lost_s = anyio.current_time()
        if not self._leave(stream):
            return
        session.emit(DeviceLost(kind=self.kind, device=self._device))
        await anyio.to_thread.run_sync(_discard, stream)
        waiting = True
        while True:
            if attempt:
                await anyio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S)) - 1])
            attempt += 1
            try:
                await anyio.to_thread.run_sync(self.open_if_wanted)
                break
            except NoSoundDevice as error:
                _log.debug("device.not_yet_back", kind=self.kind, error=str(error))
            if waiting and anyio.current_time() - lost_s >= _PATIENCE_S:
                waiting = False
                self._on_given_up()
        if self._stream is not None:  # not closed meanwhile
            after_s = anyio.current_time() - lost_s
            session.emit(DeviceReopened(kind=self.kind, device=self._device, after_s=after_s))

    async def _enlarge(self, stream: Stream) -> None:
        self._block += 1
        _log.warning(
            "device.runs_dry", kind=self.kind, device=self._device, block_ms=BLOCKS_MS[self._block]
        )
        if self._leave(stream):
            await anyio.to_thread.run_sync(_discard, stream)
            await anyio.to_thread.run_sync(self.open_if_wanted)

    def _leave(self, stream: Stream) -> bool:
        """Let go of a stream; tell whether it was ours to close still."""
        with self._lock:
            ours = self._stream is stream
            if ours:
                self._stream = None
            return ours


def _discard(stream: Stream, *, drain: bool = False) -> None:
    """Close a stream that may be gone already."""
    try:
        stream.close(drain=drain)
    except Exception as error:  # noqa: BLE001 - PortAudio's, of a device that is not there any more
        _log.debug("device.not_closed", error=str(error))
