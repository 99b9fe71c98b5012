"""Records of steps: fields by name, and links to tables and code."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.llvm.llvm_text import FunctionWriter
from lgir.backends.llvm.records import (
    FLOAT,
    INTEGER,
    KERNEL_PARAMS,
    KERNEL_WORD,
    POINTER,
    RECORD_WORDS,
    RecordLayout,
    link_records,
)

LAYOUT = RecordLayout(rows=POINTER, space=(INTEGER, 3), tau=FLOAT, code=POINTER)


def test_fields_follow_the_kernels_address_without_gaps() -> None:
    assert [LAYOUT.word("rows"), LAYOUT.word("space"), LAYOUT.word("space", 2)] == [1, 2, 4]
    assert [LAYOUT.word("tau"), LAYOUT.word("code")] == [5, 6]


def test_a_record_holds_numbers_and_leaves_pointers_to_the_link() -> None:
    table = np.arange(3, dtype=np.uint32)
    record = LAYOUT.record("kernel", rows=table, space=(7, 8), tau=1.5, code={"code": 64})
    assert record.kernel == "kernel"
    assert record.fields[2:5].tolist() == [7, 8, 0]
    assert record.fields[5] == np.float32(1.5).view(np.uint32)
    assert record.fields[KERNEL_WORD] == record.fields[1] == record.fields[6] == 0
    assert record.tables[1] is table
    assert record.code == {6: 64}


def test_linked_records_hold_addresses() -> None:
    table = np.arange(3, dtype=np.uint32)
    steps = [
        LAYOUT.record("first", rows=table, space=(7, 8, 9)),
        LAYOUT.record("second", code={"code": 64}),
    ]
    first, second = link_records(steps, {"first": 1000, "second": 2000}, code=5000)
    assert first[:5].tolist() == [1000, table.ctypes.data, 7, 8, 9]
    assert second[KERNEL_WORD] == 2000
    assert second[LAYOUT.word("code")] == 5064


def test_kernels_load_fields_by_their_type() -> None:
    f = FunctionWriter("kernel", KERNEL_PARAMS, ternary=False)
    LAYOUT.load(f, "rows")
    LAYOUT.load(f, "space", 2)
    LAYOUT.load(f, "tau")
    loads = [line.split(" = ")[1] for line in f.lines if " load " in line]
    assert [load.split(",")[0] for load in loads] == ["load ptr", "load i64", "load float"]
    offsets = [line.rpartition(" ")[2] for line in f.lines if "getelementptr" in line]
    assert offsets == ["8", "32", "40"]


def test_fields_must_fit_a_record() -> None:
    RecordLayout(shifts=(INTEGER, RECORD_WORDS - 1))
    with pytest.raises(ValueError, match="32 words, these fields take 33"):
        RecordLayout(shifts=(INTEGER, RECORD_WORDS))


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(KeyError, match="colums"):
        LAYOUT.record("kernel", colums=3)
