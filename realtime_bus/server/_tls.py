"""TLS for the local server: some clients speak nothing but ``wss``."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from realtime_bus.errors import MissingExtra, UsageError


class SelfSigned(msgspec.Struct, frozen=True):
    """A certificate for development, as files.

    Attributes:
        ca_file: What clients are to trust (``NODE_EXTRA_CA_CERTS``, ``SSL_CERT_FILE``).
        cert_file: The server's certificate, and its key.
    """

    ca_file: Path
    cert_file: Path

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What the server is given."""
        return ssl_context_of(self.cert_file)


def self_signed(folder: str | Path, *hosts: str) -> SelfSigned:
    """Return the certificate for development in a folder; make one if there is none.

    Args:
        folder: Where ``ca.pem`` and ``server.pem`` are, or are made.
        hosts: Names and addresses that it is made for, beside those of this machine's loopback.

    Raises:
        MissingExtra: There is none, and trustme is not installed.
        OSError: The files cannot be written.
    """
    folder = Path(folder)
    found = SelfSigned(folder / "ca.pem", folder / "server.pem")
    if found.ca_file.exists() and found.cert_file.exists():
        return found
    try:
        import trustme  # noqa: PLC0415  # optional
    except ImportError as error:
        raise MissingExtra("trustme", extra="tls") from error
    authority = trustme.CA(organization_name="realtime-bus, for development")
    names = dict.fromkeys(("localhost", "127.0.0.1", "::1", *hosts))
    issued = authority.issue_cert(*names)
    folder.mkdir(parents=True, exist_ok=True)
    found.cert_file.touch(mode=0o600)  # the key is in it
    issued.private_key_and_cert_chain_pem.write_to_path(found.cert_file)
    authority.cert_pem.write_to_path(found.ca_file)
    return found


def ssl_context_of(
    certfile: str | Path | None, keyfile: str | Path | None = None
) -> ssl.SSLContext:
    """Return what a server needs to speak TLS.

    Args:
        certfile: Its certificate with those above it, in PEM.
        keyfile: Its key; None if it is in `certfile`.

    Raises:
        UsageError: A key without a certificate; or the files are not what they should be.
    """
    if certfile is None:
        raise UsageError("a key needs a certificate: give certfile too")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:  # `ssl.SSLError` is one
        files = f"{certfile}" if keyfile is None else f"{certfile} and {keyfile}"
        raise UsageError(f"no certificate and key in {files}: {error}") from error
    return context
