"""The decisions behind `Interruption`: what is known, and what is told to the server."""

from ._decisions import SEEN, BargeIn, Cut, Verdict

__all__ = ["SEEN", "BargeIn", "Cut", "Verdict"]
