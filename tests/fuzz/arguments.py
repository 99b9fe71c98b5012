"""Doors of arguments: arrays in files, samples, rewrite rules, pipelines and paths."""

from __future__ import annotations

import functools
import io
from random import Random
from typing import Any, Final

import numpy as np

import lgir
from fuzz.door import Case, door, mutated, written
from lgir.cli.files import read_array, read_model
from lgir.passes.pipeline import Pipeline
from lgir.passes.rules import apply_rules, rule

GRAPH: Final = """\
lgir 1
graph "g" {
  input %f : f32[2]
  input %u : u8[2]
  input %b : bit[2]
  input %unread : f32[2]
  %t = threshold %f {levels=[0.7, -3e38]} : bit[4]
  %v = threshold %u {levels=[7]} : bit[2]
  %y = logic(%t, %v, %b) {
    %2 = tap 0[0]
    %3 = tap 1[1]
    %4 = tap 2[0]
    %5 = and %2, %3
    %6 = or %5, %4
    yield %5, %6
  } : bit[2]
  output %y
}
"""


@functools.cache
def _graph() -> lgir.Graph:
    return lgir.parse(GRAPH)


@functools.cache
def _executable() -> Any:
    return lgir.compile(_graph(), "reference")


@functools.cache
def _arrays() -> tuple[bytes, ...]:
    files = []
    for array in (np.arange(6.0).reshape(2, 3), np.zeros((2, 2), np.uint8, order="F")):
        for version in ((1, 0), (2, 0), (3, 0)):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=version)
            files.append(buffer.getvalue())
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return (*files, buffer.getvalue())


@door("npy")
def npy(rng: Random) -> Case:
    """Draw a damaged .npy or .npz file, or one with a header of any words."""
    data = rng.choice(_arrays())
    if rng.random() < 0.4:
        shape = rng.choice(
            ("(2,3)", "(True, 3)", "(99999999999999999999,)", "(-1,)", "(0, 2**62)", "(" * 3000,
             "(1.5,)", "()", "'a'", "(0, 4611686018427387904)", f"({'9' * 5000},)", "(1,)" * 50)
        )  # fmt: skip
        kind = rng.choice(("'<f8'", "'|u1'", "'|O'", "'<U9999999'", "'|V0'", "[('a', '<f4')]", "7"))
        order = rng.choice(("False", "True", "None", "1"))
        head = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
        data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(48)
    if rng.random() < 0.6:
        data = mutated(data, rng)
    path = written(data, "samples.npy")
    return f".npy {data[:300]!r}", lambda: np.asarray(read_array(str(path))).sum()


def _numbers(rng: Random) -> Any:
    """Draw what may be given as samples of two features."""
    kinds = (
        np.float32, np.float64, np.float16, np.longdouble, np.uint8, np.int64, np.bool_,
        np.complex64,
    )  # fmt: skip
    n = rng.choice((0, 1, 2, 65))
    array = np.array([rng.choice((0, 1, 0.7, 255)) for _ in range(2 * n)]).reshape(n, 2)
    kind = rng.randrange(12)
    if kind < 5:
        return array.astype(rng.choice(kinds))
    if kind == 5:
        array = array.astype(rng.choice((np.float32, np.float64)))
        array[:1, :1] = rng.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 5e-324))
        return array
    loop: list[Any] = []
    loop.append(loop)
    return (
        array.tolist(), loop, None, "text", [[10**5000, 1]], np.ma.masked_array(array, array > 0),
    )[kind - 6]  # fmt: skip


@door("samples")
def samples(rng: Random) -> Case:
    """Draw samples of any kind for inputs of all types."""
    n = rng.choice((0, 1, 65))
    good = [np.zeros((n, 2), rng.choice((np.float64, np.float32)))] * 4
    good[1:3] = np.zeros((n, 2), np.uint8), np.zeros((n, 2), rng.choice((np.bool_, np.int64)))
    given = [x if rng.random() < 0.8 else _numbers(rng) for x in good]
    return f"samples {[type(x).__name__ for x in given]}", lambda: _executable()(*given)


_TERMS: Final = (
    "(", "(", ")", ")", "and", "or", "xor", "not", "lut", "0xca", "0x8", "9" * 5000, "?x", "?y",
    "?x", "0", "1", "", "?", "\x1b", "(and ?x ?y)", "(or ?x (not ?y))", "(" * 2000, "-1", "1_0",
)  # fmt: skip


@door("rules")
def rules(rng: Random) -> Case:
    """Draw two expressions of words in any order, and apply the rule if it is one."""
    left, right = (
        " ".join(rng.choice(_TERMS) for _ in range(rng.randrange(8)))
        if rng.random() < 0.6
        else rng.choice(("(and ?x ?y)", "(lut 0xca ?x ?y ?z)", "(and ?y ?x)", "?x"))
        for _ in range(2)
    )
    return f"rule {left!r}, {right!r}", lambda: apply_rules(_graph(), [rule(left, right)])


_STEPS: Final = (
    "fold", "cse", "dce", "lut-map", "{k=3}", "{k=", "}", "fix(", ")", ",", ",", "default", "O1",
    "none", "{k=" + "9" * 5000 + "}", "fix(" * 1000, "nothing", '"', "\x1b[2J", "{k=1e3}", "{k=-1}",
    "{sat=maybe}", "\0",
)  # fmt: skip


@door("pipelines")
def pipelines(rng: Random) -> Case:
    """Draw a pipeline of words in any order."""
    text = "".join(rng.choice(_STEPS) for _ in range(rng.randrange(7)))
    return f"pipeline {text[:300]!r}", lambda: Pipeline.parse(text)


@door("paths")
def paths(rng: Random) -> Case:
    """Draw a path that is no file, with any ending that the command line reads."""
    ending = rng.choice((".onnx", ".lgir", ".blif", ".aig", ".aag", ".pt", ".safetensors", ""))
    path = rng.choice(
        ("none", "a\0b", "/dev/zero", "/dev/tty", ".", "", "/proc/self/mem", "x" * 5000, "\ud800")
    )
    read = rng.choice((read_model, read_array))
    return f"path {path[:50]!r}{ending}", lambda: read(path + rng.choice((ending, "")))
