"""Random schedules of speech, tools, faults and reconnects.

`uv run python -m benchmarks.schedules --count 20000 --processes 2`

Each schedule is a seed: a client and the local server on a virtual clock, what the person and the
application do, and what goes wrong (`tests/properties/_faulty.py`, which says what has to hold at
the end). 20 000 by default, spread over processes. The exit code is 1 if one of them left something
in disorder; its seed runs again with `REALTIME_BUS_SEED=… pytest tests/properties/test_faults.py`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec

_ROOT = Path(__file__).resolve().parent.parent
_AGAIN = "REALTIME_BUS_SEED={} pytest tests/properties/test_faults.py"
_SHARD = (sys.executable, "-m", "tests.properties")


class _Line(msgspec.Struct):
    figures: dict[str, int]
    failed: list[tuple[int, list[str]]]


class _Total:
    """What has come of all shards so far."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.figures: Counter[str] = Counter()
        self.failed: list[tuple[int, list[str]]] = []
        self.begun_s = time.monotonic()
        self._lock = threading.Lock()

    def read(self, shard: subprocess.Popen[str]) -> None:
        """Add what a shard writes, until it ends."""
        for text in shard.stdout or ():
            line = msgspec.json.decode(text, type=_Line)
            with self._lock:
                self.figures.update(line.figures)
                self.failed += line.failed
                for seed, complaints in line.failed:
                    sys.stderr.write(f"\n{_AGAIN.format(seed)}: {complaints[0][-300:]}\n")
                done = self.figures["schedules"]
                sys.stderr.write(
                    f"\r{done} of {self.count}, {done / self.taken_s:.1f} a second, "
                    f"{len(self.failed)} failed "
                )

    @property
    def taken_s(self) -> float:
        return time.monotonic() - self.begun_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    total = _Total(options.count)
    edges = [options.count * each // options.processes for each in range(options.processes + 1)]
    shards = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.properties",
                str(options.first + begin),
                str(end - begin),
            ],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for begin, end in pairwise(edges)
    ]
    readers = [threading.Thread(target=total.read, args=(shard,)) for shard in shards]
    try:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    finally:
        for shard in shards:
            shard.kill()
            shard.wait()
    _show(total)
    return int(bool(total.failed) or total.figures["schedules"] < total.count)


def _show(total: _Total) -> None:
    done = total.figures["schedules"]
    print(f"\n{done} schedules in {total.taken_s:.0f} s, {done / total.taken_s:.1f} a second")
    for name, number in sorted(total.figures.items()):
        print(f"  {name:32} {number:>10}")
    for seed, complaints in sorted(total.failed):
        print(f"FAILED: {_AGAIN.format(seed)}")
        for complaint in complaints:
            print(f"    {complaint}")


if __name__ == "__main__":
    sys.exit(main())
