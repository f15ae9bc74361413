"""Anchors: the rows whose positions are known, and what they tell of the scale."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist

from .._utils.arrays import check_array, check_container, naming
from .._utils.validation import LARGEST_POSITION, check_resolution, known_rows

# Anchors count as lying in one line (or plane) below this ratio of extents.
_DEGENERATE = 1e-6
# Smallest slope of `estimate_scale`, as a part of the slope of a line through the origin.
_MIN_SLOPE = 0.1

# (indices, coords), or one row per sample with NaN where the position is unknown.
Anchors = tuple[ArrayLike, ArrayLike] | ArrayLike | None


def check_anchors(
    anchors: Anchors, n_samples: int, n_dims: int | None = None
) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Validate anchors and return them as indices and coordinates.

    Parameters
    ----------
    anchors : tuple (indices, coords), or array-like of shape (n_samples, n_dims), or None
        Known positions: either a tuple of row indices and their coordinates, or one row per
        sample with NaN in all columns where the position is unknown. Coordinates may be
        one-dimensional where `n_dims` is 1.
    n_samples : int
        Number of rows that the anchors belong to.
    n_dims : int, default=None
        Number of columns that the coordinates must have. None accepts any.

    Returns
    -------
    indices : ndarray of shape (n_anchors,), dtype intp
        In the order given; empty where `anchors` is None.
    coords : ndarray of shape (n_anchors, n_dims), dtype float64 or float32

    Raises
    ------
    ValueError
        If an index is out of range, not an integer or given twice, a coordinate is missing or
        infinite, positions lie so far out that they are rounded to one, or shapes disagree.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.reconstruction._anchors import check_anchors
    >>> known = [[np.nan, np.nan], [1.0, 2.0], [np.nan, np.nan]]
    >>> check_anchors(known, 3)
    (array([1]), array([[1., 2.]]))
    """
    if anchors is None:
        return np.empty(0, dtype=np.intp), np.empty((0, n_dims or 0))
    if isinstance(anchors, tuple):
        if len(anchors) != 2:
            raise ValueError(
                f"anchors is a tuple of {len(anchors)} items. Pass (indices, coords), or one "
                "row per sample with NaN where the position is unknown."
            )
        indices = _check_indices(anchors[0], n_samples)
        coords = _check_coords(anchors[1], len(indices), n_dims)
        _check_unique(indices, coords)
        return indices, coords
    table = check_array(
        _as_column(anchors, n_dims),
        dtype=[np.float64, np.float32],
        ensure_all_finite=False,
        input_name="anchors",
    )
    if len(table) != n_samples:
        raise ValueError(
            f"anchors has {len(table)} rows but there are {n_samples} samples. Pass one row "
            "per sample, NaN where the position is unknown, or the tuple (indices, coords)."
        )
    indices = known_rows(table, name="anchors")
    return indices, _check_coords(table[indices], len(indices), n_dims)


def _check_indices(given: ArrayLike, n_samples: int) -> NDArray[np.intp]:
    with naming("anchor indices"):
        check_container(given)
        indices = np.asarray(given)
    if indices.size == 0:
        indices = indices.astype(np.intp)
    if indices.ndim != 1:
        raise ValueError(
            f"anchor indices have shape {indices.shape}; pass one row number per anchor."
        )
    if indices.dtype == bool:
        raise ValueError(
            "anchor indices are booleans. Pass row numbers, e.g. np.flatnonzero(mask)."
        )
    if indices.dtype.kind not in "iu":
        raise ValueError(
            f"anchor indices have dtype {indices.dtype}; pass integers (row numbers)."
        )
    outside = indices[(indices < 0) | (indices >= n_samples)]
    if len(outside):
        raise ValueError(
            f"anchor index {outside[0]} is out of range: indices run from 0 to "
            f"{n_samples - 1}, the rows of the data."
        )
    return indices.astype(np.intp)


def _as_column(coords: Any, n_dims: int | None) -> Any:
    """Give positions along a line their second axis if it is missing."""
    return np.reshape(coords, (-1, 1)) if n_dims == 1 and np.ndim(coords) == 1 else coords


def _check_coords(given: ArrayLike, n_anchors: int, n_dims: int | None) -> NDArray[np.floating]:
    coords = check_array(
        _as_column(given, n_dims),
        dtype=[np.float64, np.float32],
        ensure_min_samples=0,
        input_name="anchor coords",
        ensure_2d=n_anchors > 0,
    )
    if n_anchors == 0:
        width = coords.shape[1] if coords.ndim == 2 and coords.shape[1] else n_dims or 0
        coords = coords.reshape(0, width)
    if len(coords) != n_anchors:
        raise ValueError(
            f"anchors holds {n_anchors} indices but {len(coords)} positions. Pass one position "
            "per index."
        )
    if n_dims is not None and coords.shape[1] != n_dims:
        raise ValueError(
            f"anchors have {coords.shape[1]} coordinates but n_components={n_dims}. Pass "
            f"anchors of {n_dims} columns or n_components={coords.shape[1]}."
        )
    if coords.size and float(np.abs(coords).max()) > LARGEST_POSITION:
        raise ValueError(
            f"anchors lie as far out as {np.abs(coords).max():g}, and squares of such numbers are "
            "no floating-point numbers. Pass positions in another unit."
        )
    if coords.size:
        check_resolution("anchors span", coords, "the positions of anchors")
    return coords


def _check_unique(indices: NDArray[np.intp], coords: NDArray[np.floating]) -> None:
    unique, counts = np.unique(indices, return_counts=True)
    if len(unique) == len(indices):
        return
    index = unique[counts > 1][0]
    positions = coords[indices == index]
    if (positions == positions[0]).all():
        raise ValueError(
            f"anchor index {index} is given {len(positions)} times. Give every index once."
        )
    raise ValueError(
        f"anchors contradict each other: index {index} is given the positions "
        f"{positions[0].tolist()} and {positions[1].tolist()}. Keep one of them."
    )


def affine_rank(coords: NDArray[np.floating]) -> int:
    """Number of independent directions that the points span around their mean."""
    if len(coords) < 2:
        return 0
    extents = np.linalg.svd(coords - coords.mean(axis=0), compute_uv=False)
    return int((extents > _DEGENERATE * extents[0]).sum()) if extents[0] > 0 else 0


def check_determined(coords: NDArray[np.floating], *, where: str = "") -> None:
    """Raise unless the anchors settle the pose.

    Parameters
    ----------
    coords : ndarray of shape (n_anchors, n_dims)
    where : str, default=""
        Goes into the message after "anchors": whose they are.

    Raises
    ------
    ValueError
        If there are fewer than n_dims + 1 anchors, or all lie in one line (plane, point).
    """
    n_anchors, n_dims = coords.shape
    remedy = 'or pass underdetermined="allow" for one of the equally good answers'
    if n_anchors < n_dims + 1:
        raise ValueError(
            f"{n_anchors} anchor(s){where} leave the pose of a {n_dims}-D map open: at least "
            f"{n_dims + 1} are needed. Give more anchors, {remedy}."
        )
    rank = affine_rank(coords)
    if rank < n_dims:
        shape = {0: "one point", 1: "one line", 2: "one plane"}.get(rank, f"{rank} dimensions")
        raise ValueError(
            f"the {n_anchors} anchors{where} lie in {shape}, so that the {n_dims}-D map and its "
            f"mirror image fit equally well. Add an anchor outside of it, {remedy}."
        )


def check_components_determined(
    adjacency: Any, indices: NDArray[np.intp], coords: NDArray[np.floating]
) -> None:
    """Check every part that the weights connect and that has a row to place."""
    n_components, labels = connected_components(adjacency, directed=False)
    if n_components == 1:
        check_determined(coords)
        return
    sizes = np.bincount(labels, minlength=n_components)
    known = np.bincount(labels[indices], minlength=n_components)
    for label in np.flatnonzero(sizes > known):
        row = int(np.flatnonzero(labels == label)[0])
        check_determined(
            coords[labels[indices] == label],
            where=(
                f" in the part of {sizes[label]} row(s) around row {row}, which weights do not "
                "connect to the rest,"
            ),
        )


def estimate_scale(coords: NDArray[np.floating], dissimilarities: NDArray[np.floating]) -> float:
    r"""c of equation (6) from the pairs of anchors.

    An encoder draws latents towards their mean where expression does not tell the place, and
    they carry noise. Then the c that fits the latent distances best,
    ``sum(delta d) / sum(d^2)``, spreads the map too far: it stretches what is uncertain until it
    fills the tissue. Distances in the tissue are predicted by the regression

    .. math:: d^2 = \frac{\delta^2}{c^2} + t, \qquad t \ge 0,

    where t is the part of a squared distance that the latents do not know. Exact latents have
    t = 0. With fewer than ``2 (n_dims + 1)`` anchors, t is set to 0.

    Parameters
    ----------
    coords : ndarray of shape (n_anchors, n_dims)
    dissimilarities : ndarray of shape (n_pairs,)
        Of the anchors' pairs, in the order of `scipy.spatial.distance.pdist`.

    Returns
    -------
    scale : float
        c: units of the dissimilarities per tissue unit.

    Raises
    ------
    ValueError
        Unless two anchors differ in position and two in their latents.
    """
    known, squares = np.square(dissimilarities), pdist(coords, "sqeuclidean")
    if not len(known) or not known.any() or not squares.any():
        raise ValueError(
            "scale=None estimates the scale from the pairs of anchors, which needs two anchors "
            "at different positions and with different latents. Pass such anchors or a number "
            "for scale."
        )
    through_origin = known @ squares / (known @ known)
    slope = through_origin
    centered = known - known.mean()
    if len(coords) >= 2 * (coords.shape[1] + 1) and centered.any():
        slope = centered @ squares / (centered @ centered)
    # A larger slope means t < 0. A smaller one is noise and would shrink the map to a point.
    slope = np.clip(slope, _MIN_SLOPE * through_origin, through_origin)
    return float(1.0 / np.sqrt(slope))
