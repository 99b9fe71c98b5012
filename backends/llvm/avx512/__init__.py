"""AVX-512 machine code for trees that a convolution evaluates at every position.

The way of a tree through this package: `instruction_selection` (two gates per vpternlog),
`tree_reads` (what is read again, in the same position or the next), `register_allocation` (a linear
scan), `evex_encoder` (bytes), `tree_functions` (loops over positions around them) and
`executable_memory` (pages of this process). See docs/design/avx512.md.
"""
