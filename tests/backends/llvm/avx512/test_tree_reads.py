"""The analysis of what trees read, against sets of lines."""

from __future__ import annotations

import numpy as np
import pytest

from lgir.backends.llvm.avx512.tree_reads import analyze_tree_reads


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_cells_are_the_distinct_lines_and_tell_which_are_read_again(step: int) -> None:
    reads = np.random.default_rng(step).integers(100, 130, (50, 12))
    analysis = analyze_tree_reads(reads, step)
    for tree in range(len(reads)):
        lines = sorted(set(reads[tree].tolist()))
        assert analysis.line[tree, : len(lines)].tolist() == lines
        assert analysis.line[tree, analysis.cell[tree]].tolist() == reads[tree].tolist()
        for cell, line in enumerate(lines):
            assert analysis.last_read[tree, cell] == max(np.flatnonzero(reads[tree] == line))
            assert analysis.is_carried[tree, cell] == (bool(step) and line + step in lines)
            if analysis.is_carried[tree, cell]:
                assert lines[analysis.carried_from[tree, cell]] == line + step
        assert not analysis.is_carried[tree, len(lines) :].any()
