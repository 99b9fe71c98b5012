"""The encoding of AVX-512 instructions, against LLVM's assembler."""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np

from lgir.backends.llvm.avx512.evex_encoder import CodeSequences, Gpr, MemoryOperand


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


def test_vector_instructions_are_encoded_as_llvm_does() -> None:
    rng = np.random.default_rng(0)
    n = 200
    bases = np.array([Gpr.RSI, Gpr.RDX, Gpr.R8, Gpr.R9, Gpr.RBX, Gpr.R13, Gpr.RAX, Gpr.RBP])
    s = CodeSequences(n)
    target, second, third = rng.integers(0, 32, (3, n))
    table = rng.integers(0, 256, n)
    base = rng.choice(bases, n)
    lines = rng.choice([-129, -128, -1, 1, 5, 127, 128, 5000], n)
    memory = MemoryOperand(base, lines)
    in_memory = rng.random(n) < 0.5
    s.load(target, memory)
    s.move(target, second, memory)
    s.store(7, memory)
    s.vpternlog(19, second, np.where(in_memory, -1, third), table, memory)
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
    assert s.concatenated().tobytes() == assembled(expected)


def test_instructions_are_left_out_where_asked() -> None:
    s = CodeSequences(3)
    where = np.array([True, False, True])
    s.load(np.array([1, 2, 3]), MemoryOperand(np.full(3, Gpr.RSI), np.full(3, 2)), where)
    s.add(Gpr.R9, 1 << 20, ~where)
    assert s.length.tolist() == [7, 7, 7]
    load = "vmovdqa32 zmm{}, zmmword ptr [rsi + 128]"
    expected = [load.format(1), "add r9, 0x100000", load.format(3)]
    assert s.concatenated().tobytes() == assembled(expected)


def test_scalar_instructions_are_encoded_as_llvm_does() -> None:
    s = CodeSequences(1)
    expected = []
    for register in Gpr:
        name = register.name.lower()
        s.push(register)
        s.pop(register)
        s.lea(register, Gpr.R15, np.array([-123456]))
        s.lea(Gpr.RDX, Gpr.R14, np.array([1 << 30]))
        s.add(register, 1000)
        s.mov(register, Gpr.RDI)
        s.mov(Gpr.RDI, register)
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
    s.mov_immediate(Gpr.RBP, 70000)
    s.dec(Gpr.RCX)
    s.jnz_back(s.length)
    s.vzeroupper_ret()
    # A jump this far back needs 32 bits, which the assembler then uses.
    expected += ["mov ebp, 70000", "dec ecx", "jnz begin", "vzeroupper", "ret"]
    assert s.concatenated().tobytes() == assembled(expected)
