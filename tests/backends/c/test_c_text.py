"""Helpers that write C text, against what C says that the text means."""

from __future__ import annotations

import itertools
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from c_library import needs_cc
from lgir.backends.c.constants import ConstantPool
from lgir.backends.c.expressions import expression_inputs, gate_expression
from lgir.backends.c.text import (
    c_name,
    comment,
    define,
    float_literal,
    header_file,
    needed_pieces,
    parenthesized,
    string_literal,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3.0f"),
        (0.1, "0.100000001f"),
        (1e-30, "1e-30f"),
        (-0.0, "-0.0f"),
        (float("inf"), "HUGE_VALF"),
        (float("-inf"), "-HUGE_VALF"),
    ],
)
def test_float_literals(value: float, text: str) -> None:
    assert float_literal(value) == text


def test_a_float_literal_is_exactly_its_float32() -> None:
    bits = np.random.default_rng(0).integers(0, 0x7F80_0000, 2000, dtype=np.uint32)
    bits[:3] = 1, 0x007F_FFFF, 0x7F7F_FFFF  # the smallest, the largest subnormal, the largest
    for number in bits.view(np.float32):
        assert np.float32(float_literal(float(number)).removesuffix("f")) == number


@needs_cc
def test_a_string_literal_is_exactly_its_bytes(tmp_path: Path) -> None:
    texts = ["plain", 'a "quoted" \\ word', "??/ trigraph", "line\nbreak\t", "é𝕏", "0\x017", ""]
    items = ",\n".join(f"{{{string_literal(t)}, sizeof {string_literal(t)} - 1}}" for t in texts)
    source, program = tmp_path / "strings.c", tmp_path / "strings"
    source.write_text(f"""#include <stdio.h>
static const struct {{ const char *text; unsigned length; }} items[] = {{{items}}};
int main(void)
{{
    for (unsigned i = 0; i < sizeof items / sizeof *items; i++) {{
        fwrite(&items[i].length, sizeof(unsigned), 1, stdout);
        fwrite(items[i].text, 1, items[i].length, stdout);
    }}
    return 0;
}}
""")
    subprocess.run(["cc", "-std=c99", "-trigraphs", source, "-o", program], check=True)
    output = subprocess.run([program], capture_output=True, check=True).stdout
    assert output == b"".join(struct.pack("I", len(t.encode())) + t.encode() for t in texts)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("net", "net"), ("9 lives!", "v9_lives"), ("a-b.c", "a_b_c"), ("__", "model"), ("ü", "model")],
)
def test_names_of_c(name: str, expected: str) -> None:
    assert c_name(name) == expected


def test_a_comment_holds_any_text_and_keeps_paragraphs() -> None:
    assert comment("short") == "/* short */"
    assert comment("an end */ inside") == "/* an end * / inside */"
    long = comment("one\n\n" + "word " * 40)
    assert long.startswith("/* one\n *\n * word word")
    assert long.endswith("word\n */")
    assert max(map(len, long.splitlines())) <= 97


def test_definitions_of_macros() -> None:
    assert define("NET_OK", 0) == "#define NET_OK 0"
    assert define("NET_BAD", 1, "it is bad") == "#define NET_BAD 1 /* it is bad */"


def test_lists_are_broken_at_the_bracket() -> None:
    assert parenthesized("f(", ["int a", "int b"], 96) == "f(int a, int b)"
    assert parenthesized("f(", ["int a", "int b"], 10) == "f(int a,\n  int b)"


def test_only_pieces_that_are_needed_are_kept() -> None:
    pieces = {"word": "typedef int word;", "load": "word load();", "mask": "word mask();"}
    assert needed_pieces(pieces, "x = load(p);") == [pieces["word"], pieces["load"]]
    assert needed_pieces(pieces, "unload, words") == []


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("compiler", ["cc", "c++"])
def test_headers_can_be_read_twice(compiler: str, tmp_path: Path) -> None:
    header = header_file("About.", "NET_H", ["#include <stddef.h>"], ["size_t net_size(void);"])
    (tmp_path / "net.h").write_text(header)
    source = tmp_path / ("use.cpp" if compiler == "c++" else "use.c")
    source.write_text('#include "net.h"\n#include "net.h"\nint main(void) { return !net_size; }\n')
    command = [compiler, "-Wall", "-Wno-address", "-Werror", "-fsyntax-only", source]
    subprocess.run(command, check=True)


def evaluate(expression: str, values: tuple[int, ...]) -> int:
    """Return the value of a C expression of words for words of one bit."""
    text = re.sub(r"\(word\)", "", expression)
    return int(eval(text, {}, {f"x{i}": value for i, value in enumerate(values)})) & 1


@pytest.mark.parametrize("fanin", [1, 2, 3, 4])
def test_expressions_compute_their_truth_tables(fanin: int) -> None:
    names = [f"x{i}" for i in range(fanin)]
    bits = 1 << fanin
    all_tables = range(1 << bits)
    tables = (
        all_tables if fanin <= 3 else np.random.default_rng(0).integers(0, 1 << bits, 200).tolist()
    )
    for table in tables:
        expression = gate_expression(table, names)
        for index, values in enumerate(itertools.product((0, 1), repeat=fanin)):
            assert evaluate(expression, values) == table >> index & 1, (table, expression)


def test_inputs_of_an_expression_are_those_that_it_depends_on() -> None:
    assert expression_inputs(0b1000, 2) == (0, 1)
    assert expression_inputs(0b1100, 2) == (0,)
    assert expression_inputs(0b1010, 2) == (1,)
    assert expression_inputs(0b0000, 2) == ()


def test_equal_constants_are_written_and_counted_once() -> None:
    pool = ConstantPool(plane_bytes=2)
    rows = np.arange(20).reshape(2, 10)
    assert pool.add_table("rows", "plane", rows) == "rows_0"
    assert pool.add_table("others", "plane", rows.copy()) == "rows_0"
    assert pool.add_table("tables", "uint64_t", np.array([10, 255], np.uint64)) == "tables_1"
    assert pool.table_bytes == 2 * 20 + 8 * 2
    first, second = pool.definitions()
    assert first.startswith("static const plane rows_0[] = {\n    0, 1, ")
    assert second == "static const uint64_t tables_1[] = {\n    0xau, 0xffu\n};"


def test_levels_that_all_elements_share_are_written_once() -> None:
    pool = ConstantPool(plane_bytes=2)
    shared = np.array([[0.5, 0.5, 0.5], [7.0, 7.0, 7.0]], np.float32)
    assert pool.add_levels("f32", shared) == ("levels_0", False)
    assert pool.add_levels("f32", shared + np.float32([0, 0, 1])) == ("levels_1", True)
    assert pool.add_levels("u8", shared) == ("levels_2", False)
    assert "0.5f, 7.0f" in pool.definitions()[0]
    assert "static const int16_t levels_2[] = {\n    0, 7\n};" in pool.definitions()
