"""``python -m sklearn_dpvae.paper``: every experiment of the paper, on any sections.

Imports the experiments and the report.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import joblib

from .. import __version__
from ..plotting._common import pyplot
from . import _geometry, _models
from ._report import write_report
from ._sections import fetch_sections, read_folder, simulated
from ._study import DEFAULT, FULL, QUICK, Study

# In this order fits are made where they are needed first, and read from the cache afterwards.
EXPERIMENTS = {
    "mantel": _geometry.expression_and_tissue,
    "masks": _geometry.masks,
    "uniqueness": _geometry.uniqueness,
    "out_of_sample": _models.out_of_sample,
    "isometry": _models.isometry,
    "transfer": _models.transfer,
    "stages": _models.stages,
    "markers": _models.markers,
    "weights": _models.weights,
    "losses": _models.losses,
    "autocorrelation": _models.autocorrelation,
}

# On each section a VAE and a dp-VAE by two recipes; on one section of each file 8 other lambdas,
# and the four models with counts; 10 stages of training and 2 fits for markers.
_EPILOG = (
    "How many fits: the default makes 4 on each of the first two sections of a file, 2 more on "
    "each of these that has the other, 12 a file, and 12 more: 196 for 9 files, 5 of them with "
    "several sections. --full makes 742 for the 18 sections of these files, most of which take "
    "longer. --quick takes less than 3 minutes on the simulated tissue."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiments and write the report.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        0 on success.
    """
    arguments = _parser().parse_args(argv)
    # Missing matplotlib is noticed before the fits.
    pyplot().switch_backend("agg")
    settings = QUICK if arguments.quick else FULL if arguments.full else DEFAULT
    if arguments.seeds is not None:
        settings = replace(settings, n_seeds=arguments.seeds)
    max_cells = arguments.max_cells or (100 if arguments.quick else 400)
    min_cells = min(max_cells, arguments.min_cells)
    if arguments.visium:
        sections = fetch_sections(max_cells, min_cells)
    elif arguments.data is not None:
        sections = read_folder(arguments.data, max_cells, min_cells)
    else:
        sections = simulated(3, max_cells, 60 if arguments.quick else 300)
    study = Study(
        sections,
        settings,
        arguments.out / "cache" / __version__,
        n_jobs=arguments.n_jobs,
        verbose=not arguments.quiet,
    )
    start = time.perf_counter()
    findings = []
    left = list(arguments.only or EXPERIMENTS)
    while left:
        experiment = EXPERIMENTS[left.pop(0)]
        if not arguments.quiet:
            print((experiment.__doc__ or "").strip(), file=sys.stderr, flush=True)
        finding = experiment(study)
        if finding is not None:
            findings.append(finding)
        about = {
            "version": __version__,
            "sections": {s.name: len(s.coords) for s in sections},
            "settings": asdict(settings),
            "fits, tests and reconstructions": len(study.seconds),
            "seconds of the processor, for these": round(sum(study.seconds.values())),
            "seconds of this run": round(time.perf_counter() - start),
            "experiments that are still to be run": left,
        }
        # After each, so that a run that is cut off leaves what it found.
        page, numbers = write_report(arguments.out, findings, about)
    print(f"wrote {page} and {numbers}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_dpvae.paper",
        description="Run every experiment of the paper, by the paper's recipe and by our "
        "defaults. A run that was cut off goes on where it stopped: fits are kept in OUT/cache "
        "by parameters and data, and do not depend on --n-jobs. Remove that folder after a change "
        "of the package.",
        epilog=_EPILOG,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--visium",
        action="store_true",
        help="the paper's 27 Visium sections, which are downloaded and kept (several GB)",
    )
    source.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="folder of .h5ad files with counts in .X, positions in .obsm['spatial'] and section "
        "labels in .obs['section'] (default: a simulated tissue)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for report.html, report.json and cache"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help="small: a look at whether everything works"
    )
    size.add_argument(
        "--full",
        action="store_true",
        help="large: five seeds, all on every section, and counts to the last epoch; many hours",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(EXPERIMENTS),
        metavar="EXPERIMENT",
        help=f"some of the experiments: {', '.join(EXPERIMENTS)} (default: all)",
    )
    parser.add_argument(
        "--seeds", type=_positive, help="splits and fits of each model (default: 1; full: 5)"
    )
    parser.add_argument(
        "--max-cells",
        type=_positive,
        help="cells that are drawn of larger sections (default: 400; quick: 100)",
    )
    parser.add_argument(
        "--min-cells",
        type=_positive,
        default=200,
        help="cells of the smallest section (default: %(default)s, or --max-cells if less)",
    )
    parser.add_argument(
        "--n-jobs",
        type=_positive,
        default=joblib.cpu_count(),
        help="processes (default: one for each core)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
