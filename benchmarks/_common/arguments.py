"""Arguments that benchmarks share, and their log."""

import argparse
import os
import sys
from pathlib import Path


def parser(name, doc, *, data=True, seeds=None):
    """Parser of ``python -m benchmarks.NAME``, described by the docstring of its module."""
    arguments = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if data:
        add_data(arguments)
    arguments.add_argument("-o", "--output", type=Path, help="JSON file of all results")
    arguments.add_argument(
        "--redo", action="store_true", help="measure anew what the file has already"
    )
    if seeds is not None:
        arguments.add_argument(
            "--seeds", type=int, default=seeds, help="number of seeds, from 0 on"
        )
    return arguments


def add_data(arguments, *, required=True):
    """Add the argument that names the folder of data."""
    default = os.environ.get("SKLEARN_DPVAE_DATA")
    arguments.add_argument(
        "data",
        type=Path,
        nargs="?" if default or not required else None,
        default=default and Path(default),
        help="folder of .h5ad files (default: the environment variable SKLEARN_DPVAE_DATA)",
    )


def log(text):
    """Write a line about the progress; the standard output is for tables."""
    print(text, file=sys.stderr, flush=True)
