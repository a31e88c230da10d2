"""The processes of a benchmark over a socket: one that sends, and one for each row.

Every process is ended by its own id, by the end of its standard input or by the time limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

from ._handler import Row

__all__ = ["Certificate", "Client", "Sender", "is_installed"]

_LIMIT_S = 90.0


class Certificate(NamedTuple):
    """Files of a server's certificate for 127.0.0.1.

    Attributes:
        chain: Its key and certificates (PEM).
        authority: Who signed it (PEM).
    """

    chain: Path
    authority: Path


class _Process:
    """A Python module that takes orders, one line of JSON each."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own module, under our own Python
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | (environment or {}),
            text=True,
        )
        self._orders = cast("IO[str]", self._process.stdin)
        self._answers = cast("IO[str]", self._process.stdout)

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order."""
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for an answer.

        Raises:
            RuntimeError: The process has ended, or took too long and was ended.
        """
        guard = threading.Timer(_LIMIT_S, self._process.kill)
        guard.start()
        try:
            line = self._answers.readline()
        finally:
            guard.cancel()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pipe in (self._orders, self._answers):
            with suppress(BrokenPipeError):  # it has ended by itself
                pipe.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Sender(_Process):
    """The sending side.

    Args:
        tls: Send with TLS.

    Attributes:
        url: Where to connect to.
    """

    def __init__(self, tls: Certificate | None = None) -> None:
        super().__init__("realtime_bus.cli._bench._sender", *([str(tls.chain)] if tls else []))
        scheme = "wss" if tls else "ws"
        self.url = f"{scheme}://127.0.0.1:{self.hear()['port']}/v1/realtime"


class Client(_Process):
    """The receiving side, of one row.

    Args:
        module: Where its `rows()` are.
        row: Which of them.
        tls: Trust this authority: every library looks there for those it trusts.
    """

    def __init__(self, module: str, row: Row, tls: Certificate | None = None) -> None:
        environment = {"SSL_CERT_FILE": str(tls.authority)} if tls else {}
        super().__init__(
            "realtime_bus.cli._bench._client", module, row.name, environment=environment
        )

    def run(
        self, sender: Sender, order: dict[str, Any], send: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Open sessions, let the sender send, and return the figures.

        Raises:
            RuntimeError: The process ended: the library could not do it.
        """
        self.tell({"url": sender.url, **order})
        self.hear()
        if send is not None:
            sender.tell(send)
            sender.hear()
        return self.hear()


def is_installed(module: str | None) -> bool:
    """Tell whether a row's module can be imported."""
    try:
        return module is None or find_spec(module) is not None
    except ModuleNotFoundError:  # its package is missing
        return False
