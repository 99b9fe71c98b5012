"""Map a compiled network over the partitions of a Dask array, on a local cluster of processes.

    pip install 'lgir[dask]'
    python examples/dask_map.py

An executable pickles as its graph and options. A worker compiles it once, mostly from the cache of
object code that the first compilation filled, and keeps it for its other tasks. So it is with Ray,
Spark, joblib and whatever else pickles functions.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import click
import dask.array as da
import numpy as np
import numpy.typing as npt
from distributed import Client, LocalCluster, wait

import lgir
from lgir.zoo import build_net


@click.command()
@click.option("--net", default="dense-6x8000", show_default=True, help="A random network.")
@click.option("--samples", default=200_000, show_default=True)
@click.option("--partition", default=50_000, show_default=True, help="Samples a partition.")
@click.option("--workers", default=2, show_default=True, help="Processes.")
def main(net: str, samples: int, partition: int, workers: int) -> None:
    """Compare the scores and the time of a Dask cluster with those of a direct call."""
    graph, _ = lgir.optimize(build_net(net))
    exe = lgir.compile(graph, "llvm", threads=1)  # workers share the cores between them
    image = graph.inputs[0]
    (classes,) = graph.values[graph.outputs[0]].shape
    sizes = da.core.normalize_chunks((partition,), (samples,))[0]

    def random_images(block_info: Any) -> npt.NDArray[np.uint8]:
        """A partition, made in its worker: data has no need to pass through this process."""
        start, stop = block_info[None]["array-location"][0]
        below = 2 if image.dtype == "bit" else 256
        shape = (stop - start, *image.shape)
        return np.random.default_rng(start).integers(below, size=shape, dtype=np.uint8)

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        parts = (sizes, *((size,) for size in image.shape))
        x = da.map_blocks(random_images, chunks=parts, dtype=np.uint8).persist()
        wait(x)
        meta = np.empty((0, classes), np.float32)  # or Dask would call the network to find out
        y = x.map_blocks(exe, chunks=(sizes, (classes,)), drop_axis=range(2, x.ndim), meta=meta)
        for note in ("and workers' imports and compilation", "and no more"):
            start = perf_counter()
            mapped = y.compute()
            print(
                f"{workers} workers: {perf_counter() - start:.3f} s for {samples:,} samples {note}"
            )
        in_memory = x.compute()
    start = perf_counter()
    direct = exe(in_memory)
    print(f"this process: {perf_counter() - start:.3f} s")
    if not np.array_equal(mapped, direct):
        raise SystemExit("scores differ")
    print("scores are equal")


if __name__ == "__main__":  # workers import this file
    main()
