"""The reference as it would look if it had been sequenced less deeply.

A network that has only seen deep spots does not know what to make of a shallow cell. Each count
of a shallower cell is one of the deeper one that was kept, independently of the others. So
thinning makes shallower measurements of cells whose positions are known. Imports the counts and
this folder's steps.
"""

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing

from .._utils.counts import kind_of_values, library_sizes
from .._utils.routing import takes
from ._steps import keywords_of, of_a_query, pointwise_copy, transform_with, transformers

# Shares of the counts that are kept where nothing is known of queries. Less would cost accuracy
# for queries that are as deep as the reference.
_SHARES = 0.3, 1.0

# Values of all views together. They are kept in memory while the networks are trained.
_MOST_VALUES = 50_000_000

# Always the same, so that a fit that was interrupted finds the same data when it goes on.
_SEED = 0
# Beyond it, not every whole number is one of float64.
_MOST_COUNTS = 2**53


def thinned_views(
    pipeline: Any,
    X: Any,
    params: dict[str, Any],
    n_views: int,
    depths: NDArray[np.float64] | None,
) -> tuple[Any, ...]:
    """What the last step would see of the reference at other depths.

    Parameters
    ----------
    pipeline : SpatialPipeline
        All steps but the last are fitted.
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
    params : dict
        What `fit` was given beside it, by the names that it takes.
    n_views : int
        Fewer where they would take much memory.
    depths : ndarray of shape (n_query,), optional
        Library sizes of queries. None thins to between 30 and 100 % of the counts.

    Returns
    -------
    tuple of {ndarray, sparse matrix} of shape (n_cells, n_features)
        Empty if `X` does not hold counts.
    """
    counts = X if sparse.issparse(X) else np.asarray(X)
    if counts.dtype.kind not in "buif":  # Such as objects.
        counts = counts.astype(np.float64)
    if kind_of_values(counts) != "counts":
        return ()
    keywords, _ = keywords_of(pipeline, "predict", of_a_query(pipeline, params))
    # Cells of the reference are compared with the reference.
    steps = list(zip(map(pointwise_copy, transformers(pipeline)), keywords, strict=True))
    rng = np.random.default_rng(_SEED)
    views: list[Any] = []
    with warnings.catch_warnings():
        # Thinning leaves the names of a table behind, and cells that steps warn of.
        warnings.simplefilter("ignore")
        while len(views) < n_views:
            views.append(transform_with(steps, at_depths(counts, depths, rng))[0])
            n_views = min(n_views, _MOST_VALUES // max(np.prod(views[0].shape), 1))
    return tuple(views[:n_views])


def at_depths(counts: Any, depths: NDArray[np.float64] | None, rng: np.random.Generator) -> Any:
    """Counts thinned to library sizes that are drawn for each cell.

    Parameters
    ----------
    counts : {ndarray, sparse matrix} of shape (n_cells, n_genes)
    depths : ndarray of shape (n_query,), optional
        To draw from; cells that are shallower already stay as they are. None draws the share that
        is kept, on a logarithmic scale.
    rng : Generator

    Returns
    -------
    {ndarray, CSR matrix} of shape (n_cells, n_genes)
    """
    n_cells = counts.shape[0]
    if depths is None:
        low, high = np.log(_SHARES)
        shares = np.exp(rng.uniform(low, high, n_cells))
    else:
        sizes = library_sizes(counts)
        shares = np.minimum(rng.choice(depths, n_cells) / np.maximum(sizes, 1), 1)
    return thin(counts, shares, rng)


def thin(counts: Any, shares: NDArray[np.float64], rng: np.random.Generator) -> Any:
    """Keep each count with a probability.

    Parameters
    ----------
    counts : {ndarray, sparse matrix} of shape (n_cells, n_genes)
        Whole numbers.
    shares : ndarray of shape (n_cells,)
        The probability, for each cell.
    rng : Generator

    Returns
    -------
    {ndarray, CSR matrix} of shape (n_cells, n_genes), in the dtype of `counts`

    Raises
    ------
    ValueError
        If a count is so large that floating point cannot tell it from the next one.
    """
    if (most := counts.max()) > _MOST_COUNTS:
        raise ValueError(
            f"X holds counts as large as {most:g}, and floating point no longer tells one more "
            "from one less there. Pass raw counts, or n_thinned=0."
        )
    if not sparse.issparse(counts):
        kept = rng.binomial(counts.astype(np.int64), shares[:, None])
        return kept.astype(counts.dtype)
    thinned = counts.tocsr(copy=True)
    of_values = np.repeat(shares, np.diff(thinned.indptr))
    thinned.data = rng.binomial(thinned.data.astype(np.int64), of_values).astype(counts.dtype)
    thinned.eliminate_zeros()
    return thinned


def check_n_thinned(n_thinned: Any, final: Any) -> None:
    """Check the parameter `n_thinned` before anything is fitted."""
    if not isinstance(n_thinned, Integral) or n_thinned < 0:
        raise ValueError(f"n_thinned must be 0 or more, got {n_thinned!r}.")
    if n_thinned and not takes(final, "fit", "views"):
        raise ValueError(
            f"n_thinned={n_thinned} makes thinned views of the reference, but the last step, "
            f"{final!r}, has no argument views in its fit. Pass n_thinned=0."
        )


def query_depths(query_counts: Any, kept: NDArray[np.bool_] | None) -> NDArray[np.float64] | None:
    """Library sizes from the argument `query_counts` of `fit`.

    Parameters
    ----------
    query_counts : {array-like, sparse matrix} of shape (n_query, n_genes) or (n_query,), or None
    kept : ndarray of shape (n_genes,), dtype bool, or None
        Columns that belong to genes of the reference, where names of the query's genes are given.

    Raises
    ------
    ValueError
        If it holds no positive library size, or columns and names do not match.
    """
    if query_counts is None:
        return None
    given: Any = query_counts if sparse.issparse(query_counts) else np.asarray(query_counts)
    if given.ndim == 2:
        if kept is not None:
            if len(kept) != given.shape[1]:
                raise ValueError(
                    f"query_counts has {given.shape[1]} columns but query_genes has {len(kept)} "
                    "names. Pass one name per column."
                )
            given = _safe_indexing(given, np.flatnonzero(kept), axis=1)
        given = library_sizes(given)
    depths = np.asarray(given, dtype=np.float64).ravel()
    depths = depths[depths > 0]
    if not len(depths) or not np.isfinite(depths).all():
        raise ValueError(
            "query_counts has no positive library size, or one that is not finite. Pass the "
            "counts of the query, or the sum of the counts of each of its cells."
        )
    return depths
