"""Executable: what every backend returns, with scores, labels and counts for a batch of samples."""

from __future__ import annotations

import abc
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from lgir.errors import BackendError
from lgir.ir.graph import Graph
from lgir.ir.scores import first_sum
from lgir.ir.simulate import group_scores
from lgir.packed import Packed
from lgir.samples import Array, check_floats, check_samples, is_tensor, unread_numbers

Labels = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]


class Executable(abc.ABC):
    """A compiled graph, called with one array per graph input.

    A backend implements `_run`, and `_labels` and `_counts` if it has quicker ways to them.

    Attributes:
        graph: the graph that was compiled.
        backend: the backend's registered name.
        takes_packed: whether `_run` gets packed samples as their words, uint64 (N, words).
    """

    backend: str = ""
    takes_packed: bool = False

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @property
    def asm(self) -> dict[str, str]:
        """Return the text of each stage that exists, by name: "llvm", "asm", "cuda", "ptx"."""
        return {}

    @property
    def crossover(self) -> int:
        """Return the largest batch that is evaluated one sample after another.

        It is 0 if the backend evaluates every batch in blocks.
        """
        return 0

    @overload
    def __call__(self, *samples: Array | Packed, threads: int | None = None) -> Array: ...
    @overload
    def __call__(self, *samples: Any, threads: int | None = None) -> Any: ...
    def __call__(self, *samples: Any, threads: int | None = None) -> Any:
        """Return the outputs for a batch of N samples.

        Args:
            samples: numpy arrays or torch tensors (N, *input shape), N >= 0, one per graph input:
                bool or 0/1 numbers for a bit input, or `lgir.Packed`; uint8 (or integers 0..255)
                for u8; any real dtype for f32. Strided views are accepted.
            threads: number of threads that split the batch, if the backend uses threads.

        Returns:
            float32 (N, groups) scores, or bool (N, *shape) for an output of bits. A graph of
            several outputs gives a tuple of them. The results are torch tensors if the first
            sample array is one.

        Raises:
            InputError: the number of arrays, a shape, a dtype or a value is wrong.
        """
        arrays, n = self._check(samples)
        results = _like_first(samples, self._run(arrays, n, threads))
        return results[0] if len(results) == 1 else tuple(results)

    @overload
    def predict(self, *samples: Array | Packed, threads: int | None = None) -> Labels: ...
    @overload
    def predict(self, *samples: Any, threads: int | None = None) -> Any: ...
    def predict(self, *samples: Any, threads: int | None = None) -> Any:
        """Return class labels, int64 (N,): the argmax of the first output, the lowest on ties.

        Arguments and errors are those of a call.
        """
        arrays, n = self._check(samples)
        return _like_first(samples, [self._labels(arrays, n, threads)])[0]

    @overload
    def counts(self, *samples: Array | Packed, threads: int | None = None) -> Counts: ...
    @overload
    def counts(self, *samples: Any, threads: int | None = None) -> Any: ...
    def counts(self, *samples: Any, threads: int | None = None) -> Any:
        """Return scores as integers, int32 (N, groups): the number of True bits of each group.

        They are what the GroupSum of the first output counts, before `beta` is added and `tau`
        divides. Arguments are those of a call.

        Raises:
            InputError: as a call.
            BackendError: no GroupSum gives the first output.
        """
        if first_sum(self.graph) is None:
            name = self.graph.outputs[0]
            raise BackendError(f"output %{name} is no GroupSum's, so it has no counts")
        arrays, n = self._check(samples)
        return _like_first(samples, [self._counts(arrays, n, threads)])[0]

    def _check(self, samples: Sequence[Any]) -> tuple[list[Array], int]:
        arrays, n = check_samples(self.graph.inputs, samples, packed=self.takes_packed)
        for i in self._unread_numbers:
            check_floats(self.graph.inputs[i], arrays[i])
        return arrays, n

    @cached_property
    def _unread_numbers(self) -> list[int]:
        """The places of the inputs whose numbers no code looks at, and that are checked here."""
        return unread_numbers(self.graph)

    @abc.abstractmethod
    def _run(self, samples: list[Array], n: int, threads: int | None) -> list[Array]:
        """Return all outputs for checked samples; `check_samples` states their dtypes."""

    def _labels(self, samples: list[Array], n: int, threads: int | None) -> Labels:
        """Return the labels (N,) for checked samples."""
        labels: Labels = self._run(samples, n, threads)[0].argmax(axis=-1)
        return labels

    def _counts(self, samples: list[Array], n: int, threads: int | None) -> Counts:
        """Return the counts (N, groups) for checked samples.

        Each score is looked up among the scores of all counts that a group can have.
        """
        scores = self._run(samples, n, threads)[0]
        first = first_sum(self.graph)
        assert first is not None
        op, bits = first
        score_of_count = group_scores(np.arange(bits + 1), op)
        if len(np.unique(score_of_count)) < len(score_of_count):
            raise BackendError(
                "different counts have the same score; backend 'llvm' tells them apart"
            )
        order = np.argsort(score_of_count)
        return order[np.searchsorted(score_of_count, scores, sorter=order)].astype(np.int32)


def _like_first(samples: Sequence[Any], results: list[Array]) -> list[Any]:
    """Return `results` as tensors if the first sample array is one, as they are otherwise."""
    if not samples or not is_tensor(samples[0]):
        return results
    torch = sys.modules["torch"]
    return [torch.from_numpy(r) for r in results]
