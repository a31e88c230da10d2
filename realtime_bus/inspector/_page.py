"""One HTML page that needs nothing beside itself.

The rules:

1. Nothing that was recorded becomes markup or script: data stands in ``script`` elements of a
   type that no browser runs, as JSON without ``<``, ``>`` and ``&``, or in base64; the page's
   own script puts it into text nodes.
2. A content security policy allows the page's own script and style by their hashes, and nothing
   else: no network, no images, no frames.
3. The frames are one compressed text, a line each, which the page unpacks when it has been drawn.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final

import msgspec

SCRIPTS: Final = (
    "data.js",
    "view.js",
    "waveform.js",
    "layout.js",
    "lanes.js",
    "spans.js",
    "overview.js",
    "audio.js",
    "events.js",
    "details.js",
    "transcript.js",
    "turns.js",
    "pointer.js",
    "keys.js",
    "main.js",
)
"""In the order in which they stand in the page; each uses those before it."""

_UNMARKED = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def page(title: str, data: Any, frames: Iterable[bytes], audio: Sequence[bytes]) -> bytes:
    """Put everything into one page.

    Args:
        title: Of the document.
        data: What is drawn at once, as `static/data.js` describes it.
        frames: The JSON of each event, without line breaks.
        audio: Of each clip.
    """
    static = resources.files("realtime_bus.inspector") / "static"
    style = (static / "page.css").read_text("utf-8")
    script = "\n".join((static / name).read_text("utf-8") for name in SCRIPTS)
    packed = gzip.compress(b"\n".join(frames), 6, mtime=0)
    parts = {
        "title": _text(title),
        "policy": f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}",
        "style": style,
        "script": script,
        "data": msgspec.json.encode(data).decode().translate(_UNMARKED),
        "frames": _base64(packed),
        "audio": "\n".join(
            f'<script type="text/plain" id="audio-{n}">{_base64(each)}</script>'
            for n, each in enumerate(audio)
        ),
    }
    template = (static / "page.html").read_text("utf-8")
    pieces = template.split("{{")
    made = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        made += (parts[name], rest)
    return "".join(made).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _hash(text: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
