"""Candidate classes: nets that simulation cannot tell apart up to complement."""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.equivalence.arrays import Index, Mask
from lgir.ir.body import Body
from lgir.ir.simulate import Words, evaluate_body

_SIMULATED_WORDS: Final = 1 << 23  # words of nets held at a time, 64 MiB


class CandidateClasses:
    """Classes of nets with equal signatures on all samples so far.

    Signatures are hashes, so nets of one class are candidates for equality and no more.

    Attributes:
        head: the first net of each net's class, (num_nets,).
        complemented: whether each net and its head are complements, (num_nets,).
    """

    def __init__(self, body: Body, planes: Words) -> None:
        self.head: Index = np.zeros(body.num_nets, np.int64)
        self.complemented: Mask = np.zeros(body.num_nets, bool)
        self._body = body
        self._key = np.zeros(body.num_nets, np.uint64)
        first_word = evaluate_body(body, planes[:, :1])[:, 0]
        self._first_sample: Mask = (first_word & np.uint64(1)).astype(bool)
        self.refine(planes)

    def refine(self, planes: Words) -> None:
        """Take in more samples, bit planes (T, words) of the taps, and split the classes."""
        step = max(1, _SIMULATED_WORDS // self._body.num_nets)
        for start in range(0, planes.shape[1], step):
            nets = evaluate_body(self._body, planes[:, start : start + step])
            nets[self._first_sample] = ~nets[self._first_sample]
            for word in nets.T:
                self._key = (self._key ^ word) * np.uint64(0xBF58476D1CE4E5B9)
                self._key ^= self._key >> np.uint64(29)
        _, first, inverse = np.unique(self._key, return_index=True, return_inverse=True)
        self.head = first[inverse.ravel()]
        self.complemented = self._first_sample != self._first_sample[self.head]
