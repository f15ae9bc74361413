"""What commands say: progress on stderr, results on stdout."""

import json
import sys
from argparse import Namespace
from typing import Any


def report(arguments: Namespace, message: str) -> None:
    """Say on stderr what is being done, unless the program is to be quiet."""
    if not arguments.quiet:
        print(message, file=sys.stderr, flush=True)


def result(arguments: Namespace, message: str, **data: Any) -> None:
    """Say on stdout what was done: as JSON if asked, as text unless the program is quiet."""
    if not arguments.json and arguments.quiet:
        return
    try:
        print(json.dumps(data) if arguments.json else message, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        # A full disk names no file.
        raise OSError(error.errno, f"{error.strerror} on standard output") from error
