"""The fixed functions of exported C: packing, gates with their tables as data, scores.

Each is C99 that a person can follow. A `word` holds a bit of each of `LANES` samples, a `plane` is
the number of a word in the workspace, and a row is an array of planes.
"""

from __future__ import annotations

from typing import Final

PACK_BITS_U8: Final = """\
/* Packs bits that are bytes into planes; returns whether one of them is not 0 or 1. */
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
/* Packs bits that are floats into planes; returns whether one of them is not 0 or 1. */
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
/* Packs bits, which are packed by sample, into planes. */
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
/* Packs bytes into planes: plane to[l * elements + e] is x[e] > levels[l]. If `own` is not 0, each
 * element has levels of its own, levels[l * elements + e].
 */
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
/* Packs floats into planes: plane to[l * elements + e] is x[e] > levels[l]. If `own` is not 0, each
 * element has levels of its own, levels[l * elements + e]. Returns whether a number is NaN.
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
/* Evaluates a function of k planes by its table of 2**k words, each all zeros or all ones. The most
 * significant bit of a table index is x[0].
 */
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
/* Evaluates gates of k inputs. A row holds the planes of inputs and output; each has a table. */
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
/* Where trees of gates are evaluated: `size` positions along each axis. Neighbors are `in` planes
 * apart in what a tree reads, and `out` planes apart in what it writes. The results of `copies` of
 * a tree are ORed; `shift` planes are added to what each one reads. A row of a tree holds the
 * planes of its leaves and of its result at the first position. Its masks, one bit each, say which
 * operands of a gate are inverted, or are the gate's table; the last one inverts the result.
 */
typedef struct {
    long size[3], in[3], out[3];
    int copies;
    long shift[16];
} space;
"""

COUNT_PLANES: Final = """\
/* Counts planes: bit i of the counts of all samples is c[i]. */
static void count_planes(const word *p, const plane *row, long bits, word *c)
{
    memset(c, 0, 32 * sizeof *c);
    for (long i = 0; i < bits; i++) {
        word carry = p[row[i]];
        for (int b = 0; carry; b++) {
            const word both = c[b] & carry;
            c[b] ^= carry;
            carry = both;
        }
    }
}
"""

COUNT_OF: Final = """\
/* Returns the count of sample s, which is `bits` at most. */
static long count_of(const word *c, long bits, int s)
{
    long count = 0;
    for (int b = 0; bits >> b; b++)
        count |= (long)(c[b] >> s & 1) << b;
    return count;
}
"""

SUM: Final = """\
/* Computes scores. A row holds the planes of each group. */
static void sum(const word *p, const plane *row, int groups, long bits, float tau, float beta,
                int n, float *score)
{
    for (int g = 0; g < groups; g++, row += bits) {
        word c[32];
        count_planes(p, row, bits, c);
        for (int s = 0; s < n; s++) {
            const float shifted = (float)count_of(c, bits, s) + beta;
            score[s * groups + g] = shifted / tau;
        }
    }
}
"""

COUNT_GROUPS: Final = """\
/* Counts the planes of each group. */
static void count_groups(const word *p, const plane *row, int groups, long bits, int n,
                         int32_t *counts)
{
    for (int g = 0; g < groups; g++, row += bits) {
        word c[32];
        count_planes(p, row, bits, c);
        for (int s = 0; s < n; s++)
            counts[s * groups + g] = (int32_t)count_of(c, bits, s);
    }
}
"""

LABEL_SAMPLES: Final = """\
/* Finds the first group of the highest count. */
static void label_samples(const word *p, const plane *row, int groups, long bits, int n,
                          int64_t *labels)
{
    long best[LANES];
    for (int g = 0; g < groups; g++, row += bits) {
        word c[32];
        count_planes(p, row, bits, c);
        for (int s = 0; s < n; s++) {
            const long count = count_of(c, bits, s);
            if (g == 0 || count > best[s]) {
                best[s] = count;
                labels[s] = g;
            }
        }
    }
}
"""

UNPACK: Final = """\
/* Spreads planes to bytes that are 0 or 1. */
static void unpack(const word *p, const plane *row, long elements, int n, uint8_t *out)
{
    for (long e = 0; e < elements; e++)
        for (int s = 0; s < n; s++)
            out[s * elements + e] = (uint8_t)(p[row[e]] >> s & 1);
}
"""

FUNCTIONS: Final = {
    "pack_bits_u8": PACK_BITS_U8,
    "pack_bits_f32": PACK_BITS_F32,
    "pack_bits_bits": PACK_BITS_BITS,
    "pack_u8": PACK_U8,
    "pack_f32": PACK_F32,
    "mux": MUX,
    "wide_gates": WIDE_GATES,
    "space": SPACE,
    "count_planes": COUNT_PLANES,
    "count_of": COUNT_OF,
    "sum": SUM,
    "count_groups": COUNT_GROUPS,
    "label_samples": LABEL_SAMPLES,
    "unpack": UNPACK,
}
"""Functions and types by name. A file holds those that it uses, in this order."""
