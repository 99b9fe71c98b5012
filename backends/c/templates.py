"""The functions of exported C: templates for gates, trees, packing and scores.

Each is C99 that a person can follow, over `word` (a bit of each of `LANES` samples), `plane` (the
number of a word in the workspace) and rows of plane numbers. `lgir.backends.c.source` calls them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from lgir.backends.lowering.cones import Expr
from lgir.ir.truth_tables import TABLE_TO_NAME, UNARY_NAMES

PACK_BITS_U8: Final = """\
/* Bits as bytes to planes; whether one is not 0 or 1. */
static int pack_bits_u8(word *p, const uint8_t *x, int n, long elements, const plane *to)
{
    unsigned seen = 0;
    for (long e = 0; e < elements; e++) {
        word w = 0;
        for (int s = 0; s < n; s++) {
            const unsigned bit = x[s * elements + e];
            seen |= bit;
            w |= (word)(bit & 1) << s;
        }
        p[to[e]] = w;
    }
    return seen > 1;
}
"""

PACK_BITS_F32: Final = """\
/* Bits as floats to planes; whether one is not 0 or 1. */
static int pack_bits_f32(word *p, const float *x, int n, long elements, const plane *to)
{
    int wrong = 0;
    for (long e = 0; e < elements; e++) {
        word w = 0;
        for (int s = 0; s < n; s++) {
            const float bit = x[s * elements + e];
            wrong |= bit != 0 && bit != 1;
            w |= (word)(bit != 0) << s;
        }
        p[to[e]] = w;
    }
    return wrong;
}
"""

PACK_BITS_BITS: Final = """\
/* Bits packed by sample to planes. */
static int pack_bits_bits(word *p, const uint64_t *x, int n, long elements, const plane *to)
{
    const long stride = (elements + 63) / 64;
    for (long e = 0; e < elements; e++) {
        word w = 0;
        for (int s = 0; s < n; s++)
            w |= (word)(x[s * stride + e / 64] >> e % 64 & 1) << s;
        p[to[e]] = w;
    }
    return 0;
}
"""

PACK_U8: Final = """\
/* Thermometers: plane to[l * elements + e] is x[e] > levels[l]; elements may have their own. */
static int pack_u8(word *p, const uint8_t *x, int n, long elements, int num_levels,
                   const int16_t *levels, int own, const plane *to)
{
    for (long i = 0; i < num_levels * elements; i++) {
        const long e = i % elements;
        const int level = levels[own ? i : i / elements];
        word w = 0;
        for (int s = 0; s < n; s++)
            w |= (word)(x[s * elements + e] > level) << s;
        p[to[i]] = w;
    }
    return 0;
}
"""

PACK_F32: Final = """\
/* Thermometers: plane to[l * elements + e] is x[e] > levels[l]; elements may have their own.
 * Whether a number is NaN.
 */
static int pack_f32(word *p, const float *x, int n, long elements, int num_levels,
                    const float *levels, int own, const plane *to)
{
    int wrong = 0;
    for (long i = 0; i < num_levels * elements; i++) {
        const long e = i % elements;
        const float level = levels[own ? i : i / elements];
        word w = 0;
        for (int s = 0; s < n; s++) {
            const float number = x[s * elements + e];
            wrong |= number != number;
            w |= (word)(number > level) << s;
        }
        p[to[i]] = w;
    }
    return wrong;
}
"""

MUX: Final = """\
/* A function of k planes by its table, 2**k words of zeros or ones; x[0] is the high index bit. */
static word mux(const word *table, const word *x, int k)
{
    word v[64];
    int m = 1 << k;
    for (int i = 0; i < m; i++)
        v[i] = table[i];
    while (k-- > 0) {
        m >>= 1;
        for (int i = 0; i < m; i++)
            v[i] = (x[k] & v[2 * i + 1]) | (~x[k] & v[2 * i]);
    }
    return v[0];
}
"""

WIDE_GATES: Final = """\
/* Gates of k inputs: rows of inputs and output, and a truth table each. */
static void wide_gates(word *p, const plane *row, const uint64_t *table, long n, int k)
{
    for (; n > 0; n--, row += k + 1, table++) {
        word bits[64], x[6];
        for (int i = 0; i < 1 << k; i++)
            bits[i] = (word)0 - (word)(*table >> i & 1);
        for (int i = 0; i < k; i++)
            x[i] = p[row[i]];
        p[row[k]] = mux(bits, x, k);
    }
}
"""

SPACE: Final = """\
/* Trees of gates are evaluated at positions: so many along each axis, so many planes apart where
 * they read and write. Copies of a tree, shifted by so many planes, are ORed. A row of a tree holds
 * its leaves and its result at the first position; its masks, a bit each, say which operands of a
 * gate are inverted, or are the gate's table, and the last inverts the result.
 */
typedef struct {
    long size[3], in[3], out[3];
    int copies;
    long shift[16];
} space;
"""

SUM: Final = """\
/* Scores: each group's planes are counted, bit i of all counts in c[i], then spread to floats. */
static void sum(const word *p, const plane *row, int groups, long bits, float tau, float beta,
                int n, float *score)
{
    for (int g = 0; g < groups; g++, row += bits) {
        word c[32] = {0};
        for (long i = 0; i < bits; i++) {
            word carry = p[row[i]];
            for (int b = 0; carry; b++) {
                const word both = c[b] & carry;
                c[b] ^= carry;
                carry = both;
            }
        }
        for (int s = 0; s < n; s++) {
            long count = 0;
            for (int b = 0; bits >> b; b++)
                count |= (long)(c[b] >> s & 1) << b;
            const float shifted = (float)count + beta;
            score[s * groups + g] = shifted / tau;
        }
    }
}
"""

UNPACK: Final = """\
/* Planes as bytes, 0 or 1. */
static void unpack(const word *p, const plane *row, long elements, int n, uint8_t *out)
{
    for (long e = 0; e < elements; e++)
        for (int s = 0; s < n; s++)
            out[s * elements + e] = (uint8_t)(p[row[e]] >> s & 1);
}
"""


def gate_name(fanin: int, table: int) -> str:
    """The name of a function of `gate_function`."""
    name = UNARY_NAMES[table] if fanin == 1 else TABLE_TO_NAME[table] if fanin == 2 else None
    return f"gates{fanin}_{re.sub('[^a-z0-9]', '_', name) if name else f'{table:02x}'}"


def gate_function(fanin: int, table: int) -> str:
    """Gates of up to three inputs and one table: rows of inputs and output."""
    inputs = [f"p[row[{i}]]" for i in range(fanin)]
    return (
        f"static void {gate_name(fanin, table)}(word *p, const plane *row, long n)\n"
        "{\n"
        f"    for (; n > 0; n--, row += {fanin + 1})\n"
        f"        p[row[{fanin}]] = {expression(table, inputs)};\n"
        "}\n"
    )


def expression(table: int, inputs: list[str]) -> str:
    """A function of planes, the first the high index bit, as a C expression."""
    ones = (1 << (1 << len(inputs))) - 1
    if table in (0, ones):
        return "~(word)0" if table else "(word)0"
    x, rest, half = inputs[0], inputs[1:], 1 << (len(inputs) - 1)
    low, high = table & ((1 << half) - 1), table >> half
    full = (1 << half) - 1
    if low == high:
        return expression(low, rest)
    if (low, high) == (0, full):
        return x
    if (low, high) == (full, 0):
        return f"~{x}"
    if low == high ^ full:
        return f"{x} ^ {_inner(low, rest)}"
    if low == 0:
        return f"{x} & {_inner(high, rest)}"
    if high == 0:
        return f"~{x} & {_inner(low, rest)}"
    if high == full:
        return f"{x} | {_inner(low, rest)}"
    if low == full:
        return f"~{x} | {_inner(high, rest)}"
    return f"({x} & {_inner(high, rest)}) | (~{x} & {_inner(low, rest)})"


def _inner(table: int, inputs: list[str]) -> str:
    text = expression(table, inputs)
    return f"({text})" if " " in text else text


@cache
def support(table: int, fanin: int) -> tuple[int, ...]:
    """Which inputs `expression` names."""
    names = [f"x{i}" for i in range(fanin)]
    found = re.findall(r"x\d", expression(table, names))
    return tuple(i for i, name in enumerate(names) if name in found)


def tree_function(name: str, expr: Expr) -> str:
    """Trees of one shape at every position; SPACE says what rows and masks are."""
    kinds, masks = expr.leaves(), expr.num_masks() + 1
    place = {"tap": "from", "cut": "to"}
    body = [f"const word x{i} = p[{place[kind]} + row[{i}]];" for i, kind in enumerate(kinds)]
    tree = _Tree()
    value = tree.walk(expr)
    body += [*tree.lines, f"any |= {value} ^ m[{masks - 1}];"]
    indent, base = " " * 20, ""
    if "tap" in kinds:
        base = f"{indent}const long base = z * at->in[0] + y * at->in[1] + x * at->in[2];\n"
        body.insert(0, "const long from = base + at->shift[copy];")
    inner = "\n".join(f"{indent}    {line}" for line in body)
    return f"""\
/* Trees {expr}. */
static void {name}(word *p, const plane *row, const uint8_t *mask, long n, const space *at)
{{
    for (; n > 0; n--, row += {len(kinds) + 1}, mask += {-(-masks // 8)}) {{
        word m[{masks}];
        for (int i = 0; i < {masks}; i++)
            m[i] = (word)0 - (word)(mask[i / 8] >> i % 8 & 1);
        for (long z = 0; z < at->size[0]; z++)
            for (long y = 0; y < at->size[1]; y++)
                for (long x = 0; x < at->size[2]; x++) {{
{base}                    const long to = z * at->out[0] + y * at->out[1] + x * at->out[2];
                    word any = 0;
                    for (int copy = 0; copy < at->copies; copy++) {{
{inner}
                    }}
                    p[to + row[{len(kinds)}]] = any;
                }}
    }}
}}
"""


class _Tree:
    """Statements of a tree; leaves and masks are used up in the template's order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._leaves = self._masks = self._values = 0

    def walk(self, expr: Expr) -> str:
        if not expr.args:
            self._leaves += 1
            return f"x{self._leaves - 1}"
        args = [self.walk(a) for a in expr.args]
        mask, name = self._masks, f"v{self._values}"
        self._masks += expr.masks
        self._values += 1
        if expr.kind == "xor":
            value = " ^ ".join(args)
        elif expr.kind == "and":
            a, b = args
            value = f"({a} & ({b} ^ m[{mask}])) ^ ({b} & m[{mask + 1}])"
        else:
            self.lines.append(f"const word a{name[1:]}[] = {{{', '.join(args)}}};")
            value = f"mux(m + {mask}, a{name[1:]}, {len(args)})"
        self.lines.append(f"const word {name} = {value};")
        return name
