"""Candidate classes: what simulation can tell apart is split, and what it cannot is kept."""

from __future__ import annotations

import numpy as np

from lgir.equivalence.candidates import CandidateClasses
from lgir.ir.body import Body
from lgir.ir.simulate import pack_planes
from lgir.ir.truth_tables import AND, NAND, OR

TAPS = [[0, 0], [0, 1]]
BODY = Body.build(TAPS, [[2, 3], [2, 3], [3, 2], [2, 3]], [AND, NAND, AND, OR], [4, 5, 6, 7])


def planes(*samples: tuple[int, int]) -> np.ndarray:
    """Return bit planes of samples of the two taps, repeated to fill a word."""
    bits = np.array(samples, bool)
    return pack_planes(bits[np.arange(64) % len(bits)])


def test_equal_and_complementary_gates_share_a_class_on_all_samples() -> None:
    classes = CandidateClasses(BODY, planes((0, 0), (0, 1), (1, 0), (1, 1)))
    assert classes.head.tolist() == [0, 0, 2, 3, 4, 4, 4, 7]
    assert classes.complemented.tolist() == [False, True, *[False] * 3, True, False, False]


def test_a_refinement_splits_what_a_new_sample_tells_apart() -> None:
    classes = CandidateClasses(BODY, planes((0, 0), (1, 1)))
    assert classes.head[7] == classes.head[4] == 2  # or, and, first tap: equal on these samples
    classes.refine(planes((1, 0)))
    assert classes.head.tolist() == [0, 0, 2, 3, 3, 3, 3, 2]
    classes.refine(planes((0, 1)))
    assert classes.head.tolist() == [0, 0, 2, 3, 4, 4, 4, 7]
