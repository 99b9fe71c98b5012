"""The estimate up to which batch size the single-sample program is faster than a block."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lgir.backends.llvm.single_sample.costs import ZEN4
from lgir.backends.llvm.single_sample.crossover import MAX_SAMPLES, block_cycles, crossover
from lgir.backends.llvm.single_sample.program import SingleSampleProgram
from lgir.backends.llvm.target import resolve_target
from lgir.zoo import dense_net, logictreenet

AVX512, AVX2, SSE = (resolve_target(name) for name in ("avx512", "avx2", "generic"))


@pytest.mark.parametrize("python", [False, True])
def test_it_is_the_ratio_of_a_block_to_a_sample(python: bool) -> None:
    graph = dense_net(2, 400)
    program = SingleSampleProgram(graph, AVX512)
    block = block_cycles(graph, AVX512) + ZEN4.block_call + python * ZEN4.block_python_call
    expected = min(MAX_SAMPLES, int(block / program.cycles))
    assert crossover(graph, program, python=python) == expected


def test_it_lies_between_none_and_the_most() -> None:
    graph = dense_net(2, 400)
    program = SingleSampleProgram(graph, AVX512)
    free = replace(ZEN4, block_call=0, block_slowdown={512: 0.0})
    dear = replace(ZEN4, block_call=1e12)
    assert crossover(graph, program, costs=free) == 0
    assert crossover(graph, program, costs=dear) == MAX_SAMPLES


def test_blocks_take_longer_with_narrower_registers() -> None:
    for graph in (dense_net(2, 400), logictreenet(8)):
        cycles = [block_cycles(graph, target) for target in (AVX512, AVX2, SSE)]
        assert cycles == sorted(set(cycles))


def test_a_sample_is_the_sum_of_its_steps() -> None:
    program = SingleSampleProgram(logictreenet(8), AVX2)
    steps = [ZEN4.step + step.cycles(ZEN4, ternary=False) for step in program.plan.steps]
    assert program.cycles == pytest.approx(sum(steps))
    assert min(steps) > ZEN4.step
