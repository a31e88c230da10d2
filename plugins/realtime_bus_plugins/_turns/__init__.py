"""Turns and their times as a state machine. No I/O, no clock: times are given."""

from ._log import TurnLog
from ._turn import Turn, TurnCompleted, TurnOrigin

__all__ = ["Turn", "TurnCompleted", "TurnLog", "TurnOrigin"]
