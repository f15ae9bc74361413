"""What can be said of a query before it is placed. Imports the model."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.pipeline import Pipeline

from .._utils.counts import kind_of_values
from .._utils.matrix import evenly_spaced, in_memory
from .._utils.searches import best_of
from ..datasets._genes import MIN_SHARE
from ..pipeline._expectation import Expectation, expect
from ..pipeline._held_out import HeldOut
from ..pipeline._steps import keywords_of, transform_and_shift, transformers
from .model import SpatialModel, as_spatial_model

# Cells of a query that are looked at.
_MOST_CELLS = 500

# If more of the weight of the genes is missing than this, positions should not be trusted.
_MOST_MISSING = 2 / 3

# If more cells than this do not resemble the reference, a query that is not moved may have to be.
_MANY_UNLIKE = 0.2


@dataclass(frozen=True, kw_only=True)
class QueryCheck(Expectation):
    """What `check_query` found. Its text is a table; `to_dict` gives plain values.

    Attributes
    ----------
    n_cells : int
        Cells of the query.
    values : {"counts", "logarithms", "fractions"}
        What its expression looks like.
    expected_values : {"counts", "other", "unknown"}
        What the model was fitted on.
    n_genes_used, n_genes_found : int
        Genes that the model selected, and those of them that the query has.
    weight_missing : float
        Share of the weight of the others, from 0 to 1.
    depth, reference_depth : float
        Median library sizes of the query and of held-out cells of the reference, over the genes
        that both have. NaN where expression is not counts, or there are no held-out cells.
    query_shift : dict
        How far each section moves towards its own statistics, from 0 to 1; see `SectionScaler`.
    unlike : float
        Share of cells that do not resemble the reference, p < 0.05; see
        `SpatialPipeline.predict_membership`. NaN where that is not known.
    expected_error : float
        Median distance from the true place, in tissue units, of held-out cells of the reference
        that are as shallow as the query and lack the same genes. They were placed by one network
        instead of the ensemble, so that the error is rather too large; shifts between slides and
        chemistries come on top. NaN where there are no held-out cells.
    reference_error : float
        The same of held-out cells as they are.
    guess_error : float
        The same if all cells were put into the middle of the tissue.
    """

    n_cells: int
    values: str
    expected_values: str
    n_genes_used: int
    n_genes_found: int
    weight_missing: float
    query_shift: dict[str, float]

    @property
    def on_another_scale(self) -> bool:
        """Whether the model expects counts and the query holds something else, or vice versa."""
        return self.expected_values != "unknown" and (
            (self.expected_values == "counts") != (self.values == "counts")
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to trust positions; empty where there are none."""
        scale = f"the query holds {self.values} where the model expects {self._expected}"
        return ((scale,) if self.on_another_scale else ()) + self.doubts

    @property
    def doubts(self) -> tuple[str, ...]:
        """Those of the reasons that `predict` does not name by itself: all but the scale."""
        missing = f"genes with {self.weight_missing:.0%} of the model's weight are missing"
        return ((missing,) if self.weight_missing > _MOST_MISSING else ()) + super().doubts

    @property
    def advice(self) -> tuple[str, ...]:
        """What else could be tried."""
        moved = any(self.query_shift.values())
        if self.unlike > _MANY_UNLIKE and self.query_shift and not moved:
            return (
                "if this is the same tissue, but another section or technology, "
                'query="new_section" moves it to its own statistics; compare the two',
            )
        return ()

    @property
    def _expected(self) -> str:
        return {"other": "other values"}.get(self.expected_values, self.expected_values)

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against placing the query."""
        return not self.warnings

    def to_dict(self) -> dict[str, Any]:
        """All values, with None in place of NaN, as JSON takes them."""
        plain = asdict(self) | {
            "warnings": self.warnings,
            "advice": self.advice,
            "trusted": self.trusted,
        }
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in plain.items()
        }

    def __str__(self) -> str:
        def number(value: float) -> str:
            return "unknown" if np.isnan(value) else f"{value:,.4g}"

        def share(value: float) -> str:
            return "unknown" if np.isnan(value) else f"{value:.0%}"

        shift = ", ".join(
            share(value) if len(self.query_shift) == 1 else f"{label} {value:.0%}"
            for label, value in self.query_shift.items()
        )
        rows = [
            ("cells", f"{self.n_cells:,}"),
            ("values", f"{self.values} (the model expects {self._expected})"),
            ("genes that the model uses", f"{self.n_genes_found:,} of {self.n_genes_used:,}"),
            ("weight of the missing ones", share(self.weight_missing)),
            (
                "counts per cell",
                f"{number(self.depth)} (reference {number(self.reference_depth)})",
            ),
            ("moved towards its own statistics", shift or "not decided by the model"),
            ("cells unlike the reference", share(self.unlike)),
            ("expected median error", number(self.expected_error)),
            ("  of the reference's own cells", number(self.reference_error)),
            ("  of a guess, the middle", number(self.guess_error)),
            *(("advice", text) for text in self.advice),
            ("verdict", "; ".join(self.warnings) or "nothing speaks against it"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def check_query(
    model: Any,
    X: Any,
    genes: ArrayLike | None = None,
    *,
    sections: ArrayLike | None = None,
    gene_ids: ArrayLike | None = None,
    min_share: float = MIN_SHARE,
) -> QueryCheck:
    """Say what a query may expect of a model, before it is placed.

    Parameters
    ----------
    model : SpatialModel or estimator
        A fitted estimator needs the names of its genes: from ``fit(X, y, genes=names)`` of a
        `SpatialPipeline`, or as `feature_names_in_`.
    X : {array-like, sparse matrix} of shape (n_cells, n_query_genes)
        Expression of the query. At most 500 of its cells, evenly spaced, are looked at.
    genes : array-like of shape (n_query_genes,), default=None
        Names of the columns of `X`. None takes those of a DataFrame, or those of the model.
    sections : array-like of shape (n_cells,), default=None
        Section of each row.
    gene_ids : array-like of shape (n_query_genes,), default=None
        Other names of the columns, such as identifiers of Ensembl.
    min_share : float, default=0.05
        Share of the genes that the model selected that the query must have.

    Returns
    -------
    QueryCheck
        A table as text, with a verdict; `to_dict` for programs.

    Raises
    ------
    ValueError
        If too few of the selected genes are in the query.

    Examples
    --------
    >>> from sklearn_dpvae import SpatialModel, check_query, make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(400, 60, random_state=0)
    >>> pipeline = make_spatial_pipeline(max_epochs=5, random_state=0)
    >>> pipeline = pipeline.fit(tissue.X[:300], tissue.coords[:300])
    >>> model = SpatialModel.of(pipeline, tissue.X[:300], tissue.genes, unit="µm")
    >>> check = check_query(model, tissue.X[300:], tissue.genes)
    >>> check.n_genes_found, check.values, check.unlike < 0.2
    (60, 'counts', True)
    """
    model = as_spatial_model(model)
    names: Any = getattr(X, "columns", model.genes) if genes is None else genes
    n_cells = X.shape[0] if hasattr(X, "shape") else len(X)
    if not n_cells:
        raise ValueError("the query has no cells to check.")
    rows = evenly_spaced(n_cells, _MOST_CELLS)
    labels = None if sections is None else np.asarray(sections)[rows]
    # Rows first: a backed or lazy matrix may not fit in memory.
    some = X.tocsr() if sparse.issparse(X) else X if hasattr(X, "shape") else np.asarray(X)
    some = some.iloc[rows] if hasattr(some, "iloc") else in_memory(some[rows])
    values = kind_of_values(in_memory(some))
    aligned, missing = model.align(some, names, gene_ids=gene_ids, min_share=min_share)
    return look_at(model, in_memory(aligned), missing, labels, n_cells=n_cells, values=values)


def look_at(
    model: SpatialModel,
    X: Any,
    missing: NDArray[np.bool_],
    sections: NDArray[Any] | None,
    *,
    n_cells: int,
    values: str,
) -> QueryCheck:
    """Check some cells of a query whose genes are those of the model."""
    pipeline = best_of(model.pipeline)
    weights = model.gene_weights
    used = weights > 0
    expected = {None: "unknown", True: "counts", False: "other"}[model.whole_counts]
    absent = missing if missing.any() else None
    shift: dict[Any, float] = {}
    if isinstance(pipeline, Pipeline):
        told = {} if sections is None else {"sections": sections}
        keywords, _ = keywords_of(pipeline, "predict", told)
        steps = zip(transformers(pipeline), keywords, strict=True)
        shift = transform_and_shift(steps, X, absent)[2]

    held_out: HeldOut | None = getattr(pipeline, "held_out_", None)
    found = (
        Expectation()
        if held_out is None
        else expect(held_out, pipeline, X, sections, absent, counts=values == "counts")
    )
    return QueryCheck(
        **asdict(found),
        n_cells=n_cells,
        values=values,
        expected_values=expected,
        n_genes_used=int(used.sum()),
        n_genes_found=int((used & ~missing).sum()),
        weight_missing=float(weights[missing].sum()),
        query_shift={str(label): float(value) for label, value in shift.items()},
    )
