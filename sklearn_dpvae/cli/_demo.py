"""The demo: a synthetic tissue, fitted, scored beside a baseline, and drawn."""

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from .._utils.files import replacing
from .._utils.optional import import_optional
from ..datasets import make_tissue
from ..pipeline import make_spatial_pipeline
from ._commands import apply_settings
from ._files import check_output
from ._scores import print_scores, scores

N_GENES = 300
MIN_CELLS = 100
PICTURE = "dpvae_demo.png"
SUFFIXES = (".png", ".pdf", ".svg")


def demo(arguments: Namespace) -> None:
    """Fit on four fifths of a synthetic tissue, predict the rest, print scores, draw both."""
    if arguments.n_cells < MIN_CELLS:
        raise ValueError(f"--n-cells {arguments.n_cells}: the demo needs at least {MIN_CELLS}")
    picture = check_output(arguments.output or PICTURE, SUFFIXES)
    figure_class = _find_figure(required=arguments.output is not None)

    tissue = make_tissue(arguments.n_cells, N_GENES, random_state=arguments.seed)
    train, test = train_test_split(
        np.arange(arguments.n_cells), test_size=0.2, random_state=arguments.seed
    )
    if not arguments.quiet:
        print(
            f"a synthetic tissue: {len(train):,} cells with positions to learn from, "
            f"{len(test):,} to place, {N_GENES} genes",
            file=sys.stderr,
        )
    start = time.perf_counter()
    pipeline = make_spatial_pipeline(
        random_state=arguments.seed, verbose=0 if arguments.quiet else 1
    )
    apply_settings(pipeline, arguments.settings)
    pipeline.fit(tissue.X[train], tissue.coords[train])
    placed = pipeline.predict(tissue.X[test])
    seconds = time.perf_counter() - start

    truth = tissue.coords[test]
    print_scores(
        {
            "DPVAE": scores(truth, placed),
            "kNN(15) on 30 PCs": scores(truth, _baseline(pipeline, tissue, train, test)),
        }
    )
    print(f"fitted and predicted in {seconds:.0f} s")
    if figure_class is None:
        print('for a picture: pip install "sklearn-dpvae[plot]"')
    else:
        _draw(figure_class, picture, tissue, train, test, placed)
        print(f"wrote {picture}")


def _baseline(pipeline: Any, tissue: Bunch, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """What nearest neighbors among the principal components of the same z-scores say."""
    # All but the components and the net.
    z_train = pipeline[:-2].transform(tissue.X[train])
    z_test = pipeline[:-2].transform(tissue.X[test])
    neighbors = make_pipeline(PCA(30, random_state=0), KNeighborsRegressor(15))
    return neighbors.fit(z_train, tissue.coords[train]).predict(z_test)


def _find_figure(*, required: bool) -> Any:
    """matplotlib's Figure, which needs no display; None where it is not installed."""
    try:
        figure = import_optional("matplotlib.figure", extra="plot", purpose="drawing the demo")
    except ImportError:
        if required:
            raise
        return None
    return figure.Figure


def _draw(
    figure_class: Any,
    path: Path,
    tissue: Bunch,
    train: np.ndarray,
    test: np.ndarray,
    placed: np.ndarray,
) -> None:
    """Draw the held-out cells where they are and where they were placed, in the same colors."""
    figure = figure_class(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    titles = ("where the cells are", "where their expression places them")
    for ax, points, title in zip(axes, (tissue.coords[test], placed), titles, strict=True):
        ax.scatter(*tissue.coords[train].T, s=6, color="0.9", linewidths=0)
        # Viridis is ordered, as the layers are, and safe for color-blind eyes.
        dots = ax.scatter(
            *points.T, c=tissue.layers[test], cmap="viridis", s=22, edgecolors="w", linewidths=0.4
        )
        ax.set(title=title, aspect="equal", xlabel="µm")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("µm")
    figure.legend(
        *dots.legend_elements(),
        title="true layer",
        loc="outside right center",
        frameon=False,
    )
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=150)
