"""The C backend writes portable C source, and the C interface that all compiled libraries have."""
