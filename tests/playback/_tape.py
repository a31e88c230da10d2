"""Recordings by hand, and two halves that are played against each other."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import msgspec

from realtime_bus.recording import Ended, Header, Line, Received, Sent
from realtime_bus.recording._halves._connections import read_connections
from realtime_bus.recording._halves._half import Half

SESSION = {"type": "realtime", "id": "sess_1", "object": "realtime.session", "model": "m"}


def tape(*entries: Any, close: int | None = 1000) -> list[Line]:
    """Return a recording: ``"c type"`` or ``"s type"``, with fields behind it, 100 ms apart.

    Args:
        entries: Each a text, or a text and a dict of fields; or bytes that the server sends.
        close: The close code; None: the recording is cut off.
    """
    lines: list[Line] = [Header(t_us=0, started_at="2026-01-01T00:00:00+00:00")]
    for number, entry in enumerate(entries, 1):
        t_us = number * 100_000
        if isinstance(entry, bytes):
            lines.append(Received(t_us=t_us, broken=b64encode(entry).decode()))
            continue
        fields: dict[str, Any] = {}
        head, fields = (entry, fields) if isinstance(entry, str) else entry
        side, kind = head.split(" ")
        event: dict[str, Any] = {"type": kind, **fields}
        if side == "s":
            event = {"type": kind, "event_id": f"event_{number}", **fields}
        if kind == "session.created":
            event = {**event, "session": SESSION}
        raw = msgspec.Raw(msgspec.json.encode(event))
        lines.append((Sent if side == "c" else Received)(t_us=t_us, frame=raw))
    if close is not None:
        end_us = (len(entries) + 1) * 100_000
        lines.append(Ended(t_us=end_us, code=close, clean=close != 1006))
    return lines


def audio(ms: int) -> dict[str, Any]:
    """Return the fields of an append."""
    return {"audio": b64encode(bytes(48 * ms)).decode()}


def halves(lines: Iterable[Line], **options: Any) -> tuple[Half, Half]:
    """Return the server's half and the client's, at time 0."""
    lines = list(lines)
    server = Half(read_connections(lines, "server")[0], "server", now_s=0.0, **options)
    client = Half(read_connections(lines, "client")[0], "client", now_s=0.0, **options)
    return server, client


def frames(lines: Iterable[Line], kind: type[Received | Sent]) -> list[bytes]:
    """Return one side's frames as they were recorded."""
    return [bytes(line.frame) for line in lines if isinstance(line, kind) and not line.broken]


def event(frame: bytes) -> dict[str, Any]:
    """Return a frame as data."""
    read: dict[str, Any] = msgspec.json.decode(frame)
    return read
