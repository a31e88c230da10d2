"""Sessions per core: 50 at real-time pace beside all peers, and some hundreds of ours alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from realtime_bus.cli._bench import _socket
from realtime_bus.cli._bench._figures import Section
from realtime_bus.cli._bench._processes import Certificate
from realtime_bus.cli._bench._rows import FLOOR, OURS

from . import _peers
from ._peers import PIPECAT, rows

__all__ = ["crowd", "rows", "section", "with_tls"]

CROWD = 400


def section(
    *, rounds: int, sessions: int = 50, progress: Callable[[], object] = lambda: None
) -> Section:
    """Measure all that is installed."""
    return _socket.paced(
        rows(), module=_peers.__name__, rounds=rounds, sessions=sessions, progress=progress
    )


def with_tls(
    *, rounds: int, sessions: int = 50, progress: Callable[[], object] = lambda: None
) -> Section:
    """Measure the same with TLS: whose cost is OpenSSL's, so that the libraries' shrinks.

    Raises:
        ModuleNotFoundError: trustme is not installed; it makes the certificate.
    """
    import trustme  # noqa: PLC0415  # of the group `dev`

    with TemporaryDirectory() as folder:
        files = Certificate(Path(folder) / "chain.pem", Path(folder) / "authority.pem")
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(files.chain)
        authority.cert_pem.write_to_path(files.authority)
        return _socket.paced(
            [row for row in rows() if row.name != PIPECAT],
            module=_peers.__name__,
            rounds=rounds,
            sessions=sessions,
            tls=files,
            progress=progress,
        )


def crowd(
    *, rounds: int, sessions: int = CROWD, progress: Callable[[], object] = lambda: None
) -> Section:
    """Measure ours and the floor with as many sessions as a core should hold."""
    few = [row for row in rows() if row.name in {OURS, FLOOR}]
    return _socket.paced(
        few,
        module=_peers.__name__,
        rounds=rounds,
        sessions=sessions,
        seconds=3.0,
        warm=0,
        progress=progress,
    )
