"""The kernels that turn planes into what the caller gets: class scores, or bits."""

from __future__ import annotations

from lgir.backends.llvm.counting import add_planes
from lgir.backends.llvm.ir import BLOCK, PLANE, PLANE_BYTES, Function
from lgir.backends.llvm.records import PARAMS, Context, Field


def sum_kernel(name: str, bits: int, *, ternary: bool) -> str:
    """Class scores, from a row a group as `add_planes` takes it: the `bits` planes of the count are
    spread to integers and finished in float32.
    """
    f = Function(name, PARAMS, ternary=ternary)
    rows, groups = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    per_group, slot = f.field("%step", Field.BITS), f.field("%step", Field.SLOT)
    tau, beta = f.field("%step", Field.TAU, "float"), f.field("%step", Field.BETA, "float")
    start = f.field("%context", Context.START)
    left = f.let(f"sub i64 {f.field('%context', Context.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
    results = f.load("ptr", f.at("%context", f.let(f"mul i64 {slot}, 8")), 8)
    row_bytes = f.let(f"mul i64 {groups}, 4")
    results = f.at(results, f.let(f"mul i64 {start}, {row_bytes}"))
    counts = f.let(f"alloca [{bits * PLANE_BYTES} x i8], align {PLANE_BYTES}")
    scores = f.let(f"alloca [{BLOCK * 4} x i8], align {PLANE_BYTES}")
    tau_v, beta_v = _splat_float(f, tau), _splat_float(f, beta)
    words = f.let(f"add i64 {per_group}, {bits}")
    with f.loop(groups) as g:
        table = f.at(rows, f.let(f"mul i64 {f.let(f'mul i64 {g.index}, {words}')}, 4"))
        total = add_planes(f, table, per_group, bits)
        for i, count in enumerate(total):
            f.store(PLANE, count, f.at(counts, str(i * PLANE_BYTES)), PLANE_BYTES)
        with f.loop(str(BLOCK // 16)) as part:
            cell = f.at(counts, f.let(f"mul i64 {part.index}, 2"))
            number = "zeroinitializer"
            for i in range(bits):
                word = f.load("i16", f.at(cell, str(i * PLANE_BYTES)), 2)
                lanes = f.let(f"bitcast i16 {word} to <16 x i1>")
                weight = f.let(
                    f"select <16 x i1> {lanes}, <16 x i32> splat (i32 {1 << i}), "
                    "<16 x i32> zeroinitializer"
                )
                number = f.let(f"or <16 x i32> {number}, {weight}")
            number = f.let(f"uitofp <16 x i32> {number} to <16 x float>")
            shifted = f.let(f"fadd <16 x float> {number}, {beta_v}")
            score = f.let(f"fdiv <16 x float> {shifted}, {tau_v}")
            f.store("<16 x float>", score, f.at(scores, f.let(f"mul i64 {part.index}, 64")), 64)
        column = f.at(results, f.let(f"mul i64 {g.index}, 4"))
        with f.loop(valid) as s:
            one = f.load("float", f.at(scores, f.let(f"mul i64 {s.index}, 4")), 4)
            f.store("float", one, f.at(column, f.let(f"mul i64 {s.index}, {row_bytes}")), 4)
    f.emit("ret void")
    return f.text()


def _splat_float(f: Function, value: str) -> str:
    one = f.let(f"insertelement <16 x float> poison, float {value}, i64 0")
    return f.let(
        f"shufflevector <16 x float> {one}, <16 x float> poison, <16 x i32> zeroinitializer"
    )


def export_kernel(name: str, *, ternary: bool) -> str:
    """Planes copied to the output as (blocks, elements, 512 bits)."""
    f = Function(name, PARAMS, ternary=ternary)
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    slot, start = f.field("%step", Field.SLOT), f.field("%context", Context.START)
    results = f.load("ptr", f.at("%context", f.let(f"mul i64 {slot}, 8")), 8)
    block = f.let(f"mul i64 {f.let(f'sdiv i64 {start}, {BLOCK}')}, {count}")
    out = f.at(results, f.let(f"mul i64 {block}, {PLANE_BYTES}"))
    with f.loop(count) as i:
        offset = f.load_u32(f.at(rows, f.let(f"mul i64 {i.index}, 4")))
        value = f.load_plane("%planes", offset)
        target = f.at(out, f.let(f"mul i64 {i.index}, {PLANE_BYTES}"))
        f.store(PLANE, value, target, 1)
    f.emit("ret void")
    return f.text()


def export_bytes_kernel(name: str, *, ternary: bool) -> str:
    """Planes to the output as bytes 0 and 1, (samples, elements)."""
    f = Function(name, PARAMS, ternary=ternary)
    rows, count = f.field("%step", Field.ROWS, "ptr"), f.field("%step", Field.COUNT)
    slot, start = f.field("%step", Field.SLOT), f.field("%context", Context.START)
    left = f.let(f"sub i64 {f.field('%context', Context.SAMPLES)}, {start}")
    valid = f.let(f"call i64 @llvm.smin.i64(i64 {left}, i64 {BLOCK})")
    results = f.load("ptr", f.at("%context", f.let(f"mul i64 {slot}, 8")), 8)
    out = f.at(results, f.let(f"mul i64 {start}, {count}"))
    with f.loop(count) as i:
        plane = f.at("%planes", f.load_u32(f.at(rows, f.let(f"mul i64 {i.index}, 4"))))
        column = f.at(out, i.index)
        with f.loop(valid) as s:
            byte = f.load("i8", f.at(plane, f.let(f"lshr i64 {s.index}, 3")), 1)
            lane = f.let(f"trunc i64 {f.let(f'and i64 {s.index}, 7')} to i8")
            bit = f.let(f"and i8 {f.let(f'lshr i8 {byte}, {lane}')}, 1")
            f.store("i8", bit, f.at(column, f.let(f"mul i64 {s.index}, {count}")), 1)
    f.emit("ret void")
    return f.text()
