"""The pure connection: bytes in, messages out, no socket and no clock."""

from __future__ import annotations

import inspect
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from realtime_bus.errors import TransportClosed, UsageError
from realtime_bus.transport import dial
from realtime_bus.transport._connection import Connection
from realtime_bus.transport._handshake import (
    ConnectionOptions,
    HttpRefusal,
    UpgradeRequest,
    client_connection,
    server_connection,
)

URI = parse_uri("ws://localhost/v1/realtime?model=x")


def shuttle(left: Connection, right: Connection) -> tuple[list[bytes], list[bytes]]:
    """Carry bytes both ways until both are silent; return what left and right received."""
    got_left: list[bytes] = []
    got_right: list[bytes] = []
    while True:
        rightwards, leftwards = left.outgoing(), right.outgoing()
        if not rightwards and not leftwards:
            return got_left, got_right
        got_right += right.receive(b"".join(rightwards))
        got_left += left.receive(b"".join(leftwards))


def pair(**options: object) -> tuple[Connection, Connection]:
    """Return an open client and server."""
    limits = ConnectionOptions(**options)  # type: ignore[arg-type] - each test gives fitting ones
    client, server = client_connection(URI, options=limits), server_connection(options=limits)
    shuttle(client, server)
    assert client.accepted
    assert server.accepted
    return client, server


def raw(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    """Serialize one frame."""
    return Frame(opcode, data, fin).serialize(mask=mask)


def test_the_handshake_opens_both_sides() -> None:
    """The request is there at once; after the answer both sides are open."""
    client, server = client_connection(URI), server_connection()
    assert client.opening
    assert server.opening
    shuttle(client, server)
    assert client.is_open
    assert server.is_open
    assert not client.opening
    assert client.handshake_error is None


def test_messages_are_bytes() -> None:
    """Text and binary messages both come out as bytes, in both directions."""
    client, server = pair()
    client.send_text('{"a":"ü"}'.encode())
    server.send_text(b"x" * 70_000)
    assert shuttle(client, server) == ([b"x" * 70_000], ['{"a":"ü"}'.encode()])
    messages = client.receive(raw(Opcode.BINARY, b"\xff\x00"))
    assert messages == [b"\xff\x00"]
    assert type(messages[0]) is bytes


def test_bad_utf8_is_the_decoders_business() -> None:
    """A text message that is not UTF-8 is handed out and does not end the connection."""
    client, _ = pair()
    assert client.receive(raw(Opcode.TEXT, b"\xff\xfe")) == [b"\xff\xfe"]
    assert client.is_open


@given(
    messages=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(min_value=1, max_value=200), max_size=60),
    pieces=st.integers(min_value=1, max_value=4),
)
@settings(max_examples=80, deadline=None)
def test_any_split_of_the_bytes_yields_the_same_messages(
    messages: list[bytes], cuts: list[int], pieces: int
) -> None:
    """However the stream is cut into chunks and frames, the messages are the same."""
    client, _ = pair()
    stream = b""
    for message in messages:
        step = max(1, -(-len(message) // pieces))
        parts = [message[i : i + step] for i in range(0, len(message), step)] or [b""]
        for index, part in enumerate(parts):
            opcode = Opcode.CONT if index else Opcode.TEXT
            stream += raw(opcode, part, fin=index == len(parts) - 1)
            stream += raw(Opcode.PING, b"between")
    received: list[bytes] = []
    while stream:
        size = cuts.pop() if cuts else len(stream)
        received += client.receive(stream[:size])
        stream = stream[size:]
    assert received == messages


def test_endless_empty_fragments_cost_no_memory() -> None:
    """Empty fragments add nothing to what is kept."""
    client, _ = pair()
    client.receive(raw(Opcode.TEXT, b"a", fin=False))
    client.receive(raw(Opcode.CONT, b"", fin=False) * 1000)
    assert client.receive(raw(Opcode.CONT, b"b")) == [b"ab"]


@pytest.mark.parametrize("fragments", [1, 3])
def test_a_message_above_the_limit_fails_with_1009(fragments: int) -> None:
    """The limit holds for a whole message, however many fragments it comes in."""
    client, server = pair(max_frame_bytes=100)
    parts = [b"x" * 101] if fragments == 1 else [b"x" * 40] * 3
    for index, part in enumerate(parts):
        opcode = Opcode.CONT if index else Opcode.TEXT
        client.receive(raw(opcode, part, fin=index == len(parts) - 1))
    info = client.close_info()
    assert (info.code, info.clean) == (1009, False)
    assert info.error is not None
    shuttle(client, server)
    assert server.close_info().code == 1009
    with pytest.raises(TransportClosed):
        client.send_text(b"x")


def test_broken_framing_fails_with_1002() -> None:
    """A masked frame from a server is against the protocol."""
    client, _ = pair()
    client.receive(raw(Opcode.TEXT, b"x", mask=True))
    assert client.close_info().code == 1002
    assert client.receive(raw(Opcode.TEXT, b"x")) == []


def test_pings_are_answered() -> None:
    """A ping is answered with a pong of the same payload."""
    client, server = pair()
    server.receive(raw(Opcode.PING, b"abc", mask=True))
    assert server.outgoing() == [raw(Opcode.PONG, b"abc")]
    assert client.is_open


def test_of_several_pings_only_the_last_is_answered() -> None:
    """RFC 6455 5.5.3: while an answer is unsent, it may make room for the next one."""
    client, server = pair()
    client.send_text(b"before")
    server.send_text(b"before")
    for number in range(5):
        server.receive(raw(Opcode.PING, b"%d" % number, mask=True))
    assert server.outgoing(congested=True) == [raw(Opcode.TEXT, b"before")]
    server.send_text(b"after")
    assert server.outgoing(congested=True) == [raw(Opcode.TEXT, b"after")]
    assert server.outgoing() == [raw(Opcode.PONG, b"4")]
    assert server.outgoing() == []
    server.receive(raw(Opcode.PING, b"5", mask=True))
    server.close()
    assert server.outgoing()[-1] == raw(Opcode.CLOSE, b"\x03\xe8")


def test_a_clean_close() -> None:
    """Both sides learn code and reason; the stream ends from the server's side first."""
    client, server = pair()
    client.close(4000, "done")
    assert client.closing
    assert not client.is_open
    shuttle(client, server)
    assert server.wants_eof
    assert not client.wants_eof
    client.receive_eof()
    assert client.outgoing() == []
    assert client.wants_eof
    server.receive_eof()
    assert client.closed
    assert server.closed
    for side in (client, server):
        info = side.close_info()
        assert (info.code, info.reason, info.clean, info.error) == (4000, "done", True, None)


def test_an_echo_without_code_leaves_ours() -> None:
    """A peer that answers our close with an empty one does not hide our code."""
    client, _ = pair()
    client.close(4002, "bye")
    client.receive(raw(Opcode.CLOSE, b""))
    assert (client.close_info().code, client.close_info().reason) == (4002, "bye")


def test_an_empty_close_is_1005() -> None:
    """A peer that closes without a code is reported as 1005, clean."""
    client, _ = pair()
    client.receive(raw(Opcode.CLOSE, b""))
    assert (client.close_info().code, client.close_info().clean) == (1005, True)


def test_closing_twice_keeps_the_first() -> None:
    """The second close has no effect."""
    client, server = pair()
    client.close(4000, "first")
    client.close(4001, "second")
    shuttle(client, server)
    assert server.close_info().reason == "first"


def test_a_long_reason_is_shortened() -> None:
    """A reason is cut to what a close frame holds, and never inside a character."""
    client, server = pair()
    client.close(1000, "ü" * 100)
    shuttle(client, server)
    assert server.close_info().reason == "ü" * 61


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2000, 5000])
def test_codes_that_may_not_be_sent_are_refused(code: int) -> None:
    """A code that RFC 6455 reserves raises, naming the ones that may be used."""
    client, _ = pair()
    with pytest.raises(UsageError, match=rf"{code} may not be sent; use 1000"):
        client.close(code)
    assert client.is_open


def test_a_lost_stream_is_1006() -> None:
    """A stream that breaks is 1006 with the error that broke it."""
    client, _ = pair()
    client.receive_eof(ConnectionResetError("reset"))
    info = client.close_info()
    assert (info.code, info.clean) == (1006, False)
    assert isinstance(info.error, ConnectionResetError)
    assert client.receive(b"more") == []


def test_frames_in_the_handshakes_bytes_are_returned() -> None:
    """Messages that come with the 101 are returned by the same receive."""
    client, server = client_connection(URI), server_connection()
    server.receive(b"".join(client.outgoing()))
    server.send_text(b"hello")
    assert client.receive(b"".join(server.outgoing())) == [b"hello"]


def test_process_request_sees_the_request() -> None:
    """The server's callback gets path, headers and subprotocols."""
    seen: list[UpgradeRequest] = []
    client = client_connection(
        URI, headers={"Authorization": "Bearer k", "X-A": "1"}, subprotocols=["realtime", "b"]
    )
    server = server_connection(process_request=seen.append, subprotocols=["b", "realtime"])
    shuttle(client, server)
    assert seen[0].path == "/v1/realtime?model=x"
    assert seen[0].headers["authorization"] == "Bearer k"
    assert seen[0].headers["user-agent"] == "realtime-bus"
    assert seen[0].subprotocols == ["realtime", "b"]
    assert client.subprotocol == "b"


def test_a_client_without_subprotocols_is_served() -> None:
    """A server that knows subprotocols does not insist on one."""
    client, server = client_connection(URI), server_connection(subprotocols=["realtime"])
    shuttle(client, server)
    assert client.is_open
    assert client.subprotocol is None


def test_a_refusal_is_sent_as_it_is() -> None:
    """The server's refusal reaches the client with status, type and body."""
    client = client_connection(URI)
    server = server_connection(process_request=lambda _: HttpRefusal(status=401, body=b'{"a":1}'))
    shuttle(client, server)
    assert not client.accepted
    assert not server.accepted
    assert server.wants_eof
    assert client.response is not None
    assert client.response.status_code == 401
    assert bytes(client.response.body) == b'{"a":1}'
    assert client.response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01 garbage\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_a_bad_request_never_raises(data: bytes) -> None:
    """Whatever a client sends instead of a request, the server hangs up in order."""
    server = server_connection()
    assert server.receive(data) == []
    assert not server.accepted
    server.outgoing()
    assert server.wants_eof
    assert not server.opening


def test_broken_frames_behind_the_request_do_not_raise() -> None:
    """A request with rubbish behind it in the same bytes ends in order."""
    client, server = client_connection(URI), server_connection()
    server.receive(b"".join(client.outgoing()) + b"\xff\xff\xff\xff")
    assert not server.is_open
    server.outgoing()
    assert server.wants_eof


@pytest.mark.parametrize("value", ["sk-secret\n", "a\r\nX: y", "sk-é\u2019"])
def test_a_header_value_that_cannot_be_sent_is_not_told(value: str) -> None:
    """A key with a line break is refused with a hint, without its text."""
    with pytest.raises(UsageError, match="line break") as caught:
        client_connection(URI, headers={"Authorization": value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "upgrade", "a b", ""])
def test_a_header_that_is_not_the_callers_is_refused(name: str) -> None:
    """Headers of the handshake itself, and names that are none, cannot be set."""
    with pytest.raises(UsageError, match="cannot be set"):
        client_connection(URI, headers={name: "x"})


def test_a_subprotocol_that_cannot_be_sent_is_not_told() -> None:
    """A subprotocol with a forbidden character is refused without its text."""
    with pytest.raises(UsageError) as caught:
        client_connection(URI, subprotocols=["openai-insecure-api-key.sk secret"])
    assert "secret" not in str(caught.value)


def test_a_callers_host_header_replaces_ours() -> None:
    """A header that the request has anyway is replaced, not doubled."""
    client = client_connection(URI, headers={"Host": "example.org"})
    request = b"".join(client.outgoing())
    assert request.count(b"Host:") == 1
    assert b"Host: example.org\r\n" in request


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Even at DEBUG on every logger, handshake and frames leave no trace in a log."""
    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "websockets.server"):
        caplog.set_level(logging.DEBUG, logger=name)
    client = client_connection(URI, headers={"Authorization": "Bearer sk-secret"})
    server = server_connection()
    shuttle(client, server)
    client.close()
    shuttle(client, server)
    assert caplog.records == []
    assert "sk-secret" not in repr(client) + str(vars(client))


class TestKeepalive:
    """The keepalive on a virtual clock."""

    def test_a_ping_goes_out_after_the_interval(self) -> None:
        """Nothing before the interval, a ping at it."""
        client, server = pair(ping_interval_s=20, ping_timeout_s=10)
        assert client.next_deadline() is None
        client.start_keepalive(100)
        assert client.next_deadline() == 120
        client.tick(119.9)
        assert client.outgoing() == []
        client.tick(120)
        assert len(client.outgoing()) == 1
        assert client.next_deadline() == 130
        assert server.is_open

    def test_silence_after_a_ping_fails_with_1011(self) -> None:
        """No sign of life within the timeout fails the connection."""
        client, _ = pair(ping_interval_s=20, ping_timeout_s=10)
        client.start_keepalive(0)
        client.tick(20)
        client.tick(29)
        assert client.is_open
        client.tick(30)
        info = client.close_info()
        assert (info.code, info.reason, info.clean) == (1011, "keepalive ping timeout", False)
        assert isinstance(info.error, TimeoutError)
        assert client.next_deadline() is None

    def test_a_pong_keeps_it_going(self) -> None:
        """An answered ping is followed by the next one, an interval after the last."""
        client, server = pair(ping_interval_s=20, ping_timeout_s=10)
        client.start_keepalive(0)
        for now in (20, 40, 60):
            client.tick(now)
            shuttle(client, server)
            client.tick(now + 10)
            assert client.is_open
            assert client.next_deadline() == now + 20

    def test_any_bytes_are_a_sign_of_life(self) -> None:
        """A peer whose pong is stuck behind a long message is not taken for dead."""
        client, _ = pair(ping_interval_s=20, ping_timeout_s=10)
        client.start_keepalive(0)
        client.tick(20)
        client.receive(raw(Opcode.TEXT, b"x" * 100)[:50])
        client.tick(30)
        assert client.is_open

    def test_a_long_timeout_does_not_delay_the_next_ping(self) -> None:
        """With a timeout above the interval, pings still go out at the interval."""
        client, server = pair(ping_interval_s=5, ping_timeout_s=20)
        client.start_keepalive(0)
        client.tick(5)
        shuttle(client, server)
        assert client.next_deadline() == 10
        client.tick(10)
        assert len(client.outgoing()) == 1
        client.tick(15)
        assert client.next_deadline() == 30
        client.tick(30)
        assert client.close_info().code == 1011

    def test_who_looks_late_looks_again(self) -> None:
        """Our own loop stood still: the peer is judged a moment later, when we have read."""
        client, _ = pair(ping_interval_s=5, ping_timeout_s=8)
        client.start_keepalive(0)
        client.tick(5)
        client.tick(10)
        client.tick(20)  # 7 s late: what came meanwhile may wait in the socket
        assert client.is_open
        assert client.next_deadline() == 21
        client.receive(raw(Opcode.PONG, b""))
        client.tick(21)
        assert client.is_open

    def test_who_looks_late_forgives_once(self) -> None:
        """A loop that is always late notices a dead peer, too."""
        client, _ = pair(ping_interval_s=5, ping_timeout_s=8)
        client.start_keepalive(0)
        client.tick(5)
        client.tick(20)
        client.tick(40)
        assert client.close_info().code == 1011

    def test_a_peer_that_lives_gets_pings_after_a_late_look(self) -> None:
        """The next ping has its own doubt."""
        client, server = pair(ping_interval_s=5, ping_timeout_s=8)
        client.start_keepalive(0)
        for now in (5, 100, 200, 300):
            client.tick(now)
            client.tick(now + 30)
            shuttle(client, server)
            client.tick(now + 60)
            shuttle(client, server)
        assert client.is_open

    def test_a_dead_link_is_noticed_within_13_s(self) -> None:
        """By the defaults of `dial`, whenever it dies."""
        options = {
            name: inspect.signature(dial).parameters[name].default
            for name in ("ping_interval_s", "ping_timeout_s")
        }
        client, server = pair(**options)
        client.start_keepalive(0)
        client.tick(5)
        shuttle(client, server)  # the last sign of life, just behind the ping
        now = 5.0
        while client.is_open:
            now = client.next_deadline() or 0
            client.tick(now)
        assert 8 <= now - 5 <= 13

    def test_starting_again_forgives(self) -> None:
        """After a pause in reading the clock starts anew."""
        client, _ = pair(ping_interval_s=20, ping_timeout_s=10)
        client.start_keepalive(0)
        client.tick(20)
        client.start_keepalive(29)
        client.tick(30)
        assert client.is_open
        assert client.next_deadline() == 49

    def test_both_can_be_switched_off(self) -> None:
        """Without an interval there are no pings, without a timeout no failure."""
        client, _ = pair(ping_interval_s=None)
        client.start_keepalive(0)
        assert client.next_deadline() is None
        client.tick(1e9)
        assert client.outgoing() == []
        client, _ = pair(ping_interval_s=20, ping_timeout_s=None)
        client.start_keepalive(0)
        for now in (20, 40, 60):
            client.tick(now)
            assert len(client.outgoing()) == 1
        assert client.is_open
