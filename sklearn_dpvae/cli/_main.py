"""Arguments, and what becomes of errors and warnings.

Imports the commands once one of them is to run: they need torch, which ``--help`` does not wait
for.
"""

import argparse
import ast
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__

PROGRAM = "sklearn-dpvae"

# Where the function of each command is.
COMMANDS = {
    "demo": "_demo",
    "fit": "_commands",
    "predict": "_commands",
    "evaluate": "_commands",
}

# What users and their files can cause. Anything else is a bug, whose traceback is wanted.
EXPECTED = (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError)


class _UsageError(Exception):
    """Arguments that cannot be parsed."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others of the program."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    status : int
        0 on success, 2 after an error, of which one line on stderr tells, 130 after Ctrl-C.

    Examples
    --------
    >>> from sklearn_dpvae.cli import main
    >>> main(["predict", "tissue.dpvae", "query.h5ad", "-o", "positions.txt"])
    2
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            arguments = _parser().parse_args(argv)
            module = import_module(f".{COMMANDS[arguments.command]}", __package__)
            getattr(module, arguments.command)(arguments)
        except (_UsageError, *EXPECTED) as error:
            _say("error", str(error) or type(error).__name__)
            return 2
        except KeyboardInterrupt:
            _say("error", "interrupted")
            return 130
    return 0


def _say(kind: str, message: str) -> None:
    print(f"{PROGRAM}: {kind}: {' '.join(message.split())}", file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any) -> None:
    _say("warning", str(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Predict where in a tissue cells are, from their expression.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_fit(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    return parser


def _add_demo(commands: Any) -> None:
    parser = _add(commands, "demo", "fit and score a synthetic tissue, and draw it")
    parser.add_argument(
        "-o",
        "--output",
        metavar="PNG",
        help="picture to write (default: dpvae_demo.png where matplotlib is installed)",
    )
    parser.add_argument("--n-cells", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    _add_settings(parser)


def _add_fit(commands: Any) -> None:
    parser = _add(commands, "fit", "learn from sections with positions")
    parser.add_argument(
        "reference",
        nargs="+",
        metavar="REF",
        help=".h5ad file or Space Ranger folder; several are put together",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="MODEL",
        help="model to write, as a rule called .dpvae; sklearn_dpvae.load reads it, too",
    )
    parser.add_argument("--layer", help="layer of the .h5ad with the counts (default: .X)")
    parser.add_argument(
        "--spatial-key", default="spatial", help="positions in obsm (default: %(default)s)"
    )
    parser.add_argument(
        "--section-key",
        default="section",
        help="column of obs with section labels (default: %(default)s; without such a column "
        "a file is one section)",
    )
    parser.add_argument("--unit", help="unit of the positions, e.g. µm, which the model notes")
    parser.add_argument(
        "--preset",
        choices=["recommended", "paper"],
        default="recommended",
        help="steps of the model: make_spatial_pipeline, or make_paper_pipeline, the recipe of "
        "the paper, to compare with (default: %(default)s)",
    )
    _add_query(parser, "default: same_section; not with --preset paper")
    parser.add_argument(
        "--n-top-genes", type=int, help="genes to keep (default: 2000; 1000 with --preset paper)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    _add_settings(parser)


def _add_predict(commands: Any) -> None:
    parser = _add(commands, "predict", "predict the positions of a query's cells")
    _add_model(parser)
    parser.add_argument(
        "query",
        metavar="QUERY",
        help=".h5ad file, or a folder or .h5 matrix of Space Ranger or Cell Ranger",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help=".csv: barcode, x, y, std; .h5ad: the query with what "
        "sklearn_dpvae.anndata.predict writes into it, obsm['spatial_dpvae'] among it",
    )
    _add_fitted_keys(parser)


def _add_evaluate(commands: Any) -> None:
    parser = _add(commands, "evaluate", "compare predictions with measured positions")
    _add_model(parser)
    parser.add_argument("file", metavar="FILE", help="a section with positions, as for 'fit'")
    _add_fitted_keys(parser)
    parser.add_argument("--spatial-key", help="positions in obsm (default: as fitted)")


def _add(commands: Any, name: str, help: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(command=name)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="what 'fit' or sklearn_dpvae.save wrote; or a .joblib, .pickle or .pkl file of a "
        "fitted model that knows its genes. A pickle runs code: name only files that you trust",
    )


def _add_fitted_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layer", help="layer of the .h5ad with the counts, X for .X (default: as fitted)"
    )
    parser.add_argument(
        "--section-key",
        help="column of obs with section labels (default: as fitted; without such a column a "
        "file is one section)",
    )
    _add_query(parser, "default: as fitted")


def _add_query(parser: argparse.ArgumentParser, note: str) -> None:
    parser.add_argument(
        "--query",
        dest="query_kind",
        choices=["same_section", "new_section"],
        help="whether queries come from the reference's own sections or from others, which are "
        f"z-scored by their own statistics ({note})",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        type=_setting,
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="parameter of DPVAESpatialRegressor, e.g. max_epochs=50; may be repeated",
    )


def _setting(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``: numbers, tuples and the like are read, anything else is text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
