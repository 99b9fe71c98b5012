"""Circuits that are no networks: BLIF in, the whole optimizer, BLIF out, and outside tools agree.

Small ones of the kinds in the EPFL benchmarks (arithmetic and control), and random netlists.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lgir
from lgir.formats.blif import parse_blif, read_blif, write_blif

pytest.importorskip("pysat")

ABC = shutil.which("berkeley-abc") or shutil.which("abc")
PIPELINES = ("O3", "O1,sweep,rewrite,lut-map{k=4},sweep", "O1,reassociate,sweep,lut-map{k=6}")


class Netlist:
    """A BLIF model, written gate by gate. Signals are names."""

    def __init__(self) -> None:
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.lines: list[str] = []

    def input(self, name: str, n: int) -> list[str]:
        names = [f"{name}{i}" for i in range(n)]
        self.inputs += names
        return names

    def gate(self, rows: str, *operands: str) -> str:
        name = f"n{len(self.lines)}"
        body = "".join(f"{row} 1\n" for row in rows.split())
        self.lines.append(f".names {' '.join([*operands, name])}\n{body}")
        return name

    def land(self, a: str, b: str) -> str:
        return self.gate("11", a, b)

    def lor(self, a: str, b: str) -> str:
        return self.gate("1- -1", a, b)

    def xor(self, a: str, b: str) -> str:
        return self.gate("01 10", a, b)

    def mux(self, select: str, one: str, zero: str) -> str:
        return self.gate("11- 0-1", select, one, zero)

    def majority(self, a: str, b: str, c: str) -> str:
        return self.gate("11- 1-1 -11", a, b, c)

    def output(self, *signals: str) -> None:
        for signal in signals:
            name = f"out{len(self.outputs)}"
            self.outputs.append(name)
            self.lines.append(f".names {signal} {name}\n1 1\n")

    def add(self, a: list[str], b: list[str]) -> list[str]:
        """The sum of two numbers, least significant bit first, with its carry."""
        carry, total = self.gate(""), []
        for x, y in zip(a, b, strict=True):
            total.append(self.xor(self.xor(x, y), carry))
            carry = self.majority(x, y, carry)
        return [*total, carry]

    def text(self) -> str:
        inputs, outputs = " ".join(self.inputs), " ".join(self.outputs)
        head = f".model circuit\n.inputs {inputs}\n.outputs {outputs}\n"
        return head + "".join(self.lines) + ".end\n"


def adder(c: Netlist) -> None:
    c.output(*c.add(c.input("a", 12), c.input("b", 12)))


def shifter(c: Netlist) -> None:
    word = c.input("a", 16)
    for i, select in enumerate(c.input("s", 4)):
        word = [c.mux(select, word[j - (1 << i)], word[j]) for j in range(16)]
    c.output(*word)


def multiplier(c: Netlist) -> None:
    a, b = c.input("a", 5), c.input("b", 5)
    zero = c.gate("")
    total = [zero] * 5
    for y in b:
        *total, carry = c.add([c.land(x, y) for x in a], total)
        c.output(total[0])
        total = [*total[1:], carry]
    c.output(*total)


def comparator(c: Netlist) -> None:
    a, b = c.input("a", 10), c.input("b", 10)
    less, greater = c.gate(""), c.gate("")
    for x, y in zip(a, b, strict=True):
        less = c.gate("01- 0-1 -11", x, y, less)
        greater = c.gate("10- 1-1 -01", x, y, greater)
    c.output(less, c.gate("00", less, greater), greater)


def decoder(c: Netlist) -> None:
    lines: list[str] = []
    for bit in c.input("a", 5):
        no = c.gate("0", bit)
        lines = [c.land(x, y) for x in lines for y in (no, bit)] or [no, bit]
    c.output(*lines)


def priority(c: Netlist) -> None:
    free, remainder = None, [c.gate("") for _ in range(4)]
    for i, request in enumerate(c.input("r", 16)):
        first = request if free is None else c.land(request, free)
        free = c.gate("0", request) if free is None else c.gate("10", free, request)
        remainder = [c.lor(x, first) if i >> j & 1 else x for j, x in enumerate(remainder)]
    c.output(*remainder, free)


def voter(c: Netlist) -> None:
    numbers = [[x] for x in c.input("v", 15)]
    while len(numbers) > 1:
        pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
        rest = numbers[2 * len(pairs) :]
        widest = max(len(x) for pair in pairs for x in pair)
        zero = c.gate("")
        wide = [[x + [zero] * (widest - len(x)) for x in pair] for pair in pairs]
        numbers = [c.add(*pair) for pair in wide] + rest
    c.output(numbers[0][3])  # 8 of 15


def random_circuit(seed: int) -> Callable[[Netlist], None]:
    def build(c: Netlist) -> None:
        rng = np.random.default_rng(seed)
        signals = c.input("x", int(rng.integers(4, 12)))
        for _ in range(int(rng.integers(20, 120))):
            k = int(rng.integers(1, 5))
            table = rng.random(1 << k) < 0.4
            table[rng.integers(1 << k)] = True  # ABC takes no empty cover of signals
            rows = [f"{row:0{k}b}" for row in np.flatnonzero(table)]
            late = rng.random() < 0.5
            low = max(0, len(signals) - 12) if late else 0
            chosen = rng.choice(np.arange(low, len(signals)), size=k, replace=False).tolist()
            signals.append(c.gate(" ".join(rows), *(signals[i] for i in chosen)))
        c.output(*(signals[i] for i in rng.choice(len(signals), size=6).tolist()), signals[-1])

    return build


CIRCUITS = [adder, shifter, multiplier, comparator, decoder, priority, voter]


def check(build: Callable[[Netlist], None], folder: Path, pipelines: tuple[str, ...]) -> None:
    circuit = Netlist()
    build(circuit)
    source = folder / "source.blif"
    source.write_text(circuit.text())
    graph = read_blif(source)
    for passes in pipelines:
        after, _ = lgir.optimize(graph, passes)
        write_blif(after, folder / "after.blif")
        reread = read_blif(folder / "after.blif")
        assert reread.inputs == graph.inputs
        verdict = lgir.verify(graph, reread, method="sat")
        assert verdict.equivalent is True, (passes, str(verdict))
        if ABC is not None:
            answer = subprocess.run(
                [ABC, "-c", f"cec -n {source} {folder / 'after.blif'}"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert "Networks are equivalent" in answer, (passes, answer)


@pytest.mark.parametrize("build", CIRCUITS, ids=lambda f: f.__name__)
def test_circuits_come_back_equivalent(build, tmp_path):
    check(build, tmp_path, PIPELINES)


def test_random_circuits_come_back_equivalent(tmp_path):
    for seed in range(25):
        check(random_circuit(seed), tmp_path, PIPELINES[seed % 3 : seed % 3 + 1])


def test_generated_circuits_compute_what_they_are_called():
    rng = np.random.default_rng(0)
    for build, of in [
        (adder, lambda a, b: a + b),
        (multiplier, lambda a, b: a * b),
        (comparator, lambda a, b: (a < b) + 2 * (a == b) + 4 * (a > b)),
    ]:
        circuit = Netlist()
        build(circuit)
        graph = parse_blif(circuit.text())
        n = graph.inputs[0].size // 2
        x = rng.random((200, 2 * n)) < 0.5
        number = 1 << np.arange(n)
        y = lgir.compile(graph, "reference")(x)
        expected = of(x[:, :n] @ number, x[:, n:] @ number)
        assert np.array_equal(y @ (1 << np.arange(y.shape[1])), expected), build.__name__
    circuit = Netlist()
    voter(circuit)
    x = rng.random((200, 15)) < 0.5
    y = lgir.compile(parse_blif(circuit.text()), "reference")(x)
    assert np.array_equal(y[:, 0], x.sum(axis=1) >= 8)
