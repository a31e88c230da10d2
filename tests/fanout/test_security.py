"""Credentials, keys and TLS go to nats-py as it has them; what is secret is shown nowhere."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme

from benchmarks.broker import NatsServer
from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus_plugins.fanout import BrokerUnreachable, NatsFanout, RemoteBus
from tests.bus._peer import joined, speech
from tests.fanout.test_workers import SMALL, Until

pytestmark = pytest.mark.anyio


async def works(url: str, app: str, connect: dict[str, Any]) -> None:
    """Publish something, and handle it."""
    got = Until()
    bus = RemoteBus(
        app, group="g", servers=url, start="all", settings=SMALL, connect=connect, open_timeout_s=5
    )
    bus.on(ev.InputAudioBufferSpeechStarted)(got.event)
    async with bus, NatsFanout(app, servers=url, settings=SMALL, connect=connect) as fanout:
        async with joined(Bus(plugins=[fanout])) as (_, peer):
            peer.say(speech(1))
            await got.has(1)


async def test_a_password_over_tls(app: str, tmp_path: Path) -> None:
    """With it, and with the authority; without either the broker counts as unreachable."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    config = f"""
        tls {{ cert_file: "{tmp_path}/cert.pem", key_file: "{tmp_path}/key.pem" }}
        authorization {{ user: "holder", password: "very secret" }}
    """
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    right: dict[str, Any] = {"user": "holder", "password": "very secret", "tls": trusting}
    with NatsServer(config) as broker:
        url = broker.url.replace("nats://", "tls://")
        await works(url, app, right)
        for wrong in ({**right, "password": "guessed"}, {**right, "tls": None}):
            with pytest.raises(BrokerUnreachable) as refused:
                async with NatsFanout(app, servers=url, connect=wrong, open_timeout_s=0.7):
                    pytest.fail("it was let in")
            assert "secret" not in str(refused.value)
            assert "guessed" not in str(refused.value)


async def test_an_nkey(app: str) -> None:
    """A seed signs the broker's challenge."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(seed).public_key.decode()
    with NatsServer(f'authorization {{ users: [ {{ nkey: "{public}" }} ] }}') as broker:
        await works(broker.url, app, {"nkeys_seed_str": seed.decode()})
