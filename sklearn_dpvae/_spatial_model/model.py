"""A fitted pipeline together with what it must know of its data. Imports the answers."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from .. import __version__
from .._fitted.counts import median_library_size
from .._utils.arrays import naming
from ..datasets import align_genes
from ..datasets._genes import make_unique, quote
from .answers import Answers, answer

CHUNK_SIZE = 10_000

_VALUES_AT_A_TIME = 10_000_000


@dataclass(frozen=True, eq=False)
class SpatialModel:
    """A fitted pipeline that knows its genes, and what data it was fitted on.

    `sklearn_dpvae.anndata.fit` and the command ``sklearn-dpvae fit`` make it.
    `sklearn_dpvae.save`, joblib and pickle write it to a file.

    Parameters
    ----------
    pipeline : estimator
        Fitted.
    genes : array-like of shape (n_genes,)
        Names of the columns that it takes, in order and without duplicates.
    gene_ids : array-like of shape (n_genes,), default=None
        Their identifiers, such as those of Ensembl.
    whole_counts : bool, default=None
        Whether it was fitted on whole numbers, none of them negative.
    median_depth : float, default=None
        Median over the cells of the sum of their counts.
    unit : str, default=None
        Unit of the positions, such as ``"µm"``.
    layer : str, default=None
        Layer that the expression came from; None is ``.X``.
    spatial_key : str, default=None
        Key of ``.obsm`` that the positions came from.
    section_key : str, default=None
        Column of ``.obs`` that the labels of sections came from.
    version : str, default=None
        Version of this package that fitted it.

    Raises
    ------
    ValueError
        If names or identifiers are not one for each column of the pipeline, or a name occurs
        more than once.

    See Also
    --------
    sklearn_dpvae.anndata.fit : Fit one on an AnnData.
    sklearn_dpvae.save : Write it to a file.

    Notes
    -----
    Everything but the pipeline may be None, where it is not known.

    It is a frozen dataclass, not an estimator. It has no parameter that could be tuned: a clone
    of it, or a search over it, would be one of the pipeline. And its parts tell of one fit, so
    that none of them can be changed without the others.

    Examples
    --------
    >>> from sklearn_dpvae import SpatialModel, make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(200, 50, random_state=0)
    >>> pipeline = make_spatial_pipeline(max_epochs=2, random_state=0)
    >>> pipeline = pipeline.fit(tissue.X[:150], tissue.coords[:150])
    >>> model = SpatialModel.of(pipeline, tissue.X[:150], tissue.genes, unit="µm")
    >>> model.whole_counts, model.n_genes
    (True, 50)

    A query may have its genes in any order:

    >>> model.predict(tissue.X[150:, ::-1], genes=tissue.genes[::-1]).shape
    (50, 2)
    """

    pipeline: Any
    genes: NDArray[np.str_]
    gene_ids: NDArray[np.str_] | None = None
    whole_counts: bool | None = None
    median_depth: float | None = None
    unit: str | None = None
    layer: str | None = None
    spatial_key: str | None = None
    section_key: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        for name in ("genes", "gene_ids"):
            given = getattr(self, name)
            if given is not None:
                with naming(name):
                    object.__setattr__(self, name, np.asarray(given).astype(str))
        if self.genes is None or self.genes.ndim != 1:
            raise ValueError(
                "genes must be a list of names, got "
                f"{None if self.genes is None else f'an array of shape {self.genes.shape}'}."
            )
        repeated = make_unique(self.genes)[1]
        if repeated:
            raise ValueError(
                f"genes has {len(repeated)} name(s) more than once ({quote(repeated)}). "
                "Columns are matched by name: rename them, and fit again."
            )
        if self.gene_ids is not None and self.gene_ids.shape != self.genes.shape:
            raise ValueError(
                f"gene_ids has shape {self.gene_ids.shape}, but there are {self.n_genes} genes. "
                "Pass one identifier for each."
            )
        n_features = getattr(self.pipeline, "n_features_in_", self.n_genes)
        if n_features != self.n_genes:
            raise ValueError(
                f"genes has {self.n_genes} names, but the pipeline was fitted on {n_features} "
                "columns. Pass the names of all columns, in order."
            )

    @classmethod
    def of(cls, pipeline: Any, X: Any, genes: ArrayLike, **known: Any) -> Self:
        """Put a pipeline and what can be seen of its data together.

        Parameters
        ----------
        pipeline : estimator
            Fitted on `X`.
        X : {array-like, sparse matrix} of shape (n_cells, n_genes)
            What it was fitted on.
        genes : array-like of shape (n_genes,)
            Names of the columns of `X`.
        **known : dict
            Other parameters of this class: `gene_ids`, `unit`, `layer`, `spatial_key` and
            `section_key`.

        Returns
        -------
        SpatialModel
        """
        X = X if sparse.issparse(X) else np.asarray(X)
        values = (X.data if sparse.issparse(X) else X).ravel()
        # By parts: what is learned of a large matrix should not take another one.
        parts = [values[rows] for rows in gen_batches(len(values), _VALUES_AT_A_TIME)]
        amounts = all((part >= 0).all() for part in parts) and bool(values.any())
        return cls(
            pipeline,
            np.asarray(genes),
            whole_counts=amounts and all((part == np.floor(part)).all() for part in parts),
            median_depth=median_library_size(X) if amounts else None,
            version=__version__,
            **known,
        )

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return len(self.genes)

    def align(
        self, X: Any, genes: ArrayLike, *, min_share: float = 0.5
    ) -> tuple[Any, NDArray[np.bool_]]:
        """Bring the columns of a query into the order of the model's genes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_query_genes)
        genes : array-like of shape (n_query_genes,)
            Names of the columns of `X`.
        min_share : float, default=0.5
            Share of the model's genes, between 0 and 1, that the query must have.

        Returns
        -------
        aligned : {ndarray, sparse matrix} of shape (n_cells, n_genes)
            With 0 where the query lacks a gene.
        missing : ndarray of shape (n_genes,), dtype bool
            The genes that it lacks.

        Raises
        ------
        ValueError
            If too few genes are common to both.

        Warns
        -----
        UserWarning
            If the query lacks genes.
        """
        aligned = align_genes(X, genes, self.genes, min_share=min_share)
        return aligned, ~np.isin(self.genes, np.asarray(genes).astype(str))

    def predict(
        self,
        X: Any,
        *,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        anchors: Any = None,
        min_share: float = 0.5,
    ) -> NDArray[Any]:
        """Predict positions.

        Parameters
        ----------
        X, genes, sections, anchors, min_share
            See `answers`.

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
            Positions, in the unit of the reference.
        """
        return self.answers(
            X,
            genes=genes,
            sections=sections,
            anchors=anchors,
            min_share=min_share,
            latents=False,
        ).coords

    def answers(
        self,
        X: Any,
        *,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        anchors: Any = None,
        min_share: float = 0.5,
        chunk_size: int = CHUNK_SIZE,
        latents: bool = True,
    ) -> Answers:
        """Predict positions, their standard deviations, and latents.

        Parameters
        ----------
        X : {array-like, sparse matrix, backed or dask array} of shape (n_cells, n_query_genes)
            Expression of the query, of the same kind as that of the reference. It is read by
            blocks of rows.
        genes : array-like of shape (n_query_genes,), default=None
            Names of the columns of `X`. None takes those of a DataFrame; other `X` must then
            have the genes of the model, in order.
        sections : array-like of shape (n_cells,), default=None
            Section of each row.
        anchors : tuple (indices, coords) or array-like of shape (n_cells, n_dims), default=None
            Known positions of some of the cells, see `DPVAESpatialRegressor.predict`.
        min_share : float, default=0.5
            Share of the model's genes, between 0 and 1, that the query must have.
        chunk_size : int, default=10_000
            Rows that are read and preprocessed at a time.
        latents : bool, default=True
            Whether latents are asked for.

        Returns
        -------
        Answers
            With the attributes `coords`, `std` and `latents`; the last two are None where the
            last step has none.

        Raises
        ------
        ValueError
            If too few genes are common to both, there are no cells, or the pipeline refuses
            what it is given.

        Warns
        -----
        UserWarning
            If the query lacks genes.
        """
        check_is_fitted(self.pipeline)
        if hasattr(X, "obsm"):
            raise TypeError("X is an AnnData. Use sklearn_dpvae.anndata.predict(model, adata).")
        if not isinstance(chunk_size, int | np.integer) or chunk_size < 1:
            raise ValueError(
                f"chunk_size must be a whole number of 1 or more, got {chunk_size!r}."
            )
        if genes is None:
            genes = getattr(X, "columns", self.genes)
        names = np.asarray(genes).astype(str)
        X = X if hasattr(X, "shape") else np.asarray(X)
        if X.shape[0] == 0:
            raise ValueError("the query has no cells to place.")
        with warnings.catch_warnings():
            # Genes were matched by name before.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return answer(
                self.pipeline,
                self._blocks(X, names, min_share, chunk_size),
                ~np.isin(self.genes, names),
                sections=None if sections is None else np.asarray(sections),
                anchors=anchors,
                latents=latents,
            )

    def _blocks(
        self, X: Any, genes: NDArray[np.str_], min_share: float, size: int
    ) -> Iterator[tuple[slice, Any]]:
        """Blocks of rows in memory, with the model's columns."""
        for start in range(0, X.shape[0], size):
            rows = slice(start, min(start + size, X.shape[0]))
            part = X[rows]
            if hasattr(part, "compute"):  # dask
                part = part.compute()
            part = part if sparse.issparse(part) else np.asarray(part)
            if start:
                # The first block has said what is wrong with all. `answers` undoes these filters.
                warnings.filterwarnings("ignore", message="X (looks log|holds whole numbers)")
                warnings.filterwarnings("ignore", message=".* genes are missing in the query")
            part, _ = self.align(part, genes, min_share=min_share)
            yield rows, part


def as_spatial_model(model: Any) -> SpatialModel:
    """The model itself, or what can be known of a fitted pipeline.

    Parameters
    ----------
    model : SpatialModel or estimator
        A fitted estimator needs `feature_names_in_`.

    Returns
    -------
    SpatialModel

    Raises
    ------
    TypeError
        If it is something else, or does not know the names of its genes.
    """
    if isinstance(model, SpatialModel):
        return model
    if not isinstance(model, BaseEstimator):
        raise TypeError(
            f"model is a {type(model).__name__}, neither a SpatialModel nor a fitted pipeline. "
            "Is the order of the arguments (model, adata)?"
        )
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        raise TypeError(
            f"this {type(model).__name__} does not know the names of its genes. Fit it by "
            "sklearn_dpvae.anndata.fit or on a pandas DataFrame, or give them as "
            "SpatialModel(pipeline, genes)."
        )
    return SpatialModel(model, names)
