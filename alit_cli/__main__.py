"""`python -m alit_cli` is `alit`, also in a checkout that is not installed."""

from alit_cli.cli import main

if __name__ == "__main__":  # decoding processes import this file again
    main(prog_name="alit")
