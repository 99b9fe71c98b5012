"""`python -m lgir`: the command line without its console script."""

from lgir.cli import main

main(prog_name="lgir")
