"""Machine code for trees: its encoding, instruction selection, windows, and whole functions."""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest

from lgir.backends.llvm.avx512.evex import Gpr, Memory, Sequences
from lgir.backends.llvm.avx512.executable_memory import ExecutableMemory
from lgir.backends.llvm.avx512.operand_windows import find_operand_windows
from lgir.backends.llvm.avx512.selection import ACCUMULATOR, gate_tables, select, shape_of
from lgir.backends.llvm.avx512.trees import geometry_of, tree_functions
from lgir.backends.llvm.target import resolve_target
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.steps import ConeStep
from lgir.errors import BackendError

needs_avx512 = pytest.mark.skipif(
    not resolve_target("native").ternary, reason="this CPU has no AVX-512"
)
LINE_WORDS = 8
TAP = ConeExpr("tap")


def assembled(lines: list[str]) -> bytes:
    """LLVM's encoding of instructions in Intel's syntax."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    text = "\n".join(
        f'module asm "{line}"'
        for line in [
            ".intel_syntax noprefix",
            ".text",
            "begin:",
            *lines,
            "nop",
            "nop",
            "nop",
            "nop",
        ]
    )
    machine = llvm.Target.from_triple("x86_64-linux-gnu").create_target_machine(cpu="x86-64-v4")
    module = llvm.parse_assembly(text)
    module.triple = "x86_64-linux-gnu"
    file = llvm.ObjectFileRef.from_data(machine.emit_object(module))
    for section in file.sections():
        if section.name() == ".text" or section.name() == b".text":
            return bytes(section.data()).partition(b"\x90" * 4)[0]
    raise AssertionError("no code")


# -- encoding ------------------------------------------------------------------------------------


def test_vector_instructions_are_encoded_as_llvm_does() -> None:
    rng = np.random.default_rng(0)
    n = 200
    bases = np.array([Gpr.RSI, Gpr.RDX, Gpr.R8, Gpr.R9, Gpr.RBX, Gpr.R13, Gpr.RAX, Gpr.RBP])
    s = Sequences(n)
    target, second, third = rng.integers(0, 32, (3, n))
    table = rng.integers(0, 256, n)
    base = rng.choice(bases, n)
    lines = rng.choice([-129, -128, -1, 1, 5, 127, 128, 5000], n)
    memory = Memory(base, lines)
    in_memory = rng.random(n) < 0.5
    s.load(target, memory)
    s.move(target, second, memory)
    s.store(7, memory)
    s.ternary(19, second, np.where(in_memory, -1, third), table, memory)
    expected = []
    for i in range(n):
        place = f"zmmword ptr [{Gpr(base[i]).name.lower()} + {64 * lines[i]}]"
        last = place if in_memory[i] else f"zmm{third[i]}"
        expected += [
            f"vmovdqa32 zmm{target[i]}, {place}",
            f"vmovdqa32 zmm{target[i]}, zmm{second[i]}",
            f"vmovdqa32 {place}, zmm7",
            f"vpternlogd zmm19, zmm{second[i]}, {last}, {table[i]}",
        ]
    assert s.finish().tobytes() == assembled(expected)


def test_instructions_are_left_out_where_asked() -> None:
    s = Sequences(3)
    where = np.array([True, False, True])
    s.load(np.array([1, 2, 3]), Memory(np.full(3, Gpr.RSI), np.full(3, 2)), where)
    s.add(Gpr.R9, 1 << 20, ~where)
    assert s.length.tolist() == [7, 7, 7]
    load = "vmovdqa32 zmm{}, zmmword ptr [rsi + 128]"
    expected = [load.format(1), "add r9, 0x100000", load.format(3)]
    assert s.finish().tobytes() == assembled(expected)


def test_scalar_instructions_are_encoded_as_llvm_does() -> None:
    s = Sequences(1)
    expected = []
    for register in Gpr:
        name = register.name.lower()
        s.push(register)
        s.pop(register)
        s.lea(register, Gpr.R15, np.array([-123456]))
        s.lea(Gpr.RDX, Gpr.R14, np.array([1 << 30]))
        s.add(register, 1000)
        s.copy(register, Gpr.RDI)
        s.copy(Gpr.RDI, register)
        expected += [
            f"push {name}",
            f"pop {name}",
            f"lea {name}, [r15 - 123456]",
            f"lea rdx, [r14 + {1 << 30}]",
            # LLVM has a shorter form for this register.
            f"add {name}, 1000" if register != Gpr.RAX else ".byte 0x48,0x81,0xc0,0xe8,3,0,0",
            f"mov {name}, rdi",
            f"mov rdi, {name}",
        ]
    s.set(Gpr.RBP, 70000)
    s.count_down(Gpr.RCX)
    s.jump(back=s.length)
    s.leave()
    # A jump this far back needs 32 bits, which the assembler then uses.
    expected += ["mov ebp, 70000", "dec ecx", "jnz begin", "vzeroupper", "ret"]
    assert s.finish().tobytes() == assembled(expected)


# -- selection -----------------------------------------------------------------------------------


def random_expr(rng: np.random.Generator, leaves: int, widest: int = 2) -> ConeExpr:
    if leaves == 1:
        return TAP if widest == 2 or rng.random() < 0.8 else ConeExpr("lut", (TAP,))
    width = int(rng.integers(2, min(leaves, widest) + 1))
    edges = [0, *sorted(rng.choice(np.arange(1, leaves), width - 1, replace=False)), leaves]
    kind = "lut" if width > 2 else "and" if rng.random() < 0.7 else "xor"
    args = (random_expr(rng, int(b - a), widest) for a, b in itertools.pairwise(edges))
    return ConeExpr(kind, tuple(args))


def perfect(depth: int, width: int = 2) -> ConeExpr:
    kind = "and" if width == 2 else "lut"
    return TAP if not depth else ConeExpr(kind, (perfect(depth - 1, width),) * width)


def evaluate(expr: ConeExpr, masks: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """By the definition of templates: `masks` (M + 1,), leaves (L, ...) words."""
    ones = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    words = [ones if m else np.uint64(0) for m in masks]
    pending = list(leaves)

    def walk(node: ConeExpr) -> np.ndarray:
        if not node.args:
            return pending.pop(0)
        inputs = [walk(arg) for arg in node.args]
        if node.kind == "lut":
            return table(inputs)
        a, b = inputs
        if node.kind == "xor":
            return a ^ b
        m1, m2 = words.pop(0), words.pop(0)
        return (a & (b ^ m1)) ^ (b & m2)

    def table(inputs: list[np.ndarray]) -> np.ndarray:
        bits = [words.pop(0) for _ in range(1 << len(inputs))]
        value = np.zeros_like(leaves[0])
        for i, bit in enumerate(bits):
            here = np.full_like(value, ones)
            for place, x in enumerate(reversed(inputs)):
                here &= x if i >> place & 1 else ~x
            value |= here & bit
        return value

    value = walk(expr)
    return value ^ words.pop(0)


def test_a_perfect_tree_takes_five_instructions() -> None:
    tables = np.full((1, 7), 0b1000)
    shape = shape_of(perfect(3))
    assert [len(select(shape, tables, 1, pooled=pooled)) for pooled in (False, True)] == [5, 5]


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("widest", [2, 3, 4, 6])
@pytest.mark.parametrize("leaves", [1, 2, 3, 4, 5, 7, 8, 16])
def test_instructions_compute_the_tree(leaves: int, widest: int, pooled: bool) -> None:
    rng = np.random.default_rng(leaves)
    for _ in range(4):
        expr = random_expr(rng, leaves, widest)
        masks = rng.random((3, expr.num_masks() + 1)) < 0.5
        values = rng.integers(0, 2, (leaves, 200)).astype(bool)
        old = rng.integers(0, 2, 200).astype(bool)
        found = select(shape_of(expr), gate_tables(expr, masks), 1, pooled=pooled)
        for tree in range(3):
            registers = dict(enumerate(rng.integers(0, 2, (40, 200)).astype(bool)))
            registers[ACCUMULATOR] = old
            for step in found:
                a, b, c = (
                    registers[x] if x >= 0 else values[-1 - x]
                    for x in (step.target, step.second, step.third)
                )
                index = a.astype(int) << 2 | b.astype(int) << 1 | c
                table = 0xAA if step.table is None else step.table[tree]
                registers[step.target] = (table >> index & 1).astype(bool)
            words = np.where(values, np.uint64(0xFFFF_FFFF_FFFF_FFFF), np.uint64(0))
            expected = evaluate(expr, masks[tree], words).astype(bool)
            np.testing.assert_array_equal(
                registers[ACCUMULATOR], expected | old if pooled else expected
            )


# -- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_windows_know_what_is_read_again(step: int) -> None:
    reads = np.random.default_rng(step).integers(100, 130, (50, 12))
    w = find_operand_windows(reads, step)
    for tree in range(len(reads)):
        cells = sorted(set(reads[tree].tolist()))
        assert w.line[tree, : len(cells)].tolist() == cells
        assert w.line[tree, w.cell[tree]].tolist() == reads[tree].tolist()
        for cell, line in enumerate(cells):
            assert w.last[tree, cell] == max(np.flatnonzero(reads[tree] == line))
            assert w.early[tree, cell] == (bool(step) and line + step in cells)
            if w.early[tree, cell]:
                assert cells[w.late[tree, cell]] == line + step
        assert not w.early[tree, len(cells) :].any()


# -- functions -----------------------------------------------------------------------------------


def random_step(
    rng: np.random.Generator,
    expr: ConeExpr,
    space: tuple[int, int],
    steps: tuple[int, int],
    shifts: list[int],
    trees: int,
    channels: int,
) -> ConeStep:
    """Trees that read lines of channels of 40 x 12, in a window of 3 x 3, and write after these."""
    pitch = 12
    size = 40 * pitch
    window = (np.arange(3)[:, None] * pitch + np.arange(3)).ravel()
    leaves = len(expr.leaves())
    own = rng.integers(0, channels, (trees, min(channels, 10)))
    channel = np.take_along_axis(own, rng.integers(0, own.shape[1], (trees, leaves)), axis=1)
    places = channel * size + rng.choice(window, (trees, leaves))
    out = 1000 * size + np.arange(trees) * (space[0] * space[1])
    return ConeStep(
        expr,
        places,
        rng.random((trees, expr.num_masks() + 1)) < 0.5,
        out,
        (1, *space),
        (0, steps[0] * pitch, steps[1]),
        (0, space[1], 1),
        np.array(shifts),
        0,
    )


def run(code: np.ndarray, planes: np.ndarray) -> None:
    memory = ExecutableMemory(code)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(memory.address)(planes.ctypes.data)


def aligned(lines: int) -> np.ndarray:
    room = np.zeros((lines + 1) * LINE_WORDS, np.uint64)
    start = -room.ctypes.data % 64 // 8
    return room[start : start + lines * LINE_WORDS].reshape(lines, LINE_WORDS)


def check(runs: list[list[ConeStep]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = 1 + max(int(s.out.max()) + s.space[1] * s.space[2] for r in runs for s in r)
    for code, steps in zip(tree_functions(runs), runs, strict=True):
        planes = aligned(lines)
        planes[:] = rng.integers(0, 1 << 63, planes.shape, dtype=np.uint64) << np.uint64(1)
        expected = planes.copy()
        for step in steps:
            grid = np.indices(step.space).reshape(3, -1)
            reads, writes = step.in_step @ grid, step.out_step @ grid
            for tree in range(len(step.leaves)):
                value = np.zeros((grid.shape[1], LINE_WORDS), np.uint64)
                for shift in step.shifts:
                    leaves = planes[step.leaves[tree][:, None] + reads + shift]
                    value |= evaluate(step.expr, step.masks[tree], leaves)
                expected[step.out[tree] + writes] = value
        run(code, planes)
        np.testing.assert_array_equal(planes, expected)


@needs_avx512
@pytest.mark.parametrize("space", [(1, 2), (2, 1), (1, 7), (2, 2), (3, 3), (4, 5), (16, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
def test_functions_compute_their_trees(space: tuple[int, int], stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(space[0] * 10 + space[1])
    for shifts in ([0], [0, 1, 12, 13], list(range(8))):
        for leaves, widest in ((1, 2), (3, 3), (8, 2), (8, 6)):
            expr = random_expr(rng, leaves, widest)
            step = random_step(rng, expr, space, stride, shifts, 5, 3)
            check([[step]], leaves)


@needs_avx512
@pytest.mark.parametrize("channels", [1, 2, 9, 40])
def test_registers_run_out_without_harm(channels: int) -> None:
    rng = np.random.default_rng(channels)
    for expr in (perfect(5), perfect(2, 4), perfect(2, 6), random_expr(rng, 32, 6)):
        for shifts in ([0, 1, 12, 13], list(range(16))):
            step = random_step(rng, expr, (3, 4), (2, 2), shifts, 8, channels)
            check([[step]], channels)


@needs_avx512
def test_runs_mix_templates_and_geometries() -> None:
    rng = np.random.default_rng(3)
    runs = []
    for space in ((2, 2), (14, 4), (2, 2)):
        steps, out = [], 0
        for leaves in (8, 5, 8, 3):
            step = random_step(rng, random_expr(rng, leaves), space, (2, 2), [0, 1], 30, 4)
            steps.append(replace(step, out=step.out + out))
            out += 30 * space[0] * space[1]
        runs.append(steps)
    check(runs, 0)


def test_other_steps_keep_their_tables() -> None:
    rng = np.random.default_rng(5)
    step = random_step(rng, perfect(3), (4, 4), (1, 1), [0], 1, 2)
    assert geometry_of(step) is not None
    cut = ConeExpr("and", (TAP, ConeExpr("cut")))
    for other in ({"expr": cut}, {"space": (2, 4, 4)}, {"space": (1, 1, 1)}, {"stage": None}):
        assert geometry_of(replace(step, **other)) is None


def test_a_system_that_forbids_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, *args: object, **kwargs: object) -> None:
            self.mprotect = lambda *args: -1

    monkeypatch.setattr(ctypes, "CDLL", Refusing)
    with pytest.raises(BackendError, match="does not let this process execute"):
        ExecutableMemory(np.zeros(1, np.uint8))
