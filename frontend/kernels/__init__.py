"""Differentiable logic gates: forward and backward kernels for training."""
