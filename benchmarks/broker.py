"""A real NATS server with JetStream, on a free port, or a cluster, for benchmarks and tests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self

import anyio
import nats


class NatsServer:
    """``nats-server`` as a process of its own, which can be killed and started again.

    Args:
        config: Text of a configuration file, for what has no command-line option.

    Attributes:
        folder: Where it keeps its streams.
        url: Where it listens; the same after it was started again.
    """

    def __init__(self, config: str = "") -> None:
        self.folder: Path = Path(mkdtemp(prefix="realtime-bus-nats-"))
        self.url: str = ""
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it listens."""
        beside = Path(sys.executable).with_name("nats-server")
        program = str(beside) if beside.exists() else shutil.which("nats-server")
        if program is None:
            raise FileNotFoundError("nats-server is not installed: uv sync --group dev")
        port = self.url.rsplit(":", 1)[1] if self.url else "-1"
        options = ["-a", "127.0.0.1", "-p", port, "-js", "-sd", str(self.folder / "data")]
        if self._config:
            (self.folder / "nats.conf").write_text(self._config, encoding="utf-8")
            options += ["-c", str(self.folder / "nats.conf")]
        for old in self.folder.glob("*.ports"):
            old.unlink()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # its arguments are ours
                [program, *options, "--ports_file_dir", str(self.folder)], stdout=log, stderr=log
            )
        self.url = self._listens()

    def _listens(self) -> str:
        process = self._process
        until = time.monotonic() + 20
        while process is not None and process.poll() is None and time.monotonic() < until:
            for found in self.folder.glob("*.ports"):
                try:
                    ports: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
                except ValueError:
                    continue  # it is being written
                if ports.get("nats"):
                    return str(ports["nats"][0])
            time.sleep(0.005)
        log = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"nats-server does not listen: {log[-2000:]}")

    def kill(self) -> None:
        """End it as a power cut would end the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def runs(self) -> bool:
        """Whether it has been started and not been killed."""
        return self._process is not None

    @property
    def rss_bytes(self) -> int:
        """How much memory it takes; Linux only."""
        pid = 0 if self._process is None else self._process.pid
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * 4096

    @property
    def cpu_s(self) -> float:
        """How much processor time it has had; Linux only."""
        pid = 0 if self._process is None else self._process.pid
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class NatsCluster:
    """Three servers that keep streams together, on loopback.

    Args:
        stream: The one whose leader `kill` ends.

    Attributes:
        servers: They are called ``n0``, ``n1`` and ``n2``.
    """

    def __init__(self, stream: str) -> None:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = [each.getsockname()[1] for each in sockets]
        for each in sockets:
            each.close()
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.servers: list[NatsServer] = [
            NatsServer(
                f"server_name: n{number}\n"
                f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            )
            for number, port in enumerate(ports)
        ]
        self._stream = stream

    @property
    def url(self) -> str:
        """Where they listen, divided by commas."""
        return ",".join(server.url for server in self.servers)

    def start(self) -> None:
        """Start those that do not run; it takes them seconds to agree on a leader."""
        for server in self.servers:
            if not server.runs:
                server.start()

    def kill(self) -> None:
        """End the stream's leader; a second time the next one, and then nobody can lead."""
        leader = anyio.run(self._leader)
        for number, server in enumerate(self.servers):
            if f"n{number}" == leader:
                server.kill()

    async def _leader(self) -> str:
        urls = [server.url for server in self.servers if server.runs]
        client = await nats.connect(urls)
        try:
            with anyio.fail_after(60):
                while True:
                    with suppress(nats.errors.Error):  # the last one to be killed led the others
                        cluster = (await client.jetstream().stream_info(self._stream)).cluster
                        if cluster is not None and cluster.leader:
                            return str(cluster.leader)
                    await anyio.sleep(0.1)
        finally:
            await client.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        for server in self.servers:
            server.__exit__(None, None, None)
