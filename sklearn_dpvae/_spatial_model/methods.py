"""What a model does beside placing cells: radii, scores, and learning more.

Imports nothing of this folder: `SpatialModel` is made of it.
"""

import copy
import warnings
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import __version__
from .._utils.matrix import in_memory
from .._utils.routing import given, with_anchors
from .._utils.searches import best_of
from ..datasets._genes import MIN_SHARE
from ..places import PlaceDistribution


class FurtherMethods:
    """Methods of `SpatialModel` that hand aligned genes to the pipeline's method of that name."""

    pipeline: Any
    genes: NDArray[np.str_]

    def align(
        self,
        X: Any,
        genes: ArrayLike,
        *,
        gene_ids: ArrayLike | None = None,
        min_share: float = MIN_SHARE,
    ) -> tuple[Any, NDArray[np.bool_]]:
        """Bring the columns of a query into the order of the model's genes."""
        raise NotImplementedError

    def predict_radius(
        self,
        X: Any,
        *,
        level: float = 0.95,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        gene_ids: ArrayLike | None = None,
        anchors: Any = None,
        adapt: Literal["auto"] | bool = "auto",
        min_share: float = MIN_SHARE,
    ) -> NDArray[np.float64]:
        """Distance from the predicted position that holds the true one with a probability.

        Parameters
        ----------
        X, genes, sections, gene_ids, anchors, adapt, min_share
            See `answers`.
        level : float, default=0.95
            The probability.

        Returns
        -------
        ndarray of shape (n_cells,)
            Radii, in the unit of the reference; 0 for anchors.
        """
        told = with_anchors(anchors, adapt)
        return self._call(
            "predict_radius", X, genes, gene_ids, min_share, sections, level=level, **told
        )

    def predict_places(
        self,
        X: Any,
        *,
        genes: ArrayLike | None = None,
        locations: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        gene_ids: ArrayLike | None = None,
        anchors: Any = None,
        adapt: Literal["auto"] | bool = "auto",
        min_share: float = MIN_SHARE,
        tolerance: float = 0.001,
    ) -> PlaceDistribution:
        """Where each cell may be: a probability for every place.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_query_genes)
            Expression of the query, in memory.
        genes, sections, gene_ids, anchors, adapt, min_share
            See `answers`.
        locations, tolerance
            See `DPVAESpatialRegressor.predict_places`.

        Returns
        -------
        PlaceDistribution
        """
        told = with_anchors(anchors, adapt)
        places: PlaceDistribution = self._call(
            "predict_places",
            X,
            genes,
            gene_ids,
            min_share,
            sections,
            locations=locations,
            tolerance=tolerance,
            **told,
        )
        return places

    def score(
        self,
        X: Any,
        y: ArrayLike,
        *,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        gene_ids: ArrayLike | None = None,
        min_share: float = MIN_SHARE,
    ) -> float:
        """Score of predicted positions, 1 - Procrustes disparity as a rule.

        Parameters
        ----------
        X, genes, sections, gene_ids, min_share
            See `answers`.
        y : array-like of shape (n_cells, n_dims)
            Measured positions.

        Returns
        -------
        float
        """
        return self._call("score", X, genes, gene_ids, min_share, sections, y=y)

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        gene_ids: ArrayLike | None = None,
        min_share: float = MIN_SHARE,
    ) -> Self:
        """Fine-tune on located cells of another section.

        Parameters
        ----------
        X, genes, sections, gene_ids, min_share
            See `answers`.
        y : array-like of shape (n_cells, n_dims)
            Positions, with NaN in the rows of cells that are not located.

        Returns
        -------
        SpatialModel
            A new one; this one stays as it is.
        """
        return self._changed("partial_fit", X, y, genes, gene_ids, min_share, sections)

    def calibrate(
        self,
        X: Any,
        y: ArrayLike,
        *,
        genes: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        gene_ids: ArrayLike | None = None,
        min_share: float = MIN_SHARE,
    ) -> Self:
        """Calibrate standard deviations and radii on located cells that were not in the fit.

        Parameters
        ----------
        X, y, genes, sections, gene_ids, min_share
            See `partial_fit`.

        Returns
        -------
        SpatialModel
            A new one; this one stays as it is.
        """
        return self._changed("calibrate", X, y, genes, gene_ids, min_share, sections)

    def _changed(self, method: str, X: Any, y: ArrayLike, *names: Any) -> Self:
        """A copy of the model whose pipeline has learned more."""
        pipeline = copy.deepcopy(self.pipeline)
        changed: Self = replace(self, pipeline=pipeline, version=__version__)  # type: ignore[type-var]
        changed._call(method, X, *names, y=y)
        return changed

    def _call(
        self,
        method: str,
        X: Any,
        genes: ArrayLike | None,
        gene_ids: ArrayLike | None,
        min_share: float,
        sections: ArrayLike | None,
        **arguments: Any,
    ) -> Any:
        """Call a method of the pipeline with its genes, and say which of them are missing."""
        pipeline = best_of(self.pipeline)
        names: Any = getattr(X, "columns", self.genes) if genes is None else genes
        aligned, missing = self.align(in_memory(X), names, gene_ids=gene_ids, min_share=min_share)
        call = getattr(pipeline, method)
        options = {"missing_genes": missing} if missing.any() else {}
        if sections is not None:
            options["sections"] = np.asarray(sections)
        with warnings.catch_warnings():
            # `align` has said which genes are missing.
            warnings.filterwarnings("ignore", message=r".* genes.* are missing in the query")
            return call(aligned, **arguments, **given(pipeline, method, **options))
