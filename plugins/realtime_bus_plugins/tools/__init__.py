"""Tools: the model calls decorated functions, and is told what came of it.

::

    tools = Tools()
    bus = Bus(plugins=[tools])


    @tools.tool
    async def set_timer(minutes: float, label: str = "timer") -> str:
        '''Start a kitchen timer.'''
        return f"{label}: {minutes:g} min"

Which calls run and when the model goes on is decided in ``_rounds.py``, which opens with the rules.
"""

from realtime_bus_plugins._tool_events import ToolFinished, ToolStarted

from ._arguments import Inject
from ._tool import ToolOptions, ToolStatistics
from ._tools import Tools

__all__ = ["Inject", "ToolFinished", "ToolOptions", "ToolStarted", "ToolStatistics", "Tools"]
