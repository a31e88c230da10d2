"""Holders, workers and a broker, and what dies of them: nothing that was promised may be lost.

    python -m benchmarks.fanout_run --events 200000
    python -m benchmarks.fanout_run --storm 7
    python -m benchmarks.fanout_run --storm 7 --cluster
    python -m benchmarks.fanout_run --smoke

Rules:

1. Three holders publish numbered events of their sessions, at a steady rate; three workers of one
   group note each one that they handle, in a file of their own, before it is acknowledged. The
   broker is killed and started again twice, a worker is killed once, and so is a holder.
2. Judged by the stream, read at the end from its first event: every event in it was handled by some
   worker; the first handling of each comes after those of all before it in its session; what
   was handled twice is marked as repeated, and has the same id.
3. What surviving holders have published is in the stream, all of it, without a hole; of the holder
   that was killed at least what it knew as acknowledged, without a hole.
4. In a storm, by a seed, something happens every few seconds: a worker is killed, ended, suspended
   for up to four times its lease, or one more comes, or the broker is killed and started again.
5. Reported besides: how many were handled twice, and how long a session waited as it moved.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import anyio
import msgspec
import nats

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.fanout import NatsFanout, RemoteBus, RemoteSession, StreamSettings

from .broker import NatsCluster, NatsServer

_TEXT = b"and here is some of what the assistant has to say about it"


class Handled(msgspec.Struct, array_like=True):
    """What a worker notes of one event."""

    at_ns: int
    session: str
    number: int
    key: str
    repeated: bool


class Plan(NamedTuple):
    """How large a run is."""

    events: int
    sessions: int
    rate: int
    lease_s: float
    partitions: int
    holders: int = 3
    workers: int = 3
    replicas: int = 1

    @property
    def settings(self) -> StreamSettings:
        """How its streams are made."""
        return StreamSettings(
            partitions=self.partitions, lease_s=self.lease_s, replicas=self.replicas
        )


FULL = Plan(events=200_000, sessions=60, rate=3000, lease_s=3.0, partitions=24)
SMOKE = Plan(events=2400, sessions=8, rate=1000, lease_s=1.0, partitions=6, holders=2, workers=2)

STORM = Plan(events=16_000, sessions=24, rate=1000, lease_s=1.0, partitions=8, holders=2, workers=3)


# --- the processes -------------------------------------------------------------------------------


async def hold(url: str, app: str, name: str, plan: Plan, folder: Path) -> None:
    """Publish numbered events of some sessions, then end them."""
    ours = plan.sessions // plan.holders
    each = plan.events // plan.sessions
    batch_s = 0.02
    async with NatsFanout(
        app,
        servers=url,
        settings=plan.settings,
        session_id=lambda session: str(session.state),
        open_timeout_s=60,
        drain_timeout_s=60,
    ) as fanout:
        bus = Bus(plugins=[fanout])
        transports: list[PushTransport] = []
        over = anyio.Event()

        async def call(number: int) -> None:
            transport = PushTransport(send=lambda _frame: None)
            transport.feed(
                ev.SessionCreated(session=ev.RealtimeSession(id=f"{name}-{number}")).to_json()
            )
            async with bus.session(transport, state=f"{name}-{number}"):
                transports.append(transport)
                await over.wait()

        async with anyio.create_task_group() as calls:
            for number in range(ours):
                calls.start_soon(call, number)
            while len(transports) < ours:  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(0.01)  # a few rounds, once
            began_s = time.monotonic()
            per_s = plan.rate / plan.holders / ours
            said = 0
            while said < each:
                due = min(int((time.monotonic() - began_s) * per_s) + 1, each)
                for sequence in range(said, due):
                    frame = (
                        b'{"type":"response.output_text.delta","event_id":"event_%d",'
                        b'"response_id":"resp_1","item_id":"item_1","output_index":0,'
                        b'"content_index":%d,"delta":"%b"}' % (sequence, sequence, _TEXT)
                    )
                    for transport in transports:
                        transport.feed(frame)
                said = due
                statistics = fanout.statistics()
                note = {"said": said, "acknowledged": statistics.acknowledged}
                (folder / f"{name}.part").write_bytes(msgspec.json.encode(note))
                (folder / f"{name}.part").rename(folder / f"{name}.holder")
                await anyio.sleep(batch_s)
            over.set()
        if not await fanout.drain(60):
            sys.exit("the buffer did not empty")
    (folder / f"{name}.end").write_bytes(msgspec.json.encode(msgspec.to_builtins(statistics)))


async def work(url: str, app: str, name: str, plan: Plan, folder: Path) -> None:
    """Note each event that is handled."""
    bus = RemoteBus(
        app, group="g", servers=url, start="all", settings=plan.settings, open_timeout_s=60
    )
    log = os.open(folder / f"{name}.worker", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @bus.on(ev.ResponseOutputTextDelta)
    async def note(event: ev.ResponseOutputTextDelta, session: RemoteSession) -> None:
        arrival = session.arrival()
        assert arrival is not None
        handled = Handled(
            time.monotonic_ns(), session.id, event.content_index, arrival.key, arrival.repeated
        )
        os.write(log, msgspec.json.encode(handled) + b"\n")

    async with bus, anyio.create_task_group() as tasks:

        async def end() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    working.cancel()

        with anyio.CancelScope() as working:
            tasks.start_soon(end)
            (folder / f"{name}.ready").touch()
            await bus.run()
        tasks.cancel_scope.cancel()


# --- the judge -----------------------------------------------------------------------------------


async def published(url: str, app: str) -> dict[str, list[int]]:
    """Return the numbers that each session has in the stream, in order."""
    with anyio.fail_after(240):
        while True:
            try:
                return await _published(url, app)
            except (nats.errors.Error, TimeoutError):  # a cluster may be without a leader
                await anyio.sleep(0.5)


async def _published(url: str, app: str) -> dict[str, list[int]]:
    client = await nats.connect(url.split(","))
    try:
        js = client.jetstream()
        count = (await js.stream_info(app)).state.messages
        subscription = await js.subscribe(f"{app}.>", stream=app, ordered_consumer=True)
        found: dict[str, list[int]] = defaultdict(list)
        for _ in range(count):
            message = await subscription.next_msg(20)
            if message.subject.endswith(".response.output_text.delta"):
                event = ev.ResponseOutputTextDelta.from_json(message.data)
                found[message.subject.split(".")[2]].append(event.content_index)
        return found
    finally:
        await client.close()


def handled(folder: Path) -> list[tuple[str, Handled]]:
    """Return what all workers have noted, in the order in which it happened."""
    notes: list[tuple[str, Handled]] = []
    for path in folder.glob("*.worker"):
        whole = path.read_bytes().split(b"\n")[:-1]  # the last one is cut off, or empty
        notes += [(path.stem, msgspec.json.decode(line, type=Handled)) for line in whole]
    return sorted(notes, key=lambda note: note[1].at_ns)


class Verdict(NamedTuple):
    """What came of a run."""

    in_stream: int
    handled_twice: int
    longest_wait_s: float
    complaints: list[str]


def judge(stream: dict[str, list[int]], notes: Sequence[tuple[str, Handled]]) -> Verdict:
    """Compare what is in the stream with what was handled."""
    complaints = [
        f"{session}: the stream has a hole, a double or another order"
        for session, numbers in stream.items()
        if numbers != list(range(len(numbers)))
    ]
    last: dict[str, int] = {}
    keys: dict[tuple[str, int], str] = {}
    worker_of: dict[str, tuple[str, int]] = {}
    twice, longest_ns = 0, 0
    for worker, note in notes:
        session = note.session
        before, at_ns = worker_of.get(session, (worker, note.at_ns))
        if before != worker:
            longest_ns = max(longest_ns, note.at_ns - at_ns)
        worker_of[session] = (worker, note.at_ns)
        known = keys.setdefault((session, note.number), note.key)
        if note.number == last.get(session, -1) + 1:
            last[session] = note.number
        elif note.number > last.get(session, -1):
            complaints.append(f"{session}: {note.number} after {last.get(session)}")
            last[session] = note.number
        else:
            twice += 1
            if known != note.key or not note.repeated:
                complaints.append(f"{session}: {note.number} comes again, and is not marked so")
    complaints += [
        f"{session}: {last.get(session, -1) + 1} of {len(numbers)} handled"
        for session, numbers in stream.items()
        if last.get(session, -1) + 1 != len(numbers)
    ]
    return Verdict(sum(map(len, stream.values())), twice, longest_ns / 1e9, complaints)


# --- the run -------------------------------------------------------------------------------------


def _start(role: str, url: str, name: str, plan: Plan, folder: Path) -> subprocess.Popen[bytes]:
    size = [str(value) for value in plan]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.fanout_run",
            "--role",
            role,
            url,
            name,
            str(folder),
            *size,
        ]
    )


def _progress(folder: Path) -> int:
    said = 0
    for path in folder.glob("*.holder"):
        said += int(msgspec.json.decode(path.read_bytes())["said"])
    return said


def _until(condition: Any, *, within_s: float, what: str) -> None:
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} took longer than {within_s:g} s")
        time.sleep(0.02)


def _broker(plan: Plan) -> NatsServer | NatsCluster:
    return NatsServer() if plan.replicas == 1 else NatsCluster("chaos")


def run(plan: Plan, *, say: Any = print) -> Verdict:
    """Run it all, and judge."""
    with _broker(plan) as broker, TemporaryDirectory() as path:
        folder = Path(path)
        workers = {
            f"w{i}": _start("work", broker.url, f"w{i}", plan, folder) for i in range(plan.workers)
        }
        _until(
            lambda: len(list(folder.glob("*.ready"))) == plan.workers,
            within_s=30,
            what="starting the workers",
        )
        began_s = time.monotonic()
        holders = {
            f"h{i}": _start("hold", broker.url, f"h{i}", plan, folder) for i in range(plan.holders)
        }
        try:
            verdict = _with_troubles(plan, broker, workers, holders, folder, say)
            say(f"{time.monotonic() - began_s:.1f} s in all, the broker down twice")
        finally:
            for process in (*workers.values(), *holders.values()):
                process.kill()
                process.wait()
        return verdict


def _with_troubles(
    plan: Plan,
    broker: NatsServer | NatsCluster,
    workers: dict[str, subprocess.Popen[bytes]],
    holders: dict[str, subprocess.Popen[bytes]],
    folder: Path,
    say: Any,
) -> Verdict:
    each = plan.events // plan.sessions * plan.holders  # what `said` adds up to
    long_s = 60 + 4 * plan.events / plan.rate

    def at(share: float, what: str) -> None:
        _until(lambda: _progress(folder) >= each * share, within_s=long_s, what=what)
        say(f"{share:.0%} published: {what}")

    def restart(share: float) -> None:
        at(share, "the broker is killed, and started again after half a second")
        broker.kill()
        time.sleep(0.5)
        broker.start()

    restart(0.2)
    at(0.35, "worker w1 is killed")
    workers["w1"].kill()
    restart(0.5)
    at(0.65, "holder h1 is killed")
    holders["h1"].kill()
    acknowledged = int(msgspec.json.decode((folder / "h1.holder").read_bytes())["acknowledged"])
    _until(
        lambda: all(holders[name].poll() is not None for name in holders),
        within_s=long_s,
        what="publishing",
    )
    complaints = [
        f"{name} ended with {holders[name].returncode}"
        for name in holders
        if name != "h1" and holders[name].returncode
    ]
    stream = anyio.run(published, broker.url, "chaos")
    _all_handled(stream, folder)
    verdict = judge(stream, handled(folder))
    for session, numbers in stream.items():
        if not session.startswith("h1") and len(numbers) != plan.events // plan.sessions:
            complaints.append(f"{session}: {len(numbers)} of what was published is in the stream")
    of_killed = sum(len(numbers) for name, numbers in stream.items() if name.startswith("h1"))
    if of_killed < acknowledged - 3 * plan.sessions:  # which counts beginnings, too
        complaints.append(f"h1 knew {acknowledged} as acknowledged, the stream has {of_killed}")
    return verdict._replace(complaints=[*complaints, *verdict.complaints])


class _Troubles(NamedTuple):
    """What may go wrong in a storm."""

    by: random.Random
    plan: Plan
    brokers: NatsServer | NatsCluster
    workers: list[subprocess.Popen[bytes]]
    one_more: Callable[[], None]

    def _living(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self.workers if worker.poll() is None]

    def broker(self) -> None:
        for _ in range(self.by.choice([1, 1, 2])):  # of a cluster the next leader, too
            self.brokers.kill()
        time.sleep(self.by.uniform(0.0, 2.0 * self.plan.lease_s))
        self.brokers.start()

    def come(self) -> None:
        if len(self._living()) <= self.plan.workers:
            self.one_more()

    def suspend(self) -> None:
        suspended = self.by.choice(self._living())
        suspended.send_signal(signal.SIGSTOP)
        time.sleep(self.by.uniform(0.2, 4.0 * self.plan.lease_s))
        suspended.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.by.choice(self._living()).kill()
        self.one_more()

    def end(self) -> None:
        self.by.choice(self._living()).terminate()
        self.one_more()


def storm(plan: Plan, seed: int, *, say: Any = print) -> Verdict:
    """Let things go wrong at random while holders publish, and judge."""
    by = random.Random(seed)  # noqa: S311  # it only has to be the same again
    with _broker(plan) as broker, TemporaryDirectory() as path:
        folder = Path(path)
        workers: list[subprocess.Popen[bytes]] = []

        def come() -> None:
            workers.append(_start("work", broker.url, f"w{len(workers)}", plan, folder))

        for _ in range(plan.workers):
            come()
        holders = [_start("hold", broker.url, f"h{i}", plan, folder) for i in range(plan.holders)]
        troubles = _Troubles(by, plan, broker, workers, come)
        try:
            while any(holder.poll() is None for holder in holders):
                time.sleep(by.uniform(0.5, 3.0))
                what = by.choice(["kill", "kill", "end", "suspend", "come", "broker"])
                say(what)
                getattr(troubles, what)()
            stream = anyio.run(published, broker.url, "chaos")
            _all_handled(stream, folder)
            verdict = judge(stream, handled(folder))
            if any(holder.returncode for holder in holders):
                verdict.complaints.append("a holder has failed")
            return verdict
        finally:
            for process in (*workers, *holders):
                process.kill()
                process.wait()


def _all_handled(stream: dict[str, list[int]], folder: Path) -> None:
    """Wait until everything was handled; whether it was is the judge's to say."""
    wanted = sum(map(len, stream.values()))
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        if len({(note.session, note.number) for _, note in handled(folder)}) >= wanted:
            return
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--events", type=int, default=FULL.events)
    parser.add_argument("--rate", type=int, default=FULL.rate)
    parser.add_argument("--storm", type=int, metavar="SEED")
    parser.add_argument("--cluster", action="store_true", help="three brokers, three replicas")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--role", nargs="*", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.role:
        role, url, name, folder, *size = [*arguments.role, *rest]
        plan = Plan(*(float(value) if "." in value else int(value) for value in size))
        function = hold if role == "hold" else work
        anyio.run(function, url, "chaos", name, plan, Path(folder))
        return
    plan = SMOKE if arguments.smoke else FULL._replace(events=arguments.events, rate=arguments.rate)
    replicas = 3 if arguments.cluster else 1
    if arguments.storm is None:
        verdict = run(plan._replace(replicas=replicas))
    else:
        verdict = storm(STORM._replace(replicas=replicas), arguments.storm)
    print(
        f"{verdict.in_stream} events in the stream, every one handled in order"
        if not verdict.complaints
        else "\n".join(verdict.complaints[:40])
    )
    print(
        f"handled twice, with the same id and marked: {verdict.handled_twice}; "
        f"the longest that a session waited as it moved: {verdict.longest_wait_s:.1f} s"
    )
    sys.exit(1 if verdict.complaints else 0)


if __name__ == "__main__":
    main()
