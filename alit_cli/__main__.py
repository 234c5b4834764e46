"""`python -m alit_cli` is `alit`, also in a checkout that is not installed."""

from alit_cli.cli import main

main(prog_name="alit")
