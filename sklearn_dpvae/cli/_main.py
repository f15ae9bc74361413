"""Arguments, and what becomes of errors and warnings.

Imports the commands once one of them is to run: they need torch, which ``--help`` does not wait
for.
"""

import argparse
import ast
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

from .. import __version__
from ._output import in_words_of_the_command

PROGRAM = "sklearn-dpvae"

# Where the function of each command is.
COMMANDS = {
    "demo": "_demo",
    "fit": "_commands",
    "predict": "_commands",
    "map": "_map",
    "check": "_commands",
    "evaluate": "_commands",
    "tune": "_tune",
    "report": "_report",
}

# What users and their files can cause. Anything else is a bug, whose traceback is wanted.
EXPECTED = (
    OSError,
    ValueError,
    TypeError,
    ImportError,
    MemoryError,
    RuntimeError,
    FloatingPointError,
)


class _UsageError(Exception):
    """Arguments that cannot be parsed."""


class _Terminated(SystemExit):
    """The process was asked to end."""


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
        0 on success, 2 after an error, of which one line on stderr tells, 130 after Ctrl-C, 143
        after SIGTERM, and 1 if the reader of the output has closed it.

    Examples
    --------
    >>> from sklearn_dpvae.cli import main
    >>> main(["predict", "tissue.dpvae", "query.h5ad", "-o", "positions.txt"])
    2
    """
    with warnings.catch_warnings(), _exiting_on_sigterm():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            arguments = _parser().parse_args(argv)
            module = import_module(f".{COMMANDS[arguments.command]}", __package__)
            getattr(module, arguments.command)(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # Who reads the output, such as "head", has enough of it. What is left in the buffer
            # must not fail again at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (_UsageError, *EXPECTED) as error:
            _say("error", str(error) or type(error).__name__)
            return 2
        except KeyboardInterrupt:
            _say("error", "interrupted")
            return 130
        except _Terminated:
            _say("error", "terminated")
            return 143
    return 0


@contextmanager
def _exiting_on_sigterm() -> Iterator[None]:
    """Take SIGTERM, which batch systems send before they kill, for a wish to exit.

    By default it ends a process at once: nothing would be written to a checkpoint, and scratch
    files would stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Others cannot have handlers.
        return

    def end(*_: Any) -> NoReturn:
        raise _Terminated

    usual = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if usual is None else usual)


def _say(kind: str, message: str) -> None:
    message = " ".join(in_words_of_the_command(message).split())
    print(f"{PROGRAM}: {kind}: {message}", file=sys.stderr)


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
    _add_map(commands)
    _add_check(commands)
    _add_evaluate(commands)
    _add_tune(commands)
    _add_report(commands)
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
    _add_output_model(parser)
    _add_reference(parser)
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="keep the training in this file, from which the same command goes on after a crash",
    )
    _add_json(parser)


def _add_output_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="MODEL",
        help="model to write, as a rule called .dpvae; sklearn_dpvae.load reads it, too",
    )


def _add_reference(parser: argparse.ArgumentParser) -> None:
    """What is learned from, and by which pipeline."""
    parser.add_argument(
        "reference",
        nargs="+",
        metavar="REF",
        help=".h5ad, .zarr, .loom, or a folder or matrix of Space Ranger, Xenium, CosMx or "
        "MERSCOPE; several are put together",
    )
    parser.add_argument(
        "--layer",
        help="layer of the AnnData with the counts; auto looks for whole numbers (default: .X)",
    )
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
        "--for-query",
        metavar="QUERY",
        help="a query, as for 'predict': the model is fitted on the genes that both have, such as "
        "those of a panel, and for the query's depth",
    )
    parser.add_argument(
        "--preset",
        choices=["recommended", "paper"],
        default="recommended",
        help="steps of the model: make_spatial_pipeline, or make_paper_pipeline, the recipe of "
        "the paper, to compare with (default: %(default)s)",
    )
    _add_query(parser, "default: auto; not with --preset paper")
    parser.add_argument(
        "--n-top-genes", type=int, help="genes to keep (default: 2000; 1000 with --preset paper)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 or mps (default: the best there is)"
    )
    _add_settings(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_folds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folds",
        choices=["auto", "blocks", "sections", "random"],
        default="auto",
        help="what is left out in turn: blocks of tissue, whole sections, or random cells "
        "(default: sections if there are several, else blocks)",
    )
    parser.add_argument(
        "--n-folds", type=int, default=3, help="folds of blocks or cells (default: %(default)s)"
    )


def _add_tune(commands: Any) -> None:
    parser = _add(commands, "tune", "search parameters by cross-validation, and fit the best")
    _add_output_model(parser)
    _add_reference(parser)
    parser.add_argument(
        "--grid",
        action="append",
        type=_choices,
        default=[],
        metavar="NAME=A,B,...",
        help="values of a parameter of DPVAESpatialRegressor, or of a step as "
        "genes__n_top_genes; may be repeated (default: numbers of genes and components)",
    )
    parser.add_argument(
        "--n-iter",
        type=int,
        metavar="N",
        help="draw N combinations at random (default: try all of them)",
    )
    _add_folds(parser)
    parser.add_argument("--n-jobs", type=int, default=1, help="default: %(default)s")
    _add_json(parser)


def _add_report(commands: Any) -> None:
    parser = _add(
        commands, "report", "write a page on a reference: what was read, errors, maps, genes"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="HTML", help="page to write, with all pictures"
    )
    _add_reference(parser)
    _add_folds(parser)
    _add_json(parser)


def _add_predict(commands: Any) -> None:
    parser = _add(commands, "predict", "predict the positions of a query's cells")
    _add_model(parser)
    parser.add_argument(
        "query",
        metavar="QUERY",
        help=".h5ad, .zarr, .loom, or a folder or matrix of Space Ranger, Cell Ranger, Xenium, "
        "CosMx or MERSCOPE",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help=".csv: barcode, x, y, std, which go to the standard output for -; .h5ad: the query "
        "with what sklearn_dpvae.anndata.predict writes into it, obsm['spatial_dpvae'] among it",
    )
    parser.add_argument(
        "--anchors",
        metavar="KEY|CSV",
        help="known positions of some cells: a key of obsm with NaN for the others, or a table "
        "of barcode, x, y",
    )
    parser.add_argument(
        "--no-adapt",
        action="store_true",
        help="take the pose from --anchors, and learn nothing else from them",
    )
    _add_fitted_keys(parser)


def _add_map(commands: Any) -> None:
    parser = _add(commands, "map", "map the cells of a query to the locations of a reference")
    _add_model(parser)
    parser.add_argument("query", metavar="QUERY", help="a query, as for 'predict'")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT.h5ad",
        help="cells x locations, what sklearn_dpvae.anndata.map returns",
    )
    parser.add_argument(
        "--reference",
        metavar="REF",
        help="a file with locations, as for 'fit', as a rule the one that the model was fitted on "
        "(default: the cells that the model keeps, 2,000 at most)",
    )
    parser.add_argument(
        "--labels",
        metavar="COLUMN",
        help="column of the query's obs, such as cell_type, whose shares in each location are "
        "written to var and varm['dpvae_COLUMN']",
    )
    parser.add_argument(
        "--by",
        choices=["expression", "place"],
        default="expression",
        help="locations that express the same, or where the cell is (default: %(default)s)",
    )
    parser.add_argument(
        "--capacity",
        metavar="N|COLUMN",
        help="most cells of all locations together, or the column of the reference's obs with "
        "those of each; every cell is then in one location, or in none where there is no room",
    )
    parser.add_argument("--spatial-key", help="positions of the reference (default: as fitted)")
    _add_fitted_keys(parser)


def _add_check(commands: Any) -> None:
    parser = _add(commands, "check", "say what a query may expect, before it is placed")
    _add_model(parser)
    parser.add_argument("query", metavar="QUERY", help="a query, as for 'predict'")
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
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print warnings and errors only"
    )
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
    parser.add_argument(
        "--min-share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="share of the model's selected genes that the query must have (default: %(default)s)",
    )
    _add_query(parser, "default: as fitted")
    _add_json(parser)


def _add_query(parser: argparse.ArgumentParser, note: str) -> None:
    parser.add_argument(
        "--query",
        dest="query_kind",
        choices=["auto", "same_section", "new_section"],
        help="whether queries are z-scored by the statistics of the reference (same_section) or "
        f"by their own (new_section); auto sees which makes them resemble the reference ({note})",
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
    name, value = _pair(text)
    return name, _value(value)


def _choices(text: str) -> tuple[str, list[Any]]:
    """Parse ``NAME=A,B,...``, with tuples in parentheses."""
    name, values = _pair(text)
    try:
        return name, list(ast.literal_eval(f"[{values}]"))
    except (ValueError, SyntaxError):
        return name, [_value(value) for value in values.split(",")]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
