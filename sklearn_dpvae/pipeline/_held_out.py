"""Cells of the reference that a copy of the pipeline has never seen: what a query is judged by.

What may a query expect that is shallower than the reference, or lacks half of its genes? The
answer is what befalls cells whose places are known if the same is done to them. And whether a cell
is of this tissue at all is told by comparing it with such cells, as conformal prediction does.

Imports the thinning and this folder's steps.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import OneToOneFeatureMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import Ridge
from sklearn.utils import _safe_indexing

from .._fitted.value import Value
from .._utils.counts import kind_of_values, library_sizes
from ._steps import keywords_of, transform_with, transformers, with_query
from ._thinning import at_depths, thin

# Cells that are kept, with their counts. They are part of a saved model.
_MOST_CELLS = 200

# Cells that expression is regressed on the components of.
_CELLS_FOR_REGRESSION = 2000

# Genes for each direction that these regressions may tell apart.
_GENES_PER_DIRECTION = 3

# What a regression on more columns would say of expression is mostly noise.
_MOST_INPUTS = 64

# Shares of the counts of held-out cells, so that there are some as shallow as any query's.
_SHARES = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015)

# Held-out cells of about the same depth that a cell is compared with.
_N_ALIKE = 150

_SEED = 0


@dataclass(frozen=True, eq=False)
class HeldOut(Value):
    """Cells of the reference and a pipeline that was fitted without them.

    Attributes
    ----------
    chain : SpatialPipeline
        Fitted without the cells, with one network.
    X : {ndarray, CSR matrix} of shape (n_cells, n_genes)
        What the cells express, as the first step takes it.
    coords : ndarray of shape (n_cells, n_dims)
        Where they are.
    sections : ndarray of shape (n_cells,), optional
        Labels of their sections.
    slopes : ndarray of shape (n_inputs, n_selected), optional
    intercept : ndarray of shape (n_selected,), optional
        What the last step sees says this of the expression of the selected genes: a ridge
        regression. None where the last step sees too many columns.
    gain : float, default=1.0
        Median error of the whole pipeline, of left-out cells, over that of such a chain.
    """

    chain: Any
    X: Any
    coords: NDArray[np.float64]
    sections: NDArray[Any] | None = None
    slopes: NDArray[np.float32] | None = None
    intercept: NDArray[np.float32] | None = None
    gain: float = 1.0

    @classmethod
    def of(
        cls,
        chain: Any,
        X: Any,
        coords: NDArray[np.float64],
        sections: NDArray[Any] | None,
        train: NDArray[np.intp],
        left_out: NDArray[np.intp],
        gain: float,
    ) -> Self:
        """Keep some of the cells that a pipeline was fitted without.

        Parameters
        ----------
        chain : SpatialPipeline
            Fitted on the rows `train`.
        X, coords, sections
            Of the whole reference.
        train, left_out : ndarray of int
        gain : float
        """
        rows = left_out[:: -(-len(left_out) // _MOST_CELLS)]
        some = train[:: -(-len(train) // _CELLS_FOR_REGRESSION)]
        slopes = intercept = None
        profiles, inputs, _ = _seen(
            chain,
            _safe_indexing(X, some),
            None if sections is None else sections[some],
            None,
            None,
        )
        if inputs.shape[1] <= _MOST_INPUTS:
            slopes, intercept = _told_by(inputs, profiles)
        kept = _safe_indexing(X, rows)
        kept = kept.tocsr() if sparse.issparse(kept) else np.asarray(kept)
        labels = None if sections is None else np.asarray(sections)[rows]
        return cls(chain, kept, coords[rows], labels, slopes, intercept, gain)

    @property
    def counts(self) -> bool:
        """Whether expression is whole numbers, which can be thinned."""
        return bool(kind_of_values(self.X) == "counts")

    @cached_property
    def own_errors(self) -> NDArray[np.float64]:
        """Distances of the cells from their true places, as they are."""
        return self.errors(None, None)

    def errors(
        self, depths: NDArray[np.float64] | None, missing: NDArray[np.bool_] | None
    ) -> NDArray[np.float64]:
        """Distances from the true places, if the cells were as shallow as a query.

        Parameters
        ----------
        depths : ndarray of shape (n_query,), optional
            Library sizes of the query. None leaves the cells as they are.
        missing : ndarray of shape (n_genes,), dtype bool, optional
            Genes that the query lacks.

        Returns
        -------
        ndarray of shape (n_cells,)
            In tissue units.
        """
        X = self.without(missing)
        if depths is not None and self.counts:
            X = at_depths(X, depths, np.random.default_rng(_SEED))
        options: dict[str, Any] = {} if missing is None else {"missing_genes": missing}
        if self.sections is not None:
            options["sections"] = self.sections
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of what was done to them on purpose.
            placed = self.chain.predict(X, **options)
        errors = np.linalg.norm(placed.reshape(len(self.coords), -1) - self.coords, axis=1)
        return self.gain * errors

    def p_values(
        self,
        pipeline: Any,
        X: Any,
        sections: NDArray[Any] | None,
        missing: NDArray[np.bool_] | None,
    ) -> NDArray[np.float64]:
        """How many cells of the reference resemble it less than each cell of a query.

        Parameters
        ----------
        pipeline : SpatialPipeline
            That the query is for; its steps say how a query is z-scored.
        X, sections, missing
            The query.

        Returns
        -------
        ndarray of shape (n_query,)
        """
        X = X.tocsr() if sparse.issparse(X) else np.asarray(X)
        known_depths, known = self._whole if missing is None else self._resembling(missing)
        if self.counts:
            # Of what is deeper than all of them, only a part is looked at.
            most = np.quantile(library_sizes(self.without(missing)), 0.9)
            shares = np.minimum(most / np.maximum(library_sizes(X), 1), 1)
            X = thin(X, shares, np.random.default_rng(_SEED))
        found = self._resemblance(pipeline, X, sections, missing)
        if not self.counts:
            return (1 + (known <= found[:, None]).sum(axis=1)) / (1 + len(known))
        n_alike = min(_N_ALIKE, len(known))
        # Nearest by depth: a window around where the cell would be.
        place = np.searchsorted(known_depths, library_sizes(X))
        first = np.clip(place - n_alike // 2, 0, len(known) - n_alike)
        windows = np.lib.stride_tricks.sliding_window_view(known, n_alike)[first]
        return (1 + (windows <= found[:, None]).sum(axis=1)) / (1 + n_alike)

    @cached_property
    def _whole(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What `_resembling` says of cells that lack no genes."""
        return self._resembling(None)

    def _resembling(
        self, missing: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Library sizes of the cells and of thinned copies, in order, and their resemblance."""
        own = self.without(missing)
        pool = [own]
        if self.counts:
            rng = np.random.default_rng(_SEED)
            pool += [thin(own, np.full(len(self.coords), s), rng) for s in _SHARES[1:]]
        depths = np.concatenate([library_sizes(part) for part in pool])
        known = np.concatenate(
            [self._resemblance(self.chain, part, self.sections, missing) for part in pool]
        )
        order = np.argsort(depths, kind="stable")
        return depths[order], known[order]

    def _resemblance(
        self,
        asked: Any,
        X: Any,
        sections: NDArray[Any] | None,
        missing: NDArray[np.bool_] | None,
    ) -> NDArray[np.float64]:
        """Correlation over genes of a cell's expression with what its components say of it."""
        queries = [getattr(step, "query", None) for step in transformers(asked)]
        profiles, inputs, lacking = _seen(self.chain, X, sections, missing, queries)
        assert self.slopes is not None and self.intercept is not None
        expected = inputs @ self.slopes + self.intercept
        if lacking is not None:
            profiles, expected = profiles[:, ~lacking], expected[:, ~lacking]
        profiles = profiles - profiles.mean(axis=1, keepdims=True)
        expected = expected - expected.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(profiles, axis=1) * np.linalg.norm(expected, axis=1)
        products = np.einsum("ij,ij->i", profiles, expected)
        return np.divide(products, lengths, out=np.full(len(products), -1.0), where=lengths > 0)

    def without(self, missing: NDArray[np.bool_] | None) -> Any:
        """Expression with zeros for genes that a query lacks."""
        if missing is None or not missing.any():
            return self.X
        X = self.X.copy()
        if not sparse.issparse(X):
            X[:, missing] = 0
            return X
        X.data[missing[X.indices]] = 0
        X.eliminate_zeros()
        return X


def _told_by(
    inputs: NDArray[Any], profiles: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slopes and intercept of a regression of expression on what the last step sees.

    Where that is the genes themselves, the regression would repeat any cell. It is then limited to
    the directions in which cells of the reference differ most: a regression of reduced rank.
    """
    ridge = Ridge(alpha=1.0).fit(inputs, profiles)
    slopes = ridge.coef_.reshape(profiles.shape[1], -1).T  # Of one gene, it has one dimension.
    rank = max(1, profiles.shape[1] // _GENES_PER_DIRECTION)
    if rank < inputs.shape[1]:
        told = (inputs - inputs.mean(axis=0)) @ slopes
        directions = np.linalg.svd(told, full_matrices=False)[2][:rank]
        slopes = slopes @ directions.T @ directions
    intercept = profiles.mean(axis=0) - inputs.mean(axis=0) @ slopes
    return slopes.astype(np.float32), intercept.astype(np.float32)


def _seen(
    chain: Any,
    X: Any,
    sections: NDArray[Any] | None,
    missing: NDArray[np.bool_] | None,
    queries: list[Any] | None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]:
    """Expression before it is compared with the reference, and what the last step sees.

    The steps before the first that z-scores by section, or makes new columns, only normalize and
    select. `queries` replaces what each step is told of queries.
    """
    labels = {} if sections is None else {"sections": sections}
    keywords, _ = keywords_of(chain, "predict", labels)
    steps = []
    for number, step in enumerate(transformers(chain)):
        if queries is not None and queries[number] is not None:
            step = with_query(step, queries[number])
        steps.append((step, keywords[number]))
    n_profile = 0
    for step, _ in steps:
        if hasattr(step, "query") or not isinstance(step, SelectorMixin | OneToOneFeatureMixin):
            break
        n_profile += 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The query itself is checked where it is placed.
        profiles, left = transform_with(steps[:n_profile], X, missing)
        inputs, _ = transform_with(steps[n_profile:], profiles, left)
    profiles, inputs = (a.toarray() if sparse.issparse(a) else a for a in (profiles, inputs))
    return np.asarray(profiles), np.asarray(inputs), left


def known_held_out(pipeline: Any) -> HeldOut:
    """The held-out cells of a fitted pipeline.

    Raises
    ------
    ValueError
        If it has none, or nothing is known of their expression.
    """
    held_out: HeldOut | None = getattr(pipeline, "held_out_", None)
    if held_out is None:
        raise ValueError(
            "the pipeline knows no held-out cells of its reference. Fit it with "
            "n_calibration_folds=4, on 20 cells of a section or more."
        )
    if held_out.slopes is None:
        raise ValueError(
            f"the last step sees more than {_MOST_INPUTS} columns, from which expression cannot "
            "be told. Fit with n_spatial_components='auto'."
        )
    return held_out
