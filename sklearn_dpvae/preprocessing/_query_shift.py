"""How far a query is to be moved onto the reference: as far as it comes to resemble it more.

A query differs from the reference in two ways. Chemistry, staining and depth shift and stretch all
of its cells; its own statistics take that out. And it may hold other cells, as of one half of the
tissue; its own statistics take that out, too, and put these cells where they never were. The two
can be told apart by single cells: the wrong shift leaves them unlike any cell of the reference.

May import nothing of this package.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

# Shares of the way from the statistics of the reference to those of the query that are tried.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

# Fewer cells say too little about their own statistics.
MIN_CELLS = 20

# Cells that the comparison is made with, and by.
MAX_CELLS = 1000

# Directions in which cells are compared. In all of them, noise would hide what cells share.
_N_COMPONENTS = 20

# Nearest cells whose distance tells how likely a cell is.
_N_NEIGHBORS = 15

# A shift must make cells more likely by this many standard errors, and bring them nearer to the
# reference by half a percent: own statistics do a little of that in any sample.
_STANDARD_ERRORS = 2.0
_LEAST_GAIN = 0.005

# Squared differences of means, over what sampling makes of them on average. Genes vary together,
# so that this is well above 1 in some samples, but seldom above 2.
_LEAST_DIFFERENCE = 2.0


def learn_likeness(
    Z: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What cells of the reference look like.

    Parameters
    ----------
    Z : ndarray of shape (n_cells, n_features)
        z-scores of cells of the reference.

    Returns
    -------
    directions : ndarray of shape (n_components, n_features), dtype float32
        In which they differ most.
    points : ndarray of shape (n_cells, n_components), dtype float32
        Where they are along these.
    """
    units = unit_rows(Z)
    units -= units.mean(axis=0)
    n_components = min(_N_COMPONENTS, *units.shape)
    _, _, right = randomized_svd(units, n_components, random_state=0)
    directions = right.astype(np.float32)
    return directions, project(Z, directions)


def project(
    Z: NDArray[np.floating[Any]],
    directions: NDArray[np.float32],
    missing: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Where cells are along the directions.

    The lengths of cells follow the depth of sequencing, so that only their directions count. Where
    genes are missing, the others tell by least squares, so that points compare.
    """
    if missing is None or not missing.any() or missing.all():
        return (unit_rows(Z) @ directions.T).astype(np.float32)
    known = directions[:, ~missing].astype(np.float64)
    gram = known @ known.T
    # Directions that the genes do not tell of are left at the middle.
    ridge = 1e-3 * np.eye(len(gram))
    along = unit_rows(Z[:, ~missing]) @ known.T
    return np.linalg.solve(gram + ridge, along.T).T.astype(np.float32)


def unit_rows(Z: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows divided by their root mean square; rows of zeros stay."""
    Z = np.asarray(Z, dtype=np.float64)
    lengths = np.sqrt(np.mean(Z**2, axis=1, keepdims=True))
    return Z / np.where(lengths > 0, lengths, 1)


def differs(away: NDArray[np.float64], n_cells: int, n_reference: float) -> bool:
    """Whether means of a query are farther from those of the reference than a sample's would be.

    Means only. The own statistics of a sample also take out what sampling did to its means, so
    that its cells come nearer to the reference, too.

    Parameters
    ----------
    away : ndarray of shape (n_features,)
        Differences of the means, over standard deviations within the reference.
    n_cells : int
        Cells of the query.
    n_reference : float
        Cells of the reference; infinity where that is not known.
    """
    expected = 1.0 / n_cells + 1.0 / n_reference
    return len(away) > 0 and bool(np.mean(np.square(away)) > _LEAST_DIFFERENCE * expected)


def log_likeness(
    points: NDArray[np.float32], reference_points: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Logarithm of a density of the reference at each cell, up to factor and constant.

    Parameters
    ----------
    points : ndarray of shape (n_cells, n_components)
    reference_points : ndarray of shape (n_reference, n_components)

    Returns
    -------
    ndarray of shape (n_cells,)
        Minus the logarithm of the mean distance to the nearest cells of the reference.
    """
    n_neighbors = min(_N_NEIGHBORS, len(reference_points))
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(reference_points)
    distances = near.kneighbors(points)[0].astype(np.float64)
    return -np.log(np.maximum(distances.mean(axis=1), np.finfo(np.float32).tiny))


def choose_share(likeness: NDArray[np.float64]) -> int:
    """The shift to make, given how likely it makes each cell.

    Parameters
    ----------
    likeness : ndarray of shape (n_shares, n_cells)
        What `log_likeness` says of the cells after each shift; the first row is no shift.

    Returns
    -------
    int
        The smallest shift that is as good as the best one, within a standard error. 0 unless the
        best one is better than none beyond doubt.
    """
    best = int(likeness.mean(axis=1).argmax())

    def gain_over(other: int) -> tuple[float, float]:
        difference = likeness[best] - likeness[other]
        return float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))

    gain, error = gain_over(0)
    if gain <= max(_STANDARD_ERRORS * error, _LEAST_GAIN):
        return 0
    for share in range(best):
        gain, error = gain_over(share)
        if gain <= error:
            return share
    return best
