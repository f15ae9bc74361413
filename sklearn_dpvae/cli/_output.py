"""What commands say: progress on stderr, results on stdout."""

import json
import sys
from argparse import Namespace
from typing import Any

# Remedies that the package names, and what they are for the command.
_IN_WORDS_OF_THE_COMMAND = {
    "sklearn_dpvae.anndata.check says more": "sklearn-dpvae check MODEL QUERY says more",
    ', or pass underdetermined="allow" for one of the equally good answers': "",
    'layer="counts" or layer="raw"': "--layer counts or --layer raw",
    'query="new_section"': "--query new_section",
}


def in_words_of_the_command(message: str) -> str:
    """A message of the package, with options in place of arguments."""
    for python, command in _IN_WORDS_OF_THE_COMMAND.items():
        message = message.replace(python, command)
    return message


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
