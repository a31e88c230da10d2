"""Test voice agents: a scripted server and a person, in memory and in virtual time.

::

    async def test_it_knows_how_long(place_call):
        async with place_call(agent, [tool_call("look_up", dish="pasta"), "Nine minutes."]) as call:
            await call.person.says("How long does the pasta take?")
            assert await call.person.hears() == "Nine minutes."
        call.assert_called("look_up", dish="pasta")

The fixture ``place_call`` comes with the package: its test runs on asyncio and trio. Without
pytest, `run_virtual` runs it.
"""

from realtime_bus._virtual_time import Backend, VirtualTimeLoop, run_virtual, virtual_time

from ._call import Call, CutOff
from ._ear import Utterance
from ._golden import GoldenFile, assert_replays
from ._model import Answer, Pause, ScriptedModel, tool_call
from ._person import Person, Sentence
from ._placed import PlacedCall, place_call
from ._story import STORY_TITLE, ToolUse
from ._voices import Voices

__all__ = [
    "STORY_TITLE",
    "Answer",
    "Backend",
    "Call",
    "CutOff",
    "GoldenFile",
    "Pause",
    "Person",
    "PlacedCall",
    "ScriptedModel",
    "Sentence",
    "ToolUse",
    "Utterance",
    "VirtualTimeLoop",
    "Voices",
    "assert_replays",
    "place_call",
    "run_virtual",
    "tool_call",
    "virtual_time",
]
