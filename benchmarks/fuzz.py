"""Fuzz every door through which untrusted data enters lgir; only LgirError may leave.

python benchmarks/fuzz.py --inputs 1000000 --seed 0      # all doors, counts per door
python benchmarks/fuzz.py --door torch-file --inputs 1000
python benchmarks/fuzz.py --replay torch-file:0:123      # one input again, with its traceback

The doors are in `tests/fuzz`. Inputs run in worker processes whose address space is limited. An
input that takes longer than the time limit, grows the process beyond the limit, kills it, or ends
in anything but a result or an LgirError is a failure, and the exit code is 1.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzz import DOORS
from fuzz.door import outcome

ADDRESS_SPACE = 3 << 30
"""Bytes of address space of a worker."""

SECONDS = 5.0
"""Time limit of an input."""

GRACE = 15.0
"""Seconds after which a worker is killed whose code does not return to the interpreter."""

WARM_UP = 20
"""Inputs that run before any is measured, so that imports and caches count for none."""


@dataclass
class Tally:
    """What the inputs of one door did."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[int, str] = (0, "")
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, result: dict[str, Any]) -> None:
        self.counts[result["outcome"]] += 1
        self.slowest = max(self.slowest, (result["seconds"], result["input"]))
        self.largest = max(self.largest, (result["growth"], result["input"]))
        if result["outcome"] == "failed":
            self.failures.append((result["input"], result["why"]))


class OverTime(BaseException):
    """An input took too long. No handler of Exception may stop it."""


def _over_time(signum: int, frame: Any) -> None:
    raise OverTime


def _peak_memory() -> int:
    """Return the high-water mark of this process's memory in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_input(door: str, seed: int, number: int) -> dict[str, Any]:
    """Run one input; return its outcome, seconds, and growth of the peak memory in bytes."""
    name, why, result = f"{door}:{seed}:{number}", "", "failed"
    description = "while it was drawn"
    memory, start = _peak_memory(), perf_counter()
    try:
        description, call = DOORS[door](Random(name))
        start = perf_counter()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            result = outcome(call)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except OverTime:
        why = f"took more than {SECONDS} s ({description})"
    except BaseException as error:
        why = f"{type(error).__name__}: {error} ({description})"
    seconds, growth = perf_counter() - start, _peak_memory() - memory
    return {"input": name, "outcome": result, "seconds": seconds, "growth": growth, "why": why}


def work(door: str, seed: int, numbers: range, current: Any, results: Connection) -> None:
    """Run inputs in a process of its own, and send their results in batches."""
    signal.signal(signal.SIGALRM, _over_time)
    for number in range(WARM_UP):
        run_input(door, -1, number)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    batch = []
    for number in numbers:
        current.value = number
        batch.append(run_input(door, seed, number))
        if len(batch) == 100:
            results.send(batch)
            batch = []
    results.send(batch)
    results.send(None)


def fuzz_door(door: str, seed: int, numbers: range) -> Tally:
    """Run the inputs of a door; a worker that dies is replaced and its input is a failure."""
    tally, context = Tally(), multiprocessing.get_context("spawn")
    while numbers:
        current = context.RawValue("q", -1)
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(door, seed, numbers, current, sender))
        worker.start()
        sender.close()
        done, why = _collect(receiver, worker, current, tally)
        if why is None:
            return tally
        failed = max(current.value, numbers.start)
        # The results of a batch that was not sent are counted as those of the inputs that ran.
        tally.counts["lost"] += failed - numbers.start - done
        tally.add(
            {
                "input": f"{door}:{seed}:{failed}",
                "outcome": "failed",
                "seconds": GRACE if "hangs" in why else 0.0,
                "growth": 0,
                "why": why,
            }
        )
        numbers = range(failed + 1, numbers.stop)
    return tally


def _collect(
    receiver: Connection, worker: Any, current: Any, tally: Tally
) -> tuple[int, str | None]:
    """Add results until the worker ends; return their number, and why it ended too early."""
    done, before, since = 0, -2, perf_counter()
    while True:
        if receiver.poll(0.2):
            try:
                batch = receiver.recv()
            except EOFError:
                worker.join()
                code = worker.exitcode
                name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                return done, f"the process died of {name}"
            if batch is None:
                worker.join()
                return done, None
            for result in batch:
                tally.add(result)
            done += len(batch)
        if current.value != before or current.value < 0:
            before, since = current.value, perf_counter()
        elif perf_counter() - since > GRACE:
            worker.kill()
            worker.join()
            return done, f"hangs in code that no signal ends, for {GRACE} s"


@click.command()
@click.option("--inputs", default=10_000, show_default=True, help="Inputs over all doors.")
@click.option("--seed", default=0, show_default=True)
@click.option("--door", "doors", multiple=True, type=click.Choice(list(DOORS)), help="Repeatable.")
@click.option("--replay", metavar="DOOR:SEED:NUMBER", help="Run one input, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(inputs: int, seed: int, doors: tuple[str, ...], replay: str | None, as_json: bool) -> None:
    """Run seeded bad inputs through every door and count what they do."""
    if replay is not None:
        description, call = DOORS[replay.split(":")[0]](Random(replay))
        click.echo(description)
        click.echo(outcome(call))
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # threads of torch would take address space
    names = doors or tuple(DOORS)
    share, rest = divmod(inputs, len(names))
    tallies = {}
    for place, name in enumerate(names):
        tallies[name] = fuzz_door(name, seed, range(share + (place < rest)))
        if not as_json:
            _print_row(name, tallies[name])
    if as_json:
        click.echo(json.dumps({name: vars(tally) for name, tally in tallies.items()}, indent=2))
    if any(tally.failures for tally in tallies.values()):
        sys.exit(1)


def _print_row(name: str, tally: Tally) -> None:
    counts = ", ".join(f"{n:,} {what}" for what, n in sorted(tally.counts.items()))
    click.echo(
        f"{name:20} {counts}; slowest {tally.slowest[0]:.2f} s ({tally.slowest[1]}); largest "
        f"growth {tally.largest[0] / 2**20:,.0f} MiB ({tally.largest[1]})"
    )
    for what, why in tally.failures[:10]:
        click.echo(f"    {what}: {' '.join(why.split())[:300]}")
    if len(tally.failures) > 10:
        click.echo(f"    and {len(tally.failures) - 10:,} more")


if __name__ == "__main__":
    main()
