"""Sections as a plot and as a table: how many times as long as ours each row takes.

`python -m benchmarks.plot results.json docs/benchmarks.svg` draws what `python -m benchmarks`
wrote, on a log scale, and prints the table that stands first in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any

_COLUMNS = {
    "decode": "mix, read",
    "dispatch": "1 of 46 handlers",
    "encode": "1 s",
    "full_speed": "CPU a frame",
    "paced_50": "% of a core a session",
    "barge_in": "sent to handled",
    "memory_idle": "a session",
    "startup": "import",
}
"""Of each section, the column that stands for it."""

_TABLE = (
    ("Decode a frame of the mix, audio read", "decode"),
    ("Dispatch, one plain handler of 46 types", "dispatch"),
    ("Encode one second of audio", "encode"),
    ("Socket to handler at full speed, CPU a frame", "full_speed"),
    ("50 sessions at real-time pace, CPU", "paced_50"),
    ("… with TLS", "paced_50_tls"),
    ("speech_started behind 200 slow audio deltas (median)", "barge_in"),
    ("Memory of an idle session", "memory_idle"),
    ("Import time", "startup"),
)
_PEERS = ("openai-python", "openai-agents", "LiveKit", "Pipecat")

_WIDTH, _LEFT, _RIGHT, _ROW = 860, 300, 60, 16
_OURS, _FLOOR, _PEER = "#1f6feb", "#bbbbbb", "#d29922"
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}" '
    'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>'
)


def plot(sections: list[dict[str, Any]], path: Path) -> None:
    """Write an SVG of sections, given as plain data."""
    lines: list[str] = []
    y = 0
    for section in sections:
        if section["name"] in _COLUMNS:
            y += 2 * _ROW
            column = _COLUMNS[section["name"]]
            title = f"{section['name']}: {column}, times ours by {section['by']}"
            lines.append(f'<text x="8" y="{y - 4}" font-weight="bold">{escape(title)}</text>')
            figures = section["figures"][column].items()
            ratios = {row: found["times_ours"] for row, found in figures}
            y = _bars({row: ratio for row, ratio in ratios.items() if ratio}, y, lines)
    text = "\n".join([_HEAD.format(_WIDTH, y + _ROW), *lines, "</svg>\n"])
    path.write_text(text, encoding="utf-8")


def _bars(ratios: dict[str, float], y: int, lines: list[str]) -> int:
    """Draw one section from `y` downwards, and return where it ends."""
    rows = sorted(ratios.items(), key=lambda pair: -pair[1])
    low, high = 0.7 * min(1.0, *ratios.values()), max(2.0, *ratios.values())
    scale = (_WIDTH - _LEFT - _RIGHT) / math.log(high / low)
    one = round(_LEFT + scale * math.log(1 / low))
    for row, ratio in rows:
        width = max(1, round(scale * math.log(ratio / low)))
        is_floor = row.startswith(("floor", "bare", "parts"))
        color = _OURS if row.startswith("realtime-bus") else _FLOOR if is_floor else _PEER
        base = y + _ROW - 4
        lines += [
            f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end">{escape(row)}</text>',
            f'<rect x="{_LEFT}" y="{y + 2}" width="{width}" height="{_ROW - 3}" fill="{color}"/>',
            f'<text x="{_LEFT + width + 4}" y="{base}">{ratio:.2f}x</text>',
        ]
        y += _ROW
    lines.append(f'<path d="M{one} {y - _ROW * len(rows)}V{y}" stroke="{_OURS}"/>')
    return y


def table(sections: list[dict[str, Any]]) -> str:
    """Return the main rows in Markdown, of the sections that there are."""
    found = {section["name"]: section for section in sections}
    lines = ["| | " + " | ".join(("bare floor", *_PEERS)) + " |", "|---" * 6 + "|"]
    for label, name in _TABLE:
        if name not in found:
            continue
        figures = found[name]["figures"]
        rows = figures.get(_COLUMNS.get(name, _COLUMNS["paced_50"]), next(iter(figures.values())))
        ratios = {row: each["times_ours"] for row, each in rows.items()}
        floors = [row for row in ratios if row.startswith(("floor", "bare", "parts"))]
        floor = next((row for row in floors if "Sans-I/O" in row), next(iter(floors), ""))
        lines.append(" | ".join([f"| {label}", *(_cell(ratios.get(n)) for n in (floor, *_PEERS))]))
        lines[-1] += " |"
    return "\n".join(lines)


def _cell(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.1f}"


if __name__ == "__main__":
    results = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    plot(results["sections"], Path(sys.argv[2]))
    print(table(results["sections"]))
