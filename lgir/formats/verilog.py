"""Structural Verilog of a graph: one assignment per gate, for synthesis tools and simulators.

The module reads the variables of `lgir.ir.input_space.InputSpace` as `x` and gives the output bits
as `y`. Sums and thresholds are arithmetic and are left to the surrounding design.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.truth_tables import UNARY_NAMES, narrow_tables, table_from_op
from lgir.ir.unrolling import unroll_graph
from lgir.registry import register_exporter

# Indexed by difflogic's number, as lgir.ir.truth_tables.OP_NAMES.
_FORMULAS: Final = {
    table_from_op(op): text
    for op, text in enumerate(
        (
            "1'b0", "{a} & {b}", "{a} & ~{b}", "{a}", "~{a} & {b}", "{b}", "{a} ^ {b}", "{a} | {b}",
            "~({a} | {b})", "~({a} ^ {b})", "~{b}", "{a} | ~{b}", "~{a}", "~{a} | {b}",
            "~({a} & {b})", "1'b1",
        )
    )
}  # fmt: skip
_UNARY: Final = {"false": "1'b0", "not": "~{a}", "buf": "{a}", "true": "1'b1"}

_LONGEST_NAME: Final = 200  # characters; tools must take 1,024

# IEEE Std 1800-2017, annex B, which holds the keywords of all versions of Verilog.
_KEYWORDS: Final = """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic
    before begin bind bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle
    checker class clocking cmos config const constraint context continue cover covergroup
    coverpoint cross deassign default defparam design disable dist do edge else end endcase
    endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface
    endmodule endpackage endprimitive endprogram endproperty endsequence endspecify endtable
    endtask enum event eventually expect export extends extern final first_match for force
    foreach forever fork forkjoin function generate genvar global highz0 highz1 if iff ifnone
    ignore_bins illegal_bins implements implies import incdir include initial inout input inside
    instance int integer interconnect interface intersect join join_any join_none large let
    liblist library local localparam logic longint macromodule matches medium modport module
    nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or output
    package packed parameter pmos posedge primitive priority program property protected pull0
    pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos
    rpmos rtran rtranif0 rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared
    sequence shortint shortreal showcancelled signed small soft solve specify specparam static
    string strong strong0 strong1 struct super supply0 supply1 sync_accept_on sync_reject_on
    table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri tri0
    tri1 triand trior trireg type typedef union unique unique0 unsigned until until_with untyped
    use uwire var vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard
    wire with within wor xnor xor
"""


def write_verilog(graph: Graph, path: str | Path) -> None:
    """Write `graph`, unrolled, as one combinational module."""
    export_verilog(graph).write(path)


@register_exporter("v")
def export_verilog(graph: Graph) -> Export:
    """Write structural Verilog of the unrolled graph, one assignment per gate."""
    return Export(dumps_verilog(graph).encode("ascii"))


def dumps_verilog(graph: Graph) -> str:
    """Return the text that `write_verilog` writes."""
    space = InputSpace([graph])
    body = unroll_graph(graph, space).body
    name = _identifier(graph.name)
    inputs, outputs = max(space.num_variables, 1), len(body.outputs)
    lines = [f"module {name}(input wire [{inputs - 1}:0] x, output wire [{outputs - 1}:0] y);"]
    names = ["1'b0", "1'b1", *(f"x[{i}]" for i in range(space.num_variables))]
    names += [f"g{i}" for i in range(body.num_gates)]
    arity = body.arity()
    tables = narrow_tables(body.table, body.k, arity).tolist()
    declared = set(zip(body.table.tolist(), arity.tolist(), tables, strict=True))
    for _, n, table in sorted(entry for entry in declared if entry[1] > 2):
        bits = 1 << n
        lines.append(f"  localparam [{bits - 1}:0] T{n}_{table:x} = {bits}'h{table:x};")
    for g, (operands, table, n) in enumerate(
        zip(body.fanin.tolist(), tables, arity.tolist(), strict=True)
    ):
        value = _formula(table, [names[x] for x in operands[:n]])
        lines.append(f"  wire g{g} = {value};")
    lines += [f"  assign y[{i}] = {names[net]};" for i, net in enumerate(body.outputs.tolist())]
    lines.append("endmodule\n")
    return "\n".join(lines)


def _identifier(name: str) -> str:
    """Return a name as an identifier that no version of (System)Verilog reserves."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)[:_LONGEST_NAME]
    return word if word[:1].isalpha() and word not in _KEYWORDS.split() else f"m_{word}"


def _formula(table: int, operands: list[str]) -> str:
    """Return an expression for a gate; wider ones index a parameter by their operands."""
    if not operands:
        return f"1'b{table}"
    if len(operands) == 1:
        return _UNARY[UNARY_NAMES[table]].format(a=operands[0])
    if len(operands) == 2:
        return _FORMULAS[table].format(a=operands[0], b=operands[1])
    return f"T{len(operands)}_{table:x}[{{{', '.join(operands)}}}]"
