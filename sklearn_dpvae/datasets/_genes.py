"""Names of genes: made unique, and aligned between a reference and a query.

May import the matching of this folder.
"""

import warnings
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_array

from ._gene_matching import match_genes, quote

# A panel has a small part of the genes that were selected from a whole transcriptome.
MIN_SHARE = 0.05


def align_genes(
    X: Any,
    genes: ArrayLike,
    reference_genes: ArrayLike,
    *,
    gene_ids: ArrayLike | None = None,
    reference_ids: ArrayLike | None = None,
    min_share: float = MIN_SHARE,
    fill_value: float | ArrayLike = 0.0,
) -> Any:
    """Bring the columns of a query into the order of the reference's genes.

    Genes are matched by what both have: identifiers, then names, then names that are spelled
    differently, where that is unambiguous: in case, dashes, blanks, the version of an Ensembl
    identifier, or the genome before it. Genes that the reference does not have are dropped. Genes
    that the query does not have are filled, with one warning that counts them.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
        Expression of the query.
    genes : array-like of shape (n_genes,)
        Names of the columns of `X`, without duplicates.
    reference_genes : array-like of shape (n_reference_genes,)
        Names of the columns of the result, without duplicates.
    gene_ids : array-like of shape (n_genes,), default=None
        Other names of the columns of `X`, such as identifiers of Ensembl.
    reference_ids : array-like of shape (n_reference_genes,), default=None
        Other names of the columns of the result.
    min_share : float, default=0.05
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
        If the query lacks genes of the reference, or genes are matched by other than equal names.

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
    columns = find_columns(
        genes,
        reference_genes,
        gene_ids=gene_ids,
        reference_ids=reference_ids,
        min_share=min_share,
        stacklevel=2,
    )
    n_names = len(np.asarray(genes))
    if n_names != X.shape[1]:
        raise ValueError(
            f"genes has {n_names} names but X has {X.shape[1]} columns. Pass one name per column."
        )
    return take_columns(X, columns, fill_value)


def find_columns(
    genes: ArrayLike,
    reference_genes: ArrayLike,
    *,
    gene_ids: ArrayLike | None = None,
    reference_ids: ArrayLike | None = None,
    min_share: float = MIN_SHARE,
    needed: NDArray[np.bool_] | None = None,
    stacklevel: int = 2,
) -> NDArray[np.intp]:
    """Find the genes of a reference among those of a query, and say what is worth a warning.

    Parameters
    ----------
    genes, reference_genes, gene_ids, reference_ids, min_share
        See `align_genes`.
    needed : ndarray of shape (n_reference_genes,), dtype bool, optional
        The genes that count: those that a model selected. None takes all.
    stacklevel : int, default=2
        Of the warnings; 2 names the caller of the caller.

    Returns
    -------
    ndarray of shape (n_reference_genes,)
        Column of the query, or -1.
    """
    genes = _check_names(genes, "genes")
    reference = _check_names(reference_genes, "reference_genes")
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share must be between 0 and 1, got {min_share!r}.")
    match = match_genes(
        genes,
        reference,
        _check_ids(gene_ids, genes, "gene_ids"),
        _check_ids(reference_ids, reference, "reference_ids"),
    )
    found = match.columns >= 0
    needed = np.ones(len(reference), dtype=bool) if needed is None else needed
    whose = "the reference's" if needed.all() else "the model's"
    n_found, n_needed = int(found[needed].sum()), int(needed.sum())
    notes = "".join(f" {note}." for note in match.notes)
    missing = reference[needed & ~found]
    if n_needed and (n_found == 0 or n_found < min_share * n_needed):
        raise ValueError(
            f"only {n_found} of {whose} {n_needed} genes are in the query, a smaller share than "
            f"min_share={min_share:g}. The reference has {quote(missing)}; the query has "
            f"{quote(genes)}. Do both use the same kind of names (symbols or Ensembl "
            f"identifiers), of one species?{notes}"
        )
    if n_found < n_needed:
        remedy = (
            "; fit on the genes that both have for a better model"
            if n_found < n_needed / 2
            else ""
        )
        notes = (
            f" {len(missing)} of {whose} {n_needed} genes are missing in the query and were "
            f"filled: {quote(missing)}{remedy}.{notes}"
        )
    if notes:
        warnings.warn(notes.strip(), UserWarning, stacklevel=stacklevel + 1)
    return match.columns


def take_columns(X: Any, columns: NDArray[np.intp], fill_value: float | ArrayLike = 0.0) -> Any:
    """Columns of a matrix in another order, and a value where there is none.

    Parameters
    ----------
    X : {ndarray, CSR matrix} of shape (n_cells, n_genes)
    columns : ndarray of shape (n_reference_genes,)
        What `find_columns` returns.
    fill_value : float or array-like of shape (n_reference_genes,), default=0.0

    Returns
    -------
    {ndarray, CSR matrix} of shape (n_cells, n_reference_genes)
        `X` itself where its columns are in order.
    """
    fill = np.asarray(fill_value)
    if fill.ndim and fill.shape != columns.shape:
        raise ValueError(
            f"fill_value must be a number or one per reference gene ({len(columns)}), "
            f"got shape {fill.shape}."
        )
    if len(columns) == X.shape[1] and np.array_equal(columns, np.arange(len(columns))):
        return X
    found = columns >= 0
    fill = np.broadcast_to(fill, columns.shape)[~found]
    dtype = X.dtype
    if not np.can_cast(fill.dtype, dtype) and not np.array_equal(fill.astype(dtype), fill):
        dtype = np.result_type(dtype, fill.dtype)
    if sparse.issparse(X):
        return _align_sparse(X, columns, fill, dtype)
    aligned = np.empty((X.shape[0], len(columns)), dtype=dtype)
    aligned[:, found] = X[:, columns[found]]
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


# Columns of .var with other names of genes, as scanpy, Seurat, CELLxGENE and others call them.
_OTHER_NAMES = (
    "gene_ids",
    "gene_id",
    "ensembl_id",
    "ensembl_ids",
    "ensembl",
    "Ensembl",
    "feature_id",
    "Accession",
    "gene_name",
    "gene_names",
    "gene_symbol",
    "gene_symbols",
    "gene_short_name",
    "feature_name",
    "symbol",
    "symbols",
    "SYMBOL",
)


def other_names(table: Any) -> np.ndarray | None:
    """Other names of genes in a table of them: identifiers, or symbols.

    Parameters
    ----------
    table : DataFrame
        ``.var`` of an AnnData.

    Returns
    -------
    ndarray of shape (n_genes,), dtype str, or None
        The first known column that does not repeat the index; empty where a gene has none.
    """
    for key in _OTHER_NAMES:
        if key in table:
            missing = np.asarray(table[key].isna())
            names = np.where(missing, "", np.asarray(table[key]).astype(str)).astype(str)
            if not np.array_equal(names, np.asarray(table.index).astype(str)):
                return names
    return None


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


def _check_ids(ids: ArrayLike | None, names: np.ndarray, argument: str) -> np.ndarray | None:
    if ids is None:
        return None
    found = np.asarray(ids).astype(str)
    if found.shape != names.shape:
        raise ValueError(
            f"{argument} has shape {found.shape}, but there are {len(names)} names. Pass one "
            "identifier for each."
        )
    return found


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
