"""Bad text IR: every fault is a ParseError or GraphError that gives the line, and nothing else."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lgir
from lgir.errors import GraphError, ParseError
from random_graphs import random_graph

GOOD = """lgir 1
graph "g" {
  metadata "a" = "b"
  input %x : u8[2,3]
  %bits = threshold %x {levels=[10, 20]} : bit[4,3]
  %flat = reshape %bits : bit[12]
  %out = logic(%flat) {
    %2 = tap 0[0]
    %3 = tap 0[11]
    %4 = and %2, %3
    %5 = lut 0x17 %2, %3, %4
    yield %4, %5
  } : bit[2]
  %score = groupsum %out {groups=2, tau=20, beta=0} : f32[2]
  output %score
}
"""


def test_the_text_that_the_faults_are_made_from_is_good() -> None:
    assert lgir.dumps(lgir.parse(GOOD)).startswith("lgir 1\n")


FAULTS = {
    "empty": (GOOD, "", "line 1: expected 'lgir 1', found the end"),
    "not-lgir": ("lgir 1", "module {", "line 1: expected 'lgir 1' first; this is not"),
    "version": ("lgir 1", "lgir 2", "line 1: text of version 2; this lgir reads version 1"),
    "version-missing": ("lgir 1", "lgir", "line 1: expected a version, found the end of the line"),
    "graph-name": ('"g"', "g", "line 2: expected the graph's name"),
    "graph-empty-name": ('"g"', '""', "'' cannot name a graph"),
    "graph-line": ('"g" {', '"g" { }', "line 2: expected the end of the line, found '}'"),
    "string-open": ('"b"', '"b', "line 3: unterminated string at column 18"),
    "string-escape": ('"b"', r'"\q"', "line 3: bad string .*escape"),
    "string-surrogate": ('"b"', r'"\ud800"', "graph 'g': metadata maps strings to strings"),
    "metadata-twice": (
        "  input",
        '  metadata "a" = "c"\n  input',
        "line 4: metadata 'a' is given twice",
    ),
    "statement": ("  input", "  inptu", "line 4: expected 'metadata', 'input'.*found 'inptu'"),
    "character": ("  input", "  § input", "line 4: unexpected character at column 3"),
    "dtype": ("u8[", "u9[", "line 4: input %x has unknown dtype 'u9'"),
    "shape-zero": ("u8[2,3]", "u8[2,0]", r"line 4: input %x has shape \[2, 0\]"),
    "shape-negative": ("u8[2,3]", "u8[-2,3]", r"line 4: input %x has shape \[-2, 3\]"),
    "shape-huge": ("u8[2,3]", f"u8[{10**30},3]", "line 4: expected a size .at most 2147483647"),
    "shape-digits": ("u8[2,3]", f"u8[{'9' * 5000}]", "line 4: expected a size"),
    "shape-float": ("u8[2,3]", "u8[2.5]", "line 4: expected a size.*'2.5'"),
    "shape-empty": ("u8[2,3]", "u8[]", "line 4: expected a size.*found ']'"),
    "shape-open": ("u8[2,3]", "u8[2,3", "line 4: expected ']', found the end of the line"),
    "value-twice": ("%flat =", "%x =", "line 6: %x is defined twice"),
    "value-empty": ("input %x", 'input %""', "line 4: '' cannot name a value"),
    "input-twice": ("  %bits", "  input %x : bit[1]\n  %bits", "line 5: %x is defined twice"),
    "undefined": ("reshape %bits", "reshape %bist", "line 6: %bist is not defined above"),
    "cycle": ("reshape %bits", "reshape %flat", "line 6: %flat is not defined above.*cycle"),
    "node-type": ("reshape", "transpose", "line 6: unknown node type 'transpose'; known: thr"),
    "reshape-size": ("bit[12]", "bit[13]", r"line 6: node %flat .*cannot reshape bit\[4,3\]"),
    "type-stated": ("} : bit[2]", "} : bit[3]", r"line 13: %out is bit\[2\], the text says bit\[3"),
    "type-missing": ("} : bit[2]", "}", "line 13: expected ':', found the end of the line"),
    "levels-nan": ("[10, 20]", "[10, nan]", "line 5: expected a number, found 'nan'"),
    "levels-ragged": ("[10, 20]", "[[10, 20], [30]]", "line 5: the lists of levels differ"),
    "levels-mixed": ("[10, 20]", "[10, [20]]", "line 5: the lists of levels differ"),
    "levels-lead": ("[10, 20]", "[[1], [2], [3]]", "line 5: node %bits .* do not match a prefix"),
    "levels-huge": ("[10, 20]", "[1e39]", "line 5: a level is too large for float32"),
    "levels-huger": ("[10, 20]", "[1e999]", "line 5: the number '1e999' is too large"),
    "levels-empty": ("[10, 20]", "[]", "line 5: expected a number, found ']'"),
    "levels-deep": ("[10, 20]", "[" * 9999 + "]" * 9999, "line 5: lists are nested deeper than 8"),
    "levels-name": ("levels", "level", "line 5: expected 'levels', found 'level'"),
    "logic-input": ("logic(%flat)", "logic(%x)", "line 7: node %out .*is u8; gates read bits"),
    "logic-rank": ("logic(%flat)", "logic(%bits)", "line 7: node %out .* a channel axis and 0"),
    "logic-none": ("logic(%flat)", "logic()", r"line 7: expected a value such as %x, found '\)'"),
    "over": ("(%flat)", "(%flat) over 2xx2", "line 7: expected sizes such as 14x14"),
    "over-rank": ("(%flat)", "(%flat) over 2x2", r"line 8: expected tap input\[channel, offset, o"),
    "stride-rank": ("(%flat)", "(%flat) over 2 stride 1x1", "line 8: expected tap"),
    "tap-channel": ("0[11]", "0[12]", r"line 7: node %out .*tap 1 \(net 3\) reads .*channel 12"),
    "tap-input": ("0[11]", "1[11]", r"line 7: node %out .*tap 1 \(net 3\) reads input 1"),
    "tap-huge": ("0[11]", "0[9999999999]", "line 9: expected an integer .at most"),
    "tap-late": ("    %5 =", "    %6 = tap 0[3]\n    %5 =", "line 11: taps come above the first g"),
    "net-twice": ("%5 = lut", "%4 = lut", "line 11: net %4 is defined twice"),
    "net-cycle": ("%4 = and %2", "%4 = and %5", "line 10: net %5 is not defined above.*cycle"),
    "net-self": ("%4 = and %2", "%4 = and %4", "line 10: net %4 is not defined above.*cycle"),
    "yield-net": ("yield %4", "yield %9", "line 12: net %9 is not defined above"),
    "yield-missing": ("    yield %4, %5\n", "", "line 12: expected '%net = gate %a, %b' or 'yield"),
    "yield-twice": ("    yield %4, %5\n", "    yield %4\n    yield %5\n", "line 13: expected '}'"),
    "gate-name": ("= and", "= adn", "line 10: unknown gate 'adn'; known: a, and,"),
    "gate-arity": ("= and %2, %3", "= and %2", "line 10: gate and takes 2 operands, found 1"),
    "gate-comma": ("and %2, %3", "and %2 %3", "line 10: expected '%net = gate %a, %b'"),
    "gate-table": ("= and", "= and 0x3", "line 10: gate and takes 2 operands, found 2|no table"),
    "lut-bits": ("0x17 ", "0x117 ", "line 11: table '0x117' has more than the 8 bits of 3 inputs"),
    "lut-none": ("0x17 %2, %3, %4", "0x17", "line 11: a lut has 1 to 6 operands, found 0"),
    "lut-seven": ("0x17 %2", "0x17 %2" + ", %3" * 4, "line 11: a lut has 1 to 6 operands, found 7"),
    "lut-table": ("lut 0x17", "lut", "line 11: expected lut 0x<table>"),
    "body-open": (GOOD[GOOD.index("    yield") :], "", "line 12: expected '%net = ...' or 'yield'"),
    "tau-zero": ("tau=20", "tau=0", "line 14: node %score .*tau=0.0 must be finite and not 0"),
    "tau-tiny": ("tau=20", "tau=1e-60", "line 14: node %score .*not 0 in float32"),
    "tau-inf": ("tau=20", "tau=inf", "line 14: node %score .*must be finite"),
    "beta-nan": ("beta=0", "beta=nan", "line 14: expected a number, found 'nan'"),
    "groups": ("groups=2", "groups=3", "line 14: node %score .*2 bits do not split into 3"),
    "groups-zero": ("groups=2", "groups=0", "line 14: node %score .*do not split into 0"),
    "output": ("output %score", "output %scores", "line 15: %scores is not defined above"),
    "output-none": ("  output %score\n", "", "graph 'g' has no output"),
    "end": ("}\n", "", "line 16: expected a statement or '}', found the end of the text"),
    "garbage": ("output %score\n}\n", "output %score\n}\n\ngraph", "line 18: expected the end"),
    "two-graphs": ("output %score\n}\n", f"output %score\n}}\n{GOOD}", "line 17: expected the end"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_with_its_line(fault: str) -> None:
    old, new, message = FAULTS[fault]
    assert old in GOOD
    text = GOOD[::-1].replace(old[::-1], new[::-1], 1)[::-1] if fault == "end" else None
    with pytest.raises((ParseError, GraphError), match=f"^{message}") as caught:
        lgir.parse(GOOD.replace(old, new, 1) if text is None else text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


TOKENS = sorted({*re.findall(r"\w+|\S", GOOD), "-1", "nan", "inf", "0x", "%", '"', "...", "x", ";"})


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = lgir.dumps(random_graph(draw(st.integers(0, 30))), full=True)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.integers(0, 12))
        new = draw(st.one_of(st.sampled_from(TOKENS), st.text(max_size=4), st.just(text[:40])))
        text = text[:start] + new + text[stop:]
    return text


@settings(max_examples=300)
@given(mutated())
def test_mutated_text_parses_or_raises_lgir_errors_only(text: str) -> None:
    with contextlib.suppress(ParseError, GraphError):
        graph = lgir.parse(text)
        assert lgir.parse(lgir.dumps(graph, full=True)) == graph


@given(st.text() | st.text().map(lambda body: GOOD.replace("    yield", body, 1)))
def test_any_text_parses_or_raises_lgir_errors_only(text: str) -> None:
    with contextlib.suppress(ParseError, GraphError):
        lgir.parse(text)


@pytest.mark.parametrize("unit", ["1", " ", "%a,", "[", '"', "\\", "-", "a", "0x", ";", "\t,"])
def test_long_runs_of_one_thing_are_read_in_linear_time(unit: str) -> None:
    """A regular expression that backtracked would take hours here."""
    for old in ("20", "    %4 = and", "lut ", "yield ", '"a"', "0[11]"):
        with contextlib.suppress(ParseError, GraphError):
            lgir.parse(GOOD.replace(old, old + unit * 20_000, 1))
