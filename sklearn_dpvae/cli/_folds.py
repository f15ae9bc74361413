"""Parts of a reference that are left out in turn, fitted without and placed."""

import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, LeaveOneGroupOut
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from ..model_selection import SpatialBlockKFold

LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True, eq=False)
class Placed:
    """The cells of a part that was left out, placed by a fit of the others.

    Attributes
    ----------
    rows : ndarray of shape (n_cells,)
    coords, baseline : ndarray of shape (n_cells, n_dims)
        Where the pipeline and nearest neighbors place them.
    radii : ndarray of shape (n_cells, n_levels) or None
        One for each of `LEVELS`.
    seconds : float
    """

    rows: np.ndarray
    coords: np.ndarray
    baseline: np.ndarray | None
    radii: np.ndarray | None
    seconds: float


def make_folds(
    reference: Bunch, arguments: Namespace
) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    """What is left out, in words, and the rows of each fold: those to fit and those to place."""
    sections, coords = reference.sections, reference.coords
    several = len(np.unique(sections)) > 1
    kind = arguments.folds
    if kind == "auto":
        kind = "sections" if several else "blocks"
    if kind == "sections":
        if not several:
            raise ValueError("--folds sections: there is only one section; use blocks")
        return "whole sections", list(LeaveOneGroupOut().split(coords, groups=sections))
    if arguments.n_folds < 2:
        raise ValueError(f"--n-folds {arguments.n_folds}: at least 2 are needed")
    if kind == "blocks":
        splitter: Any = SpatialBlockKFold(arguments.n_folds)
        return "blocks of tissue", list(splitter.split(coords, coords, groups=sections))
    splitter = KFold(arguments.n_folds, shuffle=True, random_state=arguments.seed)
    return "random cells", list(splitter.split(coords))


def place_each(
    pipelines: list[Any],
    reference: Bunch,
    folds: list[tuple[np.ndarray, np.ndarray]],
    *,
    n_jobs: int = 1,
    in_full: bool = False,
) -> Iterator[tuple[int, Placed]]:
    """Fit each pipeline on each fold; yields the index of the pipeline and the cells placed.

    With `in_full` there are radii, and the baseline.
    """
    jobs = (
        delayed(_place)(i, pipeline, reference, train, test, in_full)
        for i, pipeline in enumerate(pipelines)
        for train, test in folds
    )
    yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)


def _place(
    number: int,
    pipeline: Any,
    reference: Bunch,
    train: np.ndarray,
    test: np.ndarray,
    in_full: bool,
) -> tuple[int, Placed]:
    start = time.perf_counter()
    X, coords, sections = reference.X, reference.coords, reference.sections
    fitted = clone(pipeline).fit(X[train], coords[train], sections=sections[train])
    labels = {"sections": sections[test]}
    placed = fitted.predict(X[test], **labels)
    baseline = radii = None
    if in_full:
        # All but the components and the net.
        z_train = fitted[:-2].transform(X[train], sections=sections[train])
        z_test = fitted[:-2].transform(X[test], **labels)
        n_components = min(30, *z_train.shape)
        neighbors = make_pipeline(PCA(n_components, random_state=0), KNeighborsRegressor(15))
        baseline = neighbors.fit(z_train, coords[train]).predict(z_test)
        radii = np.stack(
            [fitted.predict_radius(X[test], level=level, **labels) for level in LEVELS], axis=1
        )
    return number, Placed(test, placed, baseline, radii, time.perf_counter() - start)
