"""Kinds of steps, one module each: kernels, record layout, tables and cost."""
