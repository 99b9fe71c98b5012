"""What code needs of an x86-64 CPU, and the check of it, as LLVM text that runs on any of them.

Bits of CPUID are those of Intel's Software Developer's Manual, volume 2A, and AMD's manual, volume
3, appendix E; levels are those of the x86-64 psABI. A CPU that has AVX may be used with it only if
the operating system saves the registers, which XGETBV tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lgir.backends.llvm.library_data import byte_constant

BASELINE: Final = "x86-64"
"""The CPU that all functions which only choose others are compiled for."""
_V2: Final = ("cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2")
_V3: Final = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4: Final = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_FEATURES_OF_CPU: Final = {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}


@dataclass(frozen=True)
class _Register:
    """A register that CPUID fills: 0 to 3 are EAX, EBX, ECX, EDX."""

    leaf: int
    subleaf: int
    index: int


_BITS: Final[Mapping[_Register, Mapping[str, int]]] = {
    _Register(1, 0, 2): {
        "sse3": 0, "pclmul": 1, "ssse3": 9, "fma": 12, "cx16": 13, "sse4.1": 19, "sse4.2": 20,
        "movbe": 22, "popcnt": 23, "aes": 25, "avx": 28, "f16c": 29,
    },
    _Register(7, 0, 1): {
        "bmi": 3, "avx2": 5, "bmi2": 8, "avx512f": 16, "avx512dq": 17, "adx": 19,
        "avx512ifma": 21, "avx512cd": 28, "sha": 29, "avx512bw": 30, "avx512vl": 31,
    },
    _Register(7, 0, 2): {
        "avx512vbmi": 1, "avx512vbmi2": 6, "gfni": 8, "vaes": 9, "vpclmulqdq": 10,
        "avx512vnni": 11, "avx512bitalg": 12, "avx512vpopcntdq": 14,
    },
    _Register(7, 0, 3): {"avx512vp2intersect": 8, "avx512fp16": 23},
    _Register(7, 1, 0): {
        "sha512": 0, "sm3": 1, "sm4": 2, "avxvnni": 4, "avx512bf16": 5, "avxifma": 23,
    },
    _Register(7, 1, 3): {"avxvnniint8": 4, "avxneconvert": 5, "avxvnniint16": 10},
    _Register(0x80000001, 0, 2): {
        "sahf": 0, "lzcnt": 5, "sse4a": 6, "xop": 11, "fma4": 16, "tbm": 21,
    },
}  # fmt: skip
"""The bits of features by LLVM's names: those that code generation may use on its own."""
_OSXSAVE: Final = (_Register(1, 0, 2), 1 << 27)
_YMM_STATE: Final = 0x06
_ZMM_STATE: Final = 0xE6

_CPUID_CODE: Final = bytes.fromhex(
    "53"  # push rbx
    "4989d0"  # mov r8, rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)
"""The function `void (i32 leaf, i32 subleaf, ptr registers)` of the System V convention.

It is machine code since LLVM has no intrinsic for CPUID, and llvmlite assembles only for the
machine that it runs on.
"""
_XGETBV_CODE: Final = bytes.fromhex("31c90f01d0c3")  # xor ecx, ecx; xgetbv; ret
"""The function `i32 ()` that returns the low half of XCR0: the registers that the system saves."""


def needed_features(cpu: str, flags: str) -> frozenset[str]:
    """Return the features of a CPU that LLVM may use for `cpu` with feature flags such as "+avx".

    A feature that LLVM uses only if a program asks for it, such as "rdseed", is none of them.
    """
    known = {name for bits in _BITS.values() for name in bits}
    features = set(_FEATURES_OF_CPU.get(cpu, ()))
    for flag in filter(None, flags.split(",")):
        if flag[0] == "+":
            features.add(flag[1:])
        else:
            features -= {name for name in features if _needs(name, flag[1:])}
    return frozenset(features & known)


def _needs(feature: str, other: str) -> bool:
    """Return whether a feature goes if `other` does."""
    if feature == other:
        return True
    if other == "avx512f":
        return feature.startswith("avx512")
    if other == "avx2":
        return feature.startswith("avx512")
    return other == "avx" and (feature.startswith("avx") or feature in ("fma", "f16c"))


def supported_level_text(levels: Sequence[Iterable[str]], section: str) -> str:
    """Return the text of `i32 @lgir_supported_level()` and of what it needs.

    It returns the number of the last level, from 1 on, all of whose features this CPU has, or 0.

    Args:
        levels: the features of each level.
        section: the section of machine code in object files.
    """
    needs = [_needed_bits(features) for features in levels]
    # Every level is compared in all registers, so that a register is read once.
    registers = sorted(
        {register for bits, _ in needs for register in bits},
        key=lambda r: (r.leaf, r.subleaf, r.index),
    )
    lines = ["define internal i32 @lgir_supported_level() #0 {"]
    names: dict[_Register, str] = {}
    leaves = dict.fromkeys((register.leaf, register.subleaf) for register in registers)
    lines += [f"  %leaf.{i} = alloca [4 x i32], align 16" for i in range(len(leaves))]
    for i, (leaf, subleaf) in enumerate(leaves):
        lines.append(f"  call void @lgir_cpuid(i32 {leaf}, i32 {subleaf}, ptr %leaf.{i})")
        for register in registers:
            if (register.leaf, register.subleaf) == (leaf, subleaf):
                name = names[register] = f"%register.{len(names)}"
                lines += [
                    f"  {name}.at = getelementptr i32, ptr %leaf.{i}, i64 {register.index}",
                    f"  {name} = load i32, ptr {name}.at, align 4",
                ]
    state = "0"
    if any(mask for _, mask in needs):
        register, bit = _OSXSAVE
        lines += [
            f"  %osxsave = and i32 {names[register]}, {bit}",
            "  %saves = icmp ne i32 %osxsave, 0",
            "  %state = call i32 @lgir_xcr0(i1 %saves)",
        ]
        state = "%state"
    best = "0"
    for i, (bits, mask) in enumerate(needs):
        tests = [(names[register], wanted) for register, wanted in bits.items()]
        tests += [(state, mask)] if mask else []
        good = "true"
        for j, (value, wanted) in enumerate(tests):
            lines += [
                f"  %bits.{i}.{j} = and i32 {value}, {wanted}",
                f"  %has.{i}.{j} = icmp eq i32 %bits.{i}.{j}, {wanted}",
                f"  %good.{i}.{j} = and i1 {good}, %has.{i}.{j}",
            ]
            good = f"%good.{i}.{j}"
        lines.append(f"  %best.{i} = select i1 {good}, i32 {i + 1}, i32 {best}")
        best = f"%best.{i}"
    lines.append(f"  ret i32 {best}\n}}")
    code = [
        byte_constant("@lgir_cpuid_code", _CPUID_CODE, section=section),
        byte_constant("@lgir_xgetbv_code", _XGETBV_CODE, section=section),
    ]
    return "\n".join([*code, _HELPERS, *lines, ""])


def _needed_bits(features: Iterable[str]) -> tuple[dict[_Register, int], int]:
    """Return the bits that a level needs by register, and the bits of XCR0."""
    required = frozenset(features)
    bits = {
        register: sum(1 << bit for name, bit in names.items() if name in required)
        for register, names in _BITS.items()
    }
    state = 0
    if any(name.startswith("avx512") for name in required):
        state = _ZMM_STATE
    elif any(
        name.startswith(("avx", "fma", "f16c", "xop", "vaes", "vpclmul")) for name in required
    ):
        state = _YMM_STATE
    if state:
        register, bit = _OSXSAVE
        bits[register] |= bit
    return {register: mask for register, mask in bits.items() if mask}, state


_HELPERS: Final = """\
define internal void @lgir_cpuid(i32 %leaf, i32 %subleaf, ptr %registers) #0 {
  ; Leaves beyond the last one of their range repeat others: they count as zeros.
  %range = and i32 %leaf, -2147483648
  call x86_64_sysvcc void @lgir_cpuid_code(i32 %range, i32 0, ptr %registers)
  %last = load i32, ptr %registers, align 4
  %known = icmp ule i32 %leaf, %last
  br i1 %known, label %first, label %none
first:
  call x86_64_sysvcc void @lgir_cpuid_code(i32 %leaf, i32 0, ptr %registers)
  %whole = icmp eq i32 %subleaf, 0
  br i1 %whole, label %done, label %further
further:
  %last.subleaf = load i32, ptr %registers, align 4
  %more = icmp ule i32 %subleaf, %last.subleaf
  br i1 %more, label %second, label %none
second:
  call x86_64_sysvcc void @lgir_cpuid_code(i32 %leaf, i32 %subleaf, ptr %registers)
  ret void
none:
  store <4 x i32> zeroinitializer, ptr %registers, align 4
  ret void
done:
  ret void
}
define internal i32 @lgir_xcr0(i1 %readable) #0 {
  br i1 %readable, label %read, label %none
read:
  %low = call x86_64_sysvcc i32 @lgir_xgetbv_code()
  ret i32 %low
none:
  ret i32 0
}"""
