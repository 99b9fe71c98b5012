"""The C backend: portable C source, and the C interface that all compiled libraries have."""
