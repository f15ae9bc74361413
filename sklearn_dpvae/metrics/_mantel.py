"""Mantel's test: are the distances in two spaces more strongly related than by chance?

From this package it imports the checks and distances of this folder.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import Bunch, check_random_state, check_scalar

from .._utils.arrays import check_array
from ._checks import check_option, section_parts
from ._distances import RESOLUTION_DIGITS

_ALTERNATIVES = ("two-sided", "greater", "less")


def _condensed_distances(points: Any) -> NDArray[np.float64]:
    if sparse.issparse(points):
        return squareform(euclidean_distances(points), checks=False)
    return pdist(points)


def _standardized(distances: NDArray[np.float64], method: str) -> NDArray[np.float64] | None:
    """Return the distances or their ranks, centered and of norm 1; None if all are equal."""
    largest = distances.max()
    if largest > 0:
        distances = np.round(distances / largest, RESOLUTION_DIGITS)
    if np.ptp(distances) == 0:
        return None
    if method == "spearman":
        distances = rankdata(distances)
    centered = distances - distances.mean()
    return centered / np.linalg.norm(centered)


def mantel(
    a: ArrayLike | sparse.spmatrix,
    b: ArrayLike | sparse.spmatrix,
    *,
    n_permutations: int = 999,
    method: str = "pearson",
    alternative: str = "two-sided",
    max_samples: int | None = 1000,
    sections: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Correlation of the distances in two spaces, with a permutation p-value.

    The distances between cells are not independent of each other, so the p-value of an ordinary
    correlation does not apply to them. Mantel's test compares the correlation with those that
    result when the cells of one space are shuffled.

    Parameters
    ----------
    a, b : {array-like, sparse matrix} of shape (n_samples,) or (n_samples, n_features)
        The same cells in two spaces, for example their positions and their expression or
        latents. Pass points, not distance matrices; distances are Euclidean.
    n_permutations : int, default=999
        Number of shuffles. The smallest possible p-value is ``1 / (n_permutations + 1)``. With 0
        shuffles the p-value is NaN.
    method : {"pearson", "spearman"}, default="pearson"
        Whether to correlate the distances themselves, or their ranks.
    alternative : {"two-sided", "greater", "less"}, default="two-sided"
        Which correlations of shuffled cells count as at least as extreme as the observed one:
        those at least as far from 0, as large, or as small.
    max_samples : int or None, default=1000
        If there are more cells than this, this number is drawn at random. Time and memory grow
        with the square of the number: 1000 cells need 24 MB, and seconds for 999 permutations.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Distances are taken, and cells are shuffled, within sections only. r is
        the mean of the sections' correlations, weighted by their numbers of cells.
    random_state : int, RandomState instance or None, default=0
        Determines which cells are drawn and how they are shuffled.

    Returns
    -------
    Bunch
        ``r``, the correlation; ``pvalue``; ``null``, the correlations of the shuffles, ndarray
        of shape (n_permutations,).

    Raises
    ------
    ValueError
        If the sets differ in their numbers of rows, if they hold NaN or infinity, or if all
        distances in `a` or `b` are equal in some section, as in one of fewer than three cells.

    References
    ----------
    N. Mantel (1967), "The detection of disease clustering and a generalized regression
    approach", Cancer Research 27.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import mantel
    >>> rng = np.random.default_rng(0)
    >>> coords = rng.uniform(size=(50, 2))
    >>> result = mantel(coords, coords + 0.1 * rng.normal(size=(50, 2)), n_permutations=99)
    >>> round(result.r, 2), result.pvalue
    (0.87, 0.01)
    """
    check_option(method, "method", ("pearson", "spearman"))
    check_option(alternative, "alternative", _ALTERNATIVES)
    check_scalar(n_permutations, "n_permutations", Integral, min_val=0)
    if max_samples is not None:
        check_scalar(max_samples, "max_samples", Integral, min_val=3)
    a, b = _check_space(a, "a"), _check_space(b, "b")
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"a has {a.shape[0]} rows but b has {b.shape[0]}. Pass the same cells in the same "
            "order."
        )
    parts, labels = section_parts(sections, a.shape[0])
    rng = check_random_state(random_state)
    if max_samples is not None and a.shape[0] > max_samples:
        chosen = np.zeros(a.shape[0], dtype=bool)
        chosen[rng.choice(a.shape[0], max_samples, replace=False)] = True
        parts = [rows[chosen[rows]] for rows in parts]

    spaces = []
    for rows, label in zip(parts, labels.tolist(), strict=True):
        pair = []
        for points, name in ((a, "a"), (b, "b")):
            enough = len(rows) >= 3
            distances = (
                _standardized(_condensed_distances(points[rows]), method) if enough else None
            )
            if distances is None:
                where = "" if sections is None else f" in section {label!r}"
                raise ValueError(
                    f"the distances of the {len(rows)} cell(s) taken from {name}{where} are all "
                    "equal, so their correlation is undefined. It needs at least three cells at "
                    "unequal distances. Leave out sections without them."
                )
            pair.append(squareform(distances))
        spaces.append(pair)

    # squareform leaves zeros on the diagonal. Permutations of rows and columns keep them there, so
    # they add nothing to the sum. Each pair is counted twice.
    weights = np.array([len(rows) for rows in parts], dtype=np.float64)
    weights /= 2 * weights.sum()

    def correlation(orders: Sequence[NDArray[np.intp]] | None = None) -> float:
        value = 0.0
        for i, (first, second) in enumerate(spaces):
            if orders is not None:
                second = second[np.ix_(orders[i], orders[i])]
            value += weights[i] * np.vdot(first, second)
        return float(value)

    r = correlation()
    null = np.array(
        [
            correlation([rng.permutation(len(rows)) for rows in parts])
            for _ in range(n_permutations)
        ]
    )
    if alternative == "two-sided":
        extreme, observed = np.abs(null), abs(r)
    else:
        sign = 1.0 if alternative == "greater" else -1.0
        extreme, observed = sign * null, sign * r
    # A shuffle that changes nothing must count as equal, whichever the order of summation.
    count = np.sum(extreme >= observed - 1e-12)
    pvalue = float((count + 1) / (n_permutations + 1)) if n_permutations else np.nan
    return Bunch(r=r, pvalue=pvalue, null=null)


def _check_space(points: Any, name: str) -> Any:
    points = check_array(
        points, accept_sparse="csr", ensure_2d=False, dtype=np.float64, input_name=name
    )
    return points[:, None] if points.ndim == 1 else points
