"""Other people's clients hold a whole conversation with the local server, unpatched.

One command runs those that are installed: ``uv run --group interop pytest tests/interop``.
Each is a process of its own, so that its loop, its warnings and its log are its own too.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTool, ScriptTurn, Voice
from realtime_bus.server import ServerOptions as Options

CLIENTS = Path(__file__).parent / "clients"
LONG = (
    "I have many ideas, and a lot of time to tell you all about them, one after the other, "
    "until somebody stops me. That may take a while, so make yourself comfortable."
)
SAID = {"hello": "Good evening.", "pasta": "How long does the pasta take?", "stop": "Stop it now."}
SCRIPT = [
    ScriptTurn(user=SAID["hello"], assistant="Good evening. What shall we cook?"),
    ScriptTurn(user=SAID["pasta"], tool=ScriptTool(name="look_up", arguments={"dish": "pasta"})),
    ScriptTurn(assistant=f"Nine minutes. {LONG}"),
    ScriptTurn(user=SAID["stop"], assistant="Fine."),
    ScriptTurn(assistant="Written."),
]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the person says, as files of PCM16."""
    made = tmp_path_factory.mktemp("speech")
    for name, text in SAID.items():
        pcm = b"".join(spoken.pcm for spoken in Voice("en-us", pitch=65).synthesize(text))
        (made / f"{name}.pcm").write_bytes(pcm)
    return made


@pytest.fixture
def url() -> Iterator[str]:
    """A server of each client's own."""
    server = RealtimeServer(ScriptResponder(SCRIPT), options=Options(pace=4))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server.serve()) as bound,
    ):
        yield bound.url_for("any")
        assert server.statistics().failed == 0


def hold_conversation(client: str, needs: str, url: str, folder: Path) -> dict[str, Any]:
    """Run a client; return the facts that it reports."""
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed: uv run --group interop …")
    done = subprocess.run(
        [sys.executable, str(CLIENTS / f"{client}.py"), url, str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert facts.pop("errors") == []
    return facts


def test_openai_python(url: str, folder: Path) -> None:
    """Every frame is valid to its models, strictly."""
    assert hold_conversation("openai_python", "openai", url, folder) == {
        "transcripts": list(SAID.values()),
        "said": "Good evening. What shall we cook?",
        "call": '{"dish":"pasta"}',
        "cut": ["cancelled", "turn_detected"],
        "written": "Written.",
        "beside": [None, {"for": "it"}],
    }


def test_openai_agents(url: str, folder: Path) -> None:
    """Its agent calls a tool, is interrupted and truncates what was not heard."""
    assert hold_conversation("openai_agents", "agents", url, folder) == {
        "transcripts": list(SAID.values()),
        "calls": ["pasta"],
        "audio": True,
        "interrupted": True,
    }


def test_livekit(url: str, folder: Path) -> None:
    """Its session keeps its own copy of the conversation, and both stay the same."""
    facts = hold_conversation("livekit_session", "livekit.plugins.openai", url, folder)
    assert facts == {
        "transcripts": list(SAID.values()),
        "call": '{"dish":"pasta"}',
        "said": "Good evening. What shall we cook?",
        "cut": True,
        "written": "Written.",
        "roles": [
            "user", "assistant", "user", "function_call", "function_call_output",
            "assistant", "user", "assistant", "user", "assistant",
        ],
    }  # fmt: skip  # one line a turn


def test_pipecat(url: str, folder: Path) -> None:
    """Its pipeline speaks first, calls the tool and is interrupted; the script goes by turns."""
    facts = hold_conversation("pipecat_pipeline", "pipecat", url, folder)
    assert facts["calls"] == [{"dish": "pasta"}]
    assert facts["transcripts"][:2] == [SAID["hello"], SAID["pasta"]]
