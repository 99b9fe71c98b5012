"""The single-sample path: evaluate small batches one sample after another.

A block costs the same for one sample as for 512, so a small batch is faster with vector lanes that
hold the positions or the gates of one sample instead of the samples of a block.

The way of a graph through this package: `plan` (target-free steps over a workspace of bytes),
`program` (kernels and records for a target), `crossover` (up to which batch size this is faster)
and `runner` (calls from Python). See docs/design/single-sample.md.
"""
