"""Names of genes: made unique, and aligned between a reference and a query.

Imports nothing of this package.
"""

import warnings
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from .._utils.arrays import check_array

SHOWN = 3  # How many names a message quotes.


def align_genes(
    X: Any,
    genes: ArrayLike,
    reference_genes: ArrayLike,
    *,
    min_share: float = 0.5,
    fill_value: float | ArrayLike = 0.0,
) -> Any:
    """Bring the columns of a query into the order of the reference's genes.

    Genes are matched by name. Genes that the reference does not have are dropped. Genes that the
    query does not have are filled, with one warning that counts them.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
        Expression of the query.
    genes : array-like of shape (n_genes,)
        Names of the columns of `X`, without duplicates.
    reference_genes : array-like of shape (n_reference_genes,)
        Names of the columns of the result, without duplicates.
    min_share : float, default=0.5
        Share of the reference's genes, between 0 and 1, that the query must have.
    fill_value : float or array-like of shape (n_reference_genes,), default=0.0
        Values of missing genes. Leave 0 for counts, and name these genes to
        `SpatialPipeline.predict` with `missing_genes`. Pass the reference's means for centered
        data.

    Returns
    -------
    aligned : {ndarray, sparse matrix} of shape (n_cells, n_reference_genes)
        CSR if `X` is sparse; it is never made dense. The dtype is that of `X`, unless it cannot
        hold a fill value.

    Raises
    ------
    ValueError
        If names are duplicated or do not match the columns of `X`, or the query has too few of
        the reference's genes.

    Warns
    -----
    UserWarning
        If the query lacks genes of the reference.

    See Also
    --------
    read_sections : Read sections with the names of their genes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.datasets import align_genes
    >>> X = np.array([[1, 2, 3], [4, 5, 6]])
    >>> align_genes(X, ["Gad1", "Mbp", "Sst"], ["Sst", "Gad1"])
    array([[3, 1],
           [6, 4]])
    """
    X = check_array(X, accept_sparse="csr", dtype=None, ensure_all_finite=False, input_name="X")
    genes = _check_names(genes, "genes")
    reference = _check_names(reference_genes, "reference_genes")
    if len(genes) != X.shape[1]:
        raise ValueError(
            f"genes has {len(genes)} names but X has {X.shape[1]} columns. Pass one name per "
            "column."
        )
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share must be between 0 and 1, got {min_share!r}.")
    fill = np.asarray(fill_value)
    if fill.ndim and fill.shape != reference.shape:
        raise ValueError(
            f"fill_value must be a number or one per reference gene ({len(reference)}), "
            f"got shape {fill.shape}."
        )

    if np.array_equal(genes, reference):
        return X
    column_of = {name: column for column, name in enumerate(genes.tolist())}
    source = np.array([column_of.get(name, -1) for name in reference.tolist()])
    found = source >= 0
    _check_overlap(genes, reference, found, min_share)

    fill = np.broadcast_to(fill, reference.shape)[~found]
    dtype = X.dtype
    if not np.can_cast(fill.dtype, dtype) and not np.array_equal(fill.astype(dtype), fill):
        dtype = np.result_type(dtype, fill.dtype)
    if sparse.issparse(X):
        return _align_sparse(X, source, fill, dtype)
    aligned = np.empty((X.shape[0], len(reference)), dtype=dtype)
    aligned[:, found] = X[:, source[found]]
    aligned[:, ~found] = fill
    return aligned


def make_unique(names: ArrayLike) -> tuple[np.ndarray, list[str]]:
    """Append ``-1``, ``-2``, ... to repeated names, as AnnData does.

    Parameters
    ----------
    names : array-like of shape (n_names,)
        Names, which may be repeated.

    Returns
    -------
    unique : ndarray of shape (n_names,), dtype str
    repeated : list of str
        The distinct names that occurred more than once.

    Examples
    --------
    >>> from sklearn_dpvae.datasets._genes import make_unique
    >>> make_unique(["TBCE", "ACTB", "TBCE"])[0].tolist()
    ['TBCE', 'ACTB', 'TBCE-1']
    """
    names = np.asarray(names).astype(str)
    counts = Counter(names.tolist())
    repeated = [name for name, count in counts.items() if count > 1]
    if not repeated:
        return names, []
    taken, last, unique = set(counts), dict.fromkeys(repeated, 0), []
    seen: set[str] = set()
    for name in names.tolist():
        new = name
        if name in seen:
            while new in taken:
                last[name] += 1
                new = f"{name}-{last[name]}"
        seen.add(name)
        taken.add(new)
        unique.append(new)
    return np.array(unique), repeated


def quote(names: Any) -> str:
    """The first few names, for a message."""
    names = [str(name) for name in names]
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _check_names(names: ArrayLike, argument: str) -> np.ndarray:
    names = np.asarray(names)
    if names.ndim != 1 or len(names) == 0:
        raise ValueError(
            f"{argument} must be a non-empty list of names, got an array of shape {names.shape}."
        )
    names = names.astype(str)
    repeated = make_unique(names)[1]
    if repeated:
        raise ValueError(
            f"{argument} has {len(repeated)} name(s) more than once ({quote(repeated)}), so "
            "columns cannot be matched by name. Sum those columns or rename them, for example "
            "with AnnData.var_names_make_unique()."
        )
    return names


def _check_overlap(
    genes: np.ndarray, reference: np.ndarray, found: np.ndarray, min_share: float
) -> None:
    """Raise if too few genes of the reference were found; warn if some were not."""
    n_found, n_reference = int(found.sum()), len(reference)
    if n_found == n_reference:
        return
    missing = reference[~found]
    if n_found == 0 or n_found < min_share * n_reference:
        lower = {name.lower() for name in genes.tolist()}
        n_folded = sum(name.lower() in lower for name in reference.tolist())
        hint = (
            f" {n_folded} would match regardless of case: are they genes of another species, or "
            "symbols in another spelling?"
            if n_folded > n_found
            else " Do both use the same kind of names (symbols or Ensembl identifiers)?"
        )
        raise ValueError(
            f"only {n_found} of the reference's {n_reference} genes are in the query, a smaller "
            f"share than min_share={min_share:g}. The reference has {quote(missing)}; the query "
            f"has {quote(genes)}.{hint}"
        )
    warnings.warn(
        f"{len(missing)} of the reference's {n_reference} genes are missing in the query and "
        f"were filled: {quote(missing)}",
        UserWarning,
        stacklevel=3,
    )


def _align_sparse(X: Any, source: np.ndarray, fill: np.ndarray, dtype: Any) -> Any:
    """Move the columns found to their places, working on stored entries only."""
    found = source >= 0
    kept = X[:, source[found]]
    columns = np.flatnonzero(found).astype(kept.indices.dtype)[kept.indices]
    aligned = type(X)(
        (kept.data.astype(dtype, copy=False), columns, kept.indptr),
        shape=(X.shape[0], len(source)),
    )
    if np.any(fill != 0):
        row = np.zeros((1, len(source)), dtype=dtype)
        row[0, ~found] = fill
        filled = sparse.csr_matrix(row)
        aligned = aligned + type(X)(sparse.vstack([filled] * X.shape[0], format="csr"))
    aligned.sort_indices()
    return aligned
