"""A library with code for all levels of x86-64, on emulated CPUs and on this one, outputs checked.

python benchmarks/libraries.py
python benchmarks/libraries.py --net logictreenet-32 --samples 4096

Emulated CPUs need qemu-x86_64 (Debian: apt-get install qemu-user). Their speed says nothing; that
they compute equal scores does.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import lgir
from lgir.benchmarking.rendering import si
from lgir.errors import LgirError
from lgir.files import temporary_folder
from lgir.zoo import build_net

EMULATOR = "qemu-x86_64"
CPUS = ("Nehalem", "Haswell", "max")
EMULATED_SAMPLES = 512
MAIN = """\
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "net.h"

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Prints the level that is chosen; for every level its code, if scores are equal, and samples/s. */
int main(int argc, char **argv)
{
    enum { REPEATS = 9 };
    const long n = argc > 1 ? atol(argv[1]) : 0, outputs = n * NET_OUTPUT_ELEMENTS;
    uint8_t *x = malloc((size_t)n * NET_INPUT_ELEMENTS);
    float *scores = malloc((size_t)outputs * sizeof *scores);
    float *wanted = malloc((size_t)outputs * sizeof *wanted);
    void *workspace = malloc(NET_WORKSPACE_BYTES);
    if (!x || !scores || !wanted || !workspace)
        return 1;
    if (fread(x, NET_INPUT_ELEMENTS, (size_t)n, stdin) != (size_t)n ||
        fread(wanted, sizeof *wanted, (size_t)outputs, stdin) != (size_t)outputs)
        return 1;
    printf("%d\\n", net_level());
    for (int level = 1; level <= 3; level++) {
        double times[REPEATS];
        int equal = 1, code = net_use_level(level);
        for (int i = 0; code == NET_OK && i < REPEATS; i++) {
            const double start = seconds();
            code = net_predict_u8(x, n, scores, workspace);
            times[i] = seconds() - start;
        }
        if (code != NET_OK) {
            printf("%d 0 0\\n", code);
            continue;
        }
        for (long i = 0; i < outputs; i++)
            equal &= scores[i] == wanted[i];
        qsort(times, REPEATS, sizeof *times, ascending);
        printf("0 %d %.0f\\n", equal, (double)n / times[REPEATS / 2]);
    }
    return 0;
}
"""
LEVELS = ("x86-64", "x86-64-v3", "x86-64-v4")


@click.command()
@click.option("--net", default="dense-6x8000", show_default=True)
@click.option("--samples", type=click.IntRange(min=512), default=20480, show_default=True)
def main(net: str, samples: int) -> None:
    """Compile a network to net.so and run it by level; exit with 1 if any scores differ."""
    try:
        with temporary_folder() as folder:
            rows = measure(net, samples, folder)
    except LgirError as error:
        raise click.ClickException(str(error)) from None
    table = Table("CPU", "level chosen", *LEVELS, box=box.SIMPLE, title=f"{net}: samples/s")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if any("differs" in cell for row in rows for cell in row):
        raise SystemExit(1)


def measure(net: str, samples: int, folder: Path) -> list[list[str]]:
    """Return a row per CPU: its name, the level that it chooses, and a cell per level."""
    graph, _ = lgir.optimize(build_net(net))
    lgir.export(graph, folder / "net.so", header=folder / "net.h", prefix="net", target="portable")
    (folder / "main.c").write_text(MAIN)
    command = ["cc", "-O2", "-o", "main", "main.c", "./net.so"]
    subprocess.run(command, cwd=folder, check=True)
    (value,) = graph.inputs
    high = 2 if value.dtype == "bit" else 256
    x = np.random.default_rng(0).integers(0, high, (samples, *value.shape), dtype=np.uint8)
    wanted = lgir.compile(graph, "reference")(x.view(np.bool_) if high == 2 else x)
    runs: list[tuple[str, list[str], int]] = [("this machine", [], samples)]
    if shutil.which(EMULATOR):
        emulated = [(f"{cpu} (qemu)", [EMULATOR, "-cpu", cpu], EMULATED_SAMPLES) for cpu in CPUS]
        runs = emulated + runs
    rows = []
    for name, emulator, n in runs:
        done = subprocess.run(
            [*emulator, "./main", str(n)],
            cwd=folder,
            input=x[:n].tobytes() + wanted[:n].tobytes(),
            capture_output=True,
            check=True,
        )
        level, *lines = done.stdout.decode().splitlines()
        rows.append([name, LEVELS[int(level) - 1], *map(_cell, lines)])
    return rows


def _cell(line: str) -> str:
    """Return what one level did: its speed, or why it did not run."""
    code, equal, speed = line.split()
    if code != "0":
        return f"code {code}"
    return si(float(speed)) if equal == "1" else "differs"


if __name__ == "__main__":
    main()
