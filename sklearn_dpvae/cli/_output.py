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
    if arguments.json:
        print(json.dumps(data))
    elif not arguments.quiet:
        print(message)
