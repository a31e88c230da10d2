"""Sections as a plot: bars of how many times as long as ours each row takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from realtime_bus.cli._bench._figures import Section

__all__ = ["plot"]

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


def plot(sections: list[Section], path: Path) -> bool:
    """Write an SVG; return False if there is nothing to show or no matplotlib."""
    shown = [section for section in sections if section.name in _COLUMNS]
    if not shown:
        return False
    try:
        import matplotlib as mpl  # noqa: PLC0415  # a peer of the group `bench`
    except ImportError:
        return False
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "realtime-bus"  # the same ids in every run
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the backend was chosen

    heights = [1 + len(_ratios(section)) for section in shown]
    figure, axes = plt.subplots(
        len(shown), 1, figsize=(9, 0.32 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for axis, section in zip(axes[:, 0], shown, strict=True):
        _bars(axis, section)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True


def _ratios(section: Section) -> dict[str, float]:
    column = _COLUMNS[section.name]
    found = {row: section.ratio(column, row) for row in section.figures[column]}
    return {row: ratio for row, ratio in found.items() if ratio is not None}


def _bars(axis: Any, section: Section) -> None:
    ratios = dict(sorted(_ratios(section).items(), key=lambda pair: -pair[1]))
    colors = ["#1f6feb" if row.startswith("realtime-bus") else _color(row) for row in ratios]
    bars = axis.barh(list(ratios), list(ratios.values()), color=colors)
    axis.bar_label(bars, [f" {ratio:.2f}x" for ratio in ratios.values()], fontsize=7)
    axis.set_xscale("log")
    title = f"{section.name}: {_COLUMNS[section.name]}, times ours by {section.by}"
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
    axis.axvline(1, color="#1f6feb", linewidth=0.8)
    axis.margins(x=0.12)


def _color(row: str) -> str:
    return "#bbbbbb" if row.startswith(("floor", "bare", "parts")) else "#d29922"
