"""A fitted pipeline together with what it must know of its data.

Imports the answers and the further methods.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, gen_batches
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .. import __version__
from .._fitted.counts import median_library_size
from .._utils.arrays import naming
from .._utils.counts import kind_of_values
from .._utils.matrix import in_memory
from .._utils.searches import best_of
from .._utils.validation import check_sections, find_labels
from .._utils.warn import warn
from ..datasets._gene_matching import quote
from ..datasets._genes import MIN_SHARE, find_columns, make_unique, take_columns
from ..pipeline._genes import gene_weights
from ..pipeline._steps import transformers
from .answers import Answers, answer
from .methods import FurtherMethods

CHUNK_SIZE = 10_000

_VALUES_AT_A_TIME = 10_000_000


@dataclass(frozen=True, eq=False)
class SpatialModel(FurtherMethods):
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
        Their other names: identifiers such as those of Ensembl, or symbols.
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
    coordinate_system : str, default=None
        Coordinate system of a SpatialData that the positions are in.
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
    coordinate_system: str | None = None
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
            Other parameters of this class: `gene_ids`, `unit`, `layer`, `spatial_key`,
            `section_key` and `coordinate_system`.

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

    @property
    def sections(self) -> NDArray[Any] | None:
        """Labels of the sections of the reference; None where the last step keeps none."""
        pipeline = best_of(self.pipeline)
        final = pipeline.steps[-1][1] if isinstance(pipeline, Pipeline) else pipeline
        return getattr(final, "sections_", None)

    def _warn_of_unknown_sections(self, sections: NDArray[Any]) -> None:
        """Warn of labels that are answered in the frame of another section.

        A query that is z-scored by its own statistics is said to be another section.
        """
        known = self.sections
        pipeline = best_of(self.pipeline)
        steps = transformers(pipeline) if isinstance(pipeline, Pipeline) else []
        own_statistics = any(getattr(step, "query", None) == "new_section" for step in steps)
        if known is None or len(known) < 2 or own_statistics:
            return
        labels = check_sections(sections, len(sections))[1]
        unknown = labels[find_labels(labels, known) < 0]
        if len(unknown):
            warn(
                f"{len(unknown)} of {len(labels)} labels of sections in the query are unknown to "
                f"the reference ({quote(unknown)}; it has {quote(known)}). Their cells are "
                "answered in the frame of its largest section."
            )

    @property
    def gene_weights(self) -> NDArray[np.float64]:
        """Share of each gene in what the last step sees; see `sklearn_dpvae.inspection`."""
        pipeline = best_of(self.pipeline)
        if not isinstance(pipeline, Pipeline):
            return np.full(self.n_genes, 1 / self.n_genes)
        return gene_weights(pipeline, self.n_genes)

    def align(
        self,
        X: Any,
        genes: ArrayLike,
        *,
        gene_ids: ArrayLike | None = None,
        min_share: float = MIN_SHARE,
    ) -> tuple[Any, NDArray[np.bool_]]:
        """Bring the columns of a query into the order of the model's genes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_query_genes)
        genes : array-like of shape (n_query_genes,)
            Names of the columns of `X`.
        gene_ids : array-like of shape (n_query_genes,), default=None
            Other names of the columns, such as identifiers of Ensembl.
        min_share : float, default=0.05
            Share of the genes that the model selected, between 0 and 1, that the query must have.

        Returns
        -------
        aligned : {ndarray, sparse matrix} of shape (n_cells, n_genes)
            With 0 where the query lacks a gene.
        missing : ndarray of shape (n_genes,), dtype bool
            The genes that it lacks.

        Raises
        ------
        ValueError
            If too few of the selected genes, or none of them, are in the query.

        Warns
        -----
        UserWarning
            If the query lacks selected genes, or genes are matched by other than equal names.
        """
        X = check_array(X, accept_sparse="csr", dtype=None, ensure_all_finite=False)
        columns = self._columns(X, genes, gene_ids, min_share)
        return take_columns(X, columns), columns < 0

    def _columns(
        self, X: Any, genes: ArrayLike, gene_ids: ArrayLike | None, min_share: float
    ) -> NDArray[np.intp]:
        """Column of a query for each gene of the model, -1 where there is none; see `align`."""
        if genes is self.genes and X.shape[1] == self.n_genes:
            # Without this, names would take as long as placing a single cell.
            return np.arange(self.n_genes)
        n_names = len(np.asarray(genes))
        if n_names != X.shape[1]:
            raise ValueError(
                f"genes has {n_names} names but X has {X.shape[1]} columns. Pass one name per "
                "column."
            )
        return find_columns(
            genes,
            self.genes,
            gene_ids=gene_ids,
            reference_ids=self.gene_ids,
            min_share=min_share,
            weights=self.gene_weights,
        )

    def predict(
        self,
        X: Any,
        *,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        gene_ids: ArrayLike | None = None,
        anchors: Any = None,
        adapt: Literal["auto"] | bool = "auto",
        min_share: float = MIN_SHARE,
    ) -> NDArray[Any]:
        """Predict positions.

        Parameters
        ----------
        X, genes, sections, gene_ids, anchors, adapt, min_share
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
            gene_ids=gene_ids,
            anchors=anchors,
            adapt=adapt,
            min_share=min_share,
            latents=False,
        ).coords

    def answers(
        self,
        X: Any,
        *,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        gene_ids: ArrayLike | None = None,
        anchors: Any = None,
        adapt: Literal["auto"] | bool = "auto",
        min_share: float = MIN_SHARE,
        chunk_size: int = CHUNK_SIZE,
        latents: bool = True,
        verbose: bool = False,
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
        gene_ids : array-like of shape (n_query_genes,), default=None
            Other names of the columns, such as identifiers of Ensembl.
        anchors : tuple (indices, coords) or array-like of shape (n_cells, n_dims), default=None
            Known positions of some of the cells, see `DPVAESpatialRegressor.predict`.
        adapt : {"auto"} or bool, default="auto"
            Whether they teach more than the pose, see there.
        min_share : float, default=0.05
            Share of the genes that the model selected, between 0 and 1, that the query must have.
        chunk_size : int, default=10_000
            Rows that are read and preprocessed at a time.
        latents : bool, default=True
            Whether latents are asked for.
        verbose : bool, default=False
            Whether a bar on stderr shows the progress, where there are several blocks.

        Returns
        -------
        Answers
            With the attributes `coords`, `std`, `latents` and `missing`, the genes that the
            query lacks. `std` and `latents` are None where the last step has none.

        Raises
        ------
        ValueError
            If too few of the selected genes are in the query, there are no cells, or the
            pipeline refuses what it is given.

        Warns
        -----
        UserWarning
            If the query lacks selected genes, or genes are matched by other than equal names.
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
        names = genes if genes is self.genes else np.asarray(genes).astype(str)
        X = X if hasattr(X, "shape") else np.asarray(X)
        X = X.tocsr() if sparse.issparse(X) else getattr(X, "to_numpy", lambda: X)()
        if X.shape[0] == 0:
            raise ValueError("the query has no cells to place.")
        columns = self._columns(X, names, gene_ids, min_share)
        if sections is not None:
            sections = np.asarray(sections)
            self._warn_of_unknown_sections(sections)
        if self.whole_counts:
            _warn_of_fractions(in_memory(X[:200]))
        with warnings.catch_warnings():
            # Genes were matched by name before.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            found = answer(
                self.pipeline,
                _blocks(X, columns, chunk_size, verbose),
                columns < 0,
                sections=sections,
                anchors=anchors,
                adapt=adapt,
                latents=latents,
            )
        return replace(found, missing=columns < 0)


def _warn_of_fractions(X: Any) -> None:
    """Warn where the reference was whole numbers, and this is neither that nor logarithms."""
    X = sparse.csr_matrix(X)
    # Logarithms are noticed by LogNormalizer, negative numbers are its error.
    if X.data.min(initial=0) >= 0 and kind_of_values(X) == "fractions":
        warn(
            "the query holds fractions, but the reference held whole numbers, so that predictions "
            'are less accurate. Pass the counts, which an AnnData often has as layer="counts" or '
            'layer="raw", or correct both alike.'
        )


def _blocks(
    X: Any, columns: NDArray[np.intp], size: int, verbose: bool
) -> Iterator[tuple[slice, Any]]:
    """Blocks of rows in memory, with the model's columns."""
    starts = range(0, X.shape[0], size)
    for start in tqdm(starts, "placing", unit="block", disable=not verbose or len(starts) < 2):
        rows = slice(start, min(start + size, X.shape[0]))
        part = in_memory(X[rows])
        if start:
            # The first block has said what is wrong with all. `answers` undoes this filter.
            warnings.filterwarnings("ignore", message="X (looks log|holds whole numbers)")
        yield rows, take_columns(part, columns)


def as_spatial_model(model: Any) -> SpatialModel:
    """The model itself, or what can be known of a fitted pipeline.

    Parameters
    ----------
    model : SpatialModel or estimator
        A fitted estimator needs the names of its genes: from ``fit(X, y, genes=names)`` of a
        `SpatialPipeline`, or as `feature_names_in_`.

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
    pipeline = best_of(model)
    table = getattr(pipeline, "gene_table_", None)
    names = getattr(model, "feature_names_in_", None) if table is None else table.names[table.kept]
    if names is None:
        raise TypeError(
            f"this {type(model).__name__} does not know the names of its genes. Fit it by "
            "sklearn_dpvae.anndata.fit, on a pandas DataFrame, or with genes=, or give them as "
            "SpatialModel(pipeline, genes)."
        )
    held_out = getattr(pipeline, "held_out_", None)
    return SpatialModel(
        model, names, whole_counts=None if held_out is None else bool(held_out.counts)
    )
