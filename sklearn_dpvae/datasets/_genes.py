"""Names of genes: made unique, and aligned between a reference and a query.

May import the matching of this folder.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from .._utils.arrays import check_array, naming
from .._utils.warn import warn
from ._gene_matching import match_genes, quote

# A panel has a small part of the genes that were selected from a whole transcriptome.
MIN_SHARE = 0.05

# Who loses more of a model than this does better with one of the genes that are left.
MUCH = 1 / 3
_REMEDY = (
    "Fit the reference on the genes that both have: fit(X, coords, genes=..., query_genes=...) of "
    "a pipeline, sklearn_dpvae.anndata.fit(reference, query=...), or sklearn-dpvae fit "
    "--for-query."
)


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
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.intp]:
    """Find the genes of a reference among those of a query, and say what is worth a warning.

    Parameters
    ----------
    genes, reference_genes, gene_ids, reference_ids, min_share
        See `align_genes`.
    weights : ndarray of shape (n_reference_genes,), optional
        Share of each gene in what a model goes by; those of 0 do not count. None counts all.

    Returns
    -------
    ndarray of shape (n_reference_genes,)
        Column of the query, or -1.
    """
    genes = check_names(genes, "genes")
    reference = check_names(reference_genes, "reference_genes")
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share must be between 0 and 1, got {min_share!r}.")
    match = match_genes(
        genes,
        reference,
        _check_ids(gene_ids, genes, "gene_ids"),
        _check_ids(reference_ids, reference, "reference_ids"),
    )
    notes = report_missing(
        match.columns < 0,
        weights,
        min_share,
        names=reference,
        query_names=genes,
        notes=match.notes,
    )
    if notes:
        warn(notes)
    return match.columns


def report_missing(
    missing: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
    min_share: float,
    *,
    names: NDArray[np.str_] | None = None,
    query_names: NDArray[np.str_] | None = None,
    notes: tuple[str, ...] = (),
) -> str:
    """Say which genes a query lacks, and what they weigh.

    Parameters
    ----------
    missing : ndarray of shape (n_genes,), dtype bool
    weights : ndarray of shape (n_genes,), or None
    min_share : float
        See `find_columns`.
    names, query_names : ndarray of str, optional
        To quote from.
    notes : tuple of str
        Sentences to add.

    Returns
    -------
    str
        Sentences for a warning; empty where nothing that counts is missing.

    Raises
    ------
    ValueError
        If fewer than `min_share` of the genes that count are there, or none.
    """
    counts = np.ones(len(missing), dtype=bool) if weights is None else weights > 0
    whose = "the reference's" if weights is None else "the model's"
    n_counted, n_missing = int(counts.sum()), int((counts & missing).sum())
    n_found = n_counted - n_missing
    added = "".join(f" {note}." for note in notes)
    quoted = "" if names is None else f": {quote(names[counts & missing])}"
    if n_counted and (n_found == 0 or n_found < min_share * n_counted):
        both = ""
        if names is not None and query_names is not None:
            both = (
                f" The reference has {quote(names[counts & missing])}; the query has "
                f"{quote(query_names)}. Do both use the same kind of names (symbols or Ensembl "
                "identifiers), of one species?"
            )
        raise ValueError(
            f"only {n_found} of {whose} {n_counted} genes are in the query, a smaller share than "
            f"min_share={min_share:g}.{both}{added} {_REMEDY}"
        )
    if not n_missing:
        return added.strip()
    lost = n_missing / n_counted if weights is None else float(weights[missing].sum())
    weight = "" if weights is None else f", with {lost:.0%} of the weight,"
    # A model of whole transcriptomes that is shown a panel.
    remedy = f" {_REMEDY}" if lost > MUCH else ""
    return (
        f"{n_missing} of {whose} {n_counted} genes{weight} are missing in the query and were "
        f"filled{quoted}.{remedy}{added}"
    )


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


def common_genes(
    genes: ArrayLike,
    query_genes: ArrayLike,
    *,
    gene_ids: ArrayLike | None = None,
    query_ids: ArrayLike | None = None,
) -> NDArray[np.intp]:
    """Find the genes of a reference that a query has, too, as `align_genes` matches them.

    Parameters
    ----------
    genes : array-like of shape (n_genes,)
        Names of the columns of the reference, without duplicates.
    query_genes : array-like of shape (n_query_genes,)
        Names of the columns of the query. Of those that it repeats, the first counts.
    gene_ids : array-like of shape (n_genes,), default=None
        Other names of the genes of the reference, such as identifiers of Ensembl.
    query_ids : array-like of shape (n_query_genes,), default=None
        Other names of the genes of the query.

    Returns
    -------
    ndarray of shape (n_common,)
        Columns of the reference, in order.

    Raises
    ------
    ValueError
        If there are none.

    See Also
    --------
    align_genes : Bring the query into the order of these genes.

    Examples
    --------
    >>> from sklearn_dpvae.datasets import common_genes
    >>> common_genes(["Sst", "Gad1", "Mbp"], ["Mbp", "Sst", "Pvalb"])
    array([0, 2])
    """
    reference = check_names(genes, "genes")
    query, first = np.unique(np.asarray(query_genes).astype(str), return_index=True)
    if query_ids is not None:
        query_ids = np.asarray(query_ids)[first]
    match = match_genes(
        query,
        reference,
        _check_ids(query_ids, query, "query_ids"),
        _check_ids(gene_ids, reference, "gene_ids"),
    )
    if (match.columns < 0).all():
        raise ValueError(
            f"none of the {len(reference)} genes is among the {len(query)} query_genes. genes has "
            f"{quote(reference)}; query_genes has {quote(query)}. Do both use the same kind of "
            "names (symbols or Ensembl identifiers), of one species?"
        )
    return np.flatnonzero(match.columns >= 0)


def keep_genes_of(data: Any, query_genes: ArrayLike, query_ids: ArrayLike | None) -> None:
    """Restrict sections, as `read_sections` returns them, to the genes that a query has, too.

    Parameters
    ----------
    data : Bunch
        Changed in place.
    query_genes, query_ids
        See `common_genes`.
    """
    shared = common_genes(data.genes, query_genes, gene_ids=data.gene_ids, query_ids=query_ids)
    data.X, data.genes = data.X[:, shared], data.genes[shared]
    if data.gene_ids is not None:
        data.gene_ids = np.asarray(data.gene_ids)[shared]


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


def check_names(names: ArrayLike, argument: str) -> np.ndarray:
    with naming(argument):
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
    with naming(argument):
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
