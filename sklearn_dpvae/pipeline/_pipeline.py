"""scikit-learn's Pipeline with section labels as an argument.

Imports this folder's steps, and the list of count likelihoods.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter
from sklearn.utils.metaestimators import available_if

from .._network.likelihoods import COUNT_LIKELIHOODS
from .._training.checkpoint import keeping_checkpoints
from .._training.loop import in_a_search
from .._utils.routing import routing_is_on, takes, with_anchors
from .._utils.validation import check_same_order
from .._utils.warn import warn
from ..places import PlaceDistribution
from ._cross_fitting import check_n_folds, cross_fit
from ._expectation import warn_of_doubts
from ._genes import GeneTable, for_steps, query_columns
from ._held_out import known_held_out
from ._steps import (
    GivenMore,
    call_last_step,
    located_rows,
    select_genes,
    transformers,
    with_rows,
)
from ._thinning import check_n_thinned, query_depths, thinned_views


def _plain_pipeline_has(method: str) -> Callable[[Any], bool]:
    def check(pipeline: Any) -> bool:
        getattr(super(SpatialPipeline, pipeline), method)
        return True

    return check


def _final_step_has(method: str) -> Callable[[Any], bool]:
    def check(pipeline: Any) -> bool:
        getattr(pipeline._final_estimator, method)
        return True

    return check


class SpatialPipeline(Pipeline):
    """Pipeline that hands section labels to every step that takes them.

    scikit-learn's Pipeline makes the caller name the steps (``scale__sections=...``), and can
    give labels to a step's `transform` only with metadata routing. Here ``sections=`` is an
    argument of `fit`, `predict`, `score` and so on, and ``batch=`` and ``counts=`` are arguments
    of `fit`. They reach every step that takes them, also inside GridSearchCV and
    cross_validate. With metadata routing on, they are routed as in any Pipeline: by what the
    steps request.

    If the last step has a likelihood of counts, it is fitted on the counts of the selected genes
    beside what the other steps make of them.

    Parameters
    ----------
    steps : list of tuples
        (name, estimator) pairs in order.
    transform_input : list of str, default=None
        Names of metadata that the steps transform before a later step gets them; needs metadata
        routing. See `sklearn.pipeline.Pipeline`.
    memory : str or object with the joblib.Memory interface, default=None
        Where fitted transformers are cached.
    verbose : bool, default=False
        Whether the time of each step is printed.
    n_thinned : int, default=0
        Shallower measurements of each cell of the reference that the last step is trained on
        beside the one there is, of which each batch draws one. They are made of whole numbers
        only, by keeping each count with a probability: between 0.3 and 1, or such that depths
        are those of `query_counts`. The last step must take `views`.
    n_calibration_folds : int, default=None
        Parts of the reference by which `fit` calibrates the radii and standard deviations: all
        steps are fitted anew without each part in turn, with one small network, and place the
        cells of that part. None leaves them to the last step alone; they are too small then
        where the steps before it look at positions. The last step must be a
        `DPVAESpatialRegressor`.

    See Also
    --------
    make_spatial_pipeline : The recommended steps.

    Notes
    -----
    Requests are set on the steps: ``pipe["dpvae"].set_predict_request(sections="slide")`` makes
    ``pipe.predict(X, slide=labels)`` work, and ``sections=False`` keeps the labels from a step.
    `calibrate`, `predict_places`, `predict_radius` and `sample_latents` follow the requests for
    `predict`.
    `missing_genes` belongs to the columns of `X`, which the steps change, and is therefore never
    routed by name: each step that takes it gets the part that belongs to its own genes.

    Examples
    --------
    >>> from sklearn_dpvae import DPVAESpatialRegressor
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.pipeline import SpatialPipeline
    >>> from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler
    >>> tissue = make_tissue(200, 50, n_sections=2, random_state=0)
    >>> pipe = SpatialPipeline([
    ...     ("normalize", LogNormalizer()),
    ...     ("scale", SectionScaler()),
    ...     ("dpvae", DPVAESpatialRegressor(max_epochs=2, random_state=0)),
    ... ])
    >>> pipe = pipe.fit(tissue.X, tissue.coords, sections=tissue.sections)
    >>> pipe.predict(tissue.X, sections=tissue.sections).shape
    (200, 2)
    """

    steps: list[tuple[str, Any]]

    def __init__(
        self,
        steps: list[tuple[str, Any]],
        *,
        transform_input: list[str] | None = None,
        memory: Any = None,
        verbose: bool = False,
        n_thinned: int = 0,
        n_calibration_folds: int | None = None,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.n_thinned = n_thinned
        self.n_calibration_folds = n_calibration_folds

    # The steps make the requests; the pipeline only passes metadata on.
    __metadata_request__fit: ClassVar = dict.fromkeys(
        ("sections", "batch", "counts", "genes", "query_genes", "query_counts"), UNUSED
    )
    __metadata_request__partial_fit: ClassVar = __metadata_request__fit
    __metadata_request__predict: ClassVar = dict.fromkeys(
        ("sections", "genes", "missing_genes"), UNUSED
    )
    __metadata_request__transform: ClassVar = __metadata_request__predict
    __metadata_request__score: ClassVar = __metadata_request__predict

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sections: ArrayLike | None = None,
        batch: ArrayLike | None = None,
        counts: Any = None,
        genes: ArrayLike | None = None,
        query_genes: ArrayLike | None = None,
        query_counts: Any = None,
        **params: Any,
    ) -> "SpatialPipeline":
        """Fit all steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_genes)
            What the first step takes: counts, in the recommended chain.
        y : array-like of shape (n_cells, n_dims)
            Positions, in tissue units.
        sections : array-like of shape (n_cells,), default=None
            Section of each row; None means one section.
        batch : array-like of shape (n_cells,), default=None
            Batch of each row, for steps that are conditioned on it.
        counts : {array-like, sparse matrix} of shape (n_cells, n_counted_genes), default=None
            What a likelihood of counts explains. None takes `X`, restricted to the genes that
            the steps select.
        genes : array-like of shape (n_genes,), default=None
            Names of the columns of `X`; None takes those of a DataFrame. `predict` can then match
            columns by name.
        query_genes : array-like of shape (n_query_genes,), default=None
            Names of the genes that queries will have. All steps are fitted on the genes that are
            in both: a panel of a few hundred genes is then used whole, and depths are those of
            the panel. None fits them on all columns.
        query_counts : {array-like, sparse matrix} of shape (n_query, n_query_genes), default=None
            Counts of a query, with columns of the names in `query_genes`, or the sum of the
            counts of each of its cells. The thinned copies of the reference then have its depths,
            and so have the cells that radii are calibrated on. It teaches nothing else.
        **params : dict
            Other parameters of steps, as `sklearn.pipeline.Pipeline.fit` takes them.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `query_genes` has none of the genes, `query_counts` no counts, or a step refuses
            what it is given.
        """
        labels = {"sections": sections, "batch": batch, "counts": counts}
        of_query = {"genes": genes, "query_genes": query_genes, "query_counts": query_counts}
        self._fit_by(super().fit, X, y, labels, params, **of_query)
        return self

    @available_if(_plain_pipeline_has("fit_transform"))
    def fit_transform(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sections: ArrayLike | None = None,
        batch: ArrayLike | None = None,
        counts: Any = None,
        genes: ArrayLike | None = None,
        query_genes: ArrayLike | None = None,
        query_counts: Any = None,
        **params: Any,
    ) -> Any:
        """Fit all steps and return what the last one makes of `X`.

        Parameters
        ----------
        X, y, sections, batch, counts, genes, query_genes, query_counts, **params
            See `fit`.

        Returns
        -------
        ndarray of shape (n_cells, n_components)
        """
        labels = {"sections": sections, "batch": batch, "counts": counts}
        of_query = {"genes": genes, "query_genes": query_genes, "query_counts": query_counts}
        return self._fit_by(super().fit_transform, X, y, labels, params, **of_query)

    @available_if(_final_step_has("partial_fit"))
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        batch: ArrayLike | None = None,
        counts: Any = None,
        genes: ArrayLike | None = None,
        **params: Any,
    ) -> "SpatialPipeline":
        """Fine-tune the last step on located cells of another section.

        The other steps stay as fitted, so the genes remain the same.

        Parameters
        ----------
        X, sections, batch, counts
            See `fit`.
        y : array-like of shape (n_cells, n_dims)
            Positions, with NaN in the rows of cells that are not located. The last step is not
            trained on these cells. But unless sections are z-scored by the statistics of the
            reference (``query="same_section"``), they count among the cells of their section.
        genes
            See `predict`.
        **params : dict
            Other parameters of the last step's `partial_fit`, one value per cell.

        Returns
        -------
        self
        """
        check_same_order(X, y)
        X, missing = for_steps(self, with_rows(X), genes, None)
        params = _without_none(params, sections=sections, batch=batch, counts=counts)
        defaults = {}
        if self._explains_counts() and counts is None:
            defaults["counts"] = select_genes(transformers(self), X)
        return call_last_step(
            self,
            "partial_fit",
            X,
            y,
            missing=missing,
            rows=located_rows(y),
            defaults=defaults,
            params=params,
        )

    @available_if(_plain_pipeline_has("predict"))
    def predict(
        self,
        X: Any,
        *,
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
        **params: Any,
    ) -> Any:
        """Predict positions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_genes)
        sections : array-like of shape (n_cells,), default=None
            Section of each row.
        genes : array-like of shape (n_genes,), default=None
            Names of the columns of `X`, in any order, where the pipeline was fitted with names.
            Genes of the reference that are not among them are missing genes.
        missing_genes : array-like of shape (n_genes,), dtype bool, default=None
            Genes that the query was not measured for, whose columns in `X` are 0. They are
            treated as if they had the mean of the reference. Without this argument, zeros say
            that these genes are not expressed, and that cells have fewer counts than they have.
        **params : dict
            Passed to the last step's `predict`: ``return_std``, ``anchors``, ``adapt``. With
            anchors it also gets `covariates`, the principal components of the query's own
            logarithms, if the first step is a `LogNormalizer`.

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
            Or what the last step's `predict` returns otherwise.

        Warns
        -----
        UserWarning
            If genes with more than a third of the weight are missing, or `check_query` would not
            trust positions: most cells do not resemble the reference, or cells of the reference
            that are as shallow and lack the same genes are hardly placed better than by a guess.
            That is told by 20 cells or more, and where `n_calibration_folds` is given.
        """
        X, missing = for_steps(self, with_rows(X), genes, missing_genes)
        params = _without_none(params, sections=sections)
        placed = call_last_step(self, "predict", X, missing=missing, params=params)
        warn_of_doubts(self, X, sections, missing)
        return placed

    @available_if(_final_step_has("calibrate"))
    def calibrate(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        **params: Any,
    ) -> "SpatialPipeline":
        """Calibrate the last step's uncertainty on located cells that were not in the fit.

        Parameters
        ----------
        X, y, sections
            See `partial_fit`.
        genes
            See `predict`.
        **params : dict
            Metadata that steps request for `predict` under other names.

        Returns
        -------
        self
        """
        X, missing = for_steps(self, X, genes, None)
        params = _without_none(params, sections=sections)
        return call_last_step(
            self, "calibrate", X, y, missing=missing, rows=located_rows(y), params=params
        )

    @available_if(_final_step_has("predict_radius"))
    def predict_radius(
        self,
        X: Any,
        *,
        level: float = 0.95,
        anchors: ArrayLike | None = None,
        adapt: Literal["auto"] | bool = "auto",
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
        **params: Any,
    ) -> NDArray[np.float64]:
        """Distance from the predicted position that holds the true one with a probability.

        Parameters
        ----------
        X, sections, genes, missing_genes
            See `predict`.
        level : float, default=0.95
            The probability.
        anchors, adapt
            What `predict` was given, if it was given anchors.
        **params : dict
            Metadata that steps request for `predict` under other names.

        Returns
        -------
        ndarray of shape (n_cells,)
            Radii in tissue units; 0 for anchors.

        Warns
        -----
        UserWarning
            If a step before the last looks at positions, and neither `n_calibration_folds` nor
            `calibrate` has told how well such a chain places new cells.
        """
        known = getattr(self._final_estimator, "error_model_", None)
        looks = any(get_tags(step).target_tags.required for step in transformers(self))
        if looks and known is not None and not known.knows_new_cells:
            warn(
                "steps before the last were chosen with the positions of all cells of the "
                "reference, so that radii are too small. Fit with n_calibration_folds=4 on five "
                "cells or more for each fold, or call calibrate with located cells."
            )
        X, missing = for_steps(self, X, genes, missing_genes)
        told = with_anchors(anchors, adapt)
        return call_last_step(
            self,
            "predict_radius",
            X,
            missing=missing,
            defaults={"level": level} | told,
            params=_without_none(params, sections=sections),
        )

    @available_if(_final_step_has("predict_places"))
    def predict_places(
        self,
        X: Any,
        *,
        locations: ArrayLike | None = None,
        anchors: Any = None,
        adapt: Literal["auto"] | bool = "auto",
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
        tolerance: float = 0.001,
        **params: Any,
    ) -> PlaceDistribution:
        """Where each cell may be: a probability for every place.

        Parameters
        ----------
        X, sections, genes, missing_genes
            See `predict`.
        locations, anchors, adapt, tolerance
            See `DPVAESpatialRegressor.predict_places`.
        **params : dict
            Metadata that steps request for `predict` under other names.

        Returns
        -------
        PlaceDistribution
        """
        X, missing = for_steps(self, X, genes, missing_genes)
        told = with_anchors(anchors, adapt)
        return call_last_step(
            self,
            "predict_places",
            X,
            missing=missing,
            defaults={"locations": locations, "tolerance": tolerance} | told,
            params=_without_none(params, sections=sections),
        )

    @available_if(_final_step_has("predict_radius"))
    def predict_membership(
        self,
        X: Any,
        *,
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Conformal p-value of each cell: does it resemble cells of the reference at all?

        A cell's expression is compared with what its components say of it in the reference: the
        correlation over the selected genes. The p-value is the rank of that among held-out cells
        of the reference, thinned to about the same depth. A cell of the reference's tissue has a
        p-value below any level with at most about that probability; one of another tissue, or a
        broken one, has a small p-value. Positions are given for all cells, these too.

        Parameters
        ----------
        X, sections, genes, missing_genes
            See `predict`.

        Returns
        -------
        ndarray of shape (n_cells,)
            Between 0 and 1. Multiply by their number, or use a false discovery rate, to choose
            among many cells.

        Raises
        ------
        ValueError
            If the pipeline was fitted with ``n_calibration_folds=None`` or on too few cells, so
            that it knows no held-out cells, or its last step sees more than 64 columns.

        Notes
        -----
        Cells that are kept out of one fold of the calibration serve for comparison, at most 200.
        No p-value is below 1/151. They do not know other technologies: shifts of single genes
        that are as large as between chemistries make cells unlike the reference, too.

        Examples
        --------
        >>> from sklearn_dpvae import make_spatial_pipeline
        >>> from sklearn_dpvae.datasets import make_tissue
        >>> tissue = make_tissue(400, 60, random_state=0)
        >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
        >>> pipe = pipe.fit(tissue.X[:300], tissue.coords[:300])
        >>> p = pipe.predict_membership(tissue.X[300:])
        >>> wrong = pipe.predict_membership(tissue.X[300:, ::-1])  # genes in the wrong order
        >>> bool((p < 0.05).mean() < 0.2), bool((wrong < 0.05).mean() > 0.8)
        (True, True)
        """
        X, missing = for_steps(self, with_rows(X), genes, missing_genes)
        labels = None if sections is None else np.asarray(sections)
        return known_held_out(self).p_values(self, X, labels, missing)

    @available_if(_plain_pipeline_has("transform"))
    def transform(
        self,
        X: Any,
        *,
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
        **params: Any,
    ) -> Any:
        """Latent means of cells.

        Parameters
        ----------
        X, sections, genes, missing_genes
            See `predict`.
        **params : dict
            Metadata that steps request for `transform` under other names.

        Returns
        -------
        ndarray of shape (n_cells, n_components)
        """
        X, missing = for_steps(self, X, genes, missing_genes)
        params = _without_none(params, sections=sections)
        if routing_is_on() and missing is None:
            return super().transform(X, **params)
        return call_last_step(self, "transform", X, missing=missing, params=params)

    @available_if(_final_step_has("sample_latents"))
    def sample_latents(
        self,
        X: Any,
        n_samples: int = 1,
        *,
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        **params: Any,
    ) -> Any:
        """Samples of the posterior of the latents, of which `transform` is the mean.

        See `DPVAESpatialRegressor.sample_latents`.

        Parameters
        ----------
        X, sections, genes, missing_genes
            See `predict`.
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None
        **params : dict
            Metadata that steps request for `predict` under other names.

        Returns
        -------
        ndarray of shape (n_samples, n_cells, n_components)
        """
        X, missing = for_steps(self, X, genes, missing_genes)
        return call_last_step(
            self,
            "sample_latents",
            X,
            missing=missing,
            defaults={"n_samples": n_samples, "random_state": random_state},
            params=_without_none(params, sections=sections),
        )

    @available_if(_plain_pipeline_has("score"))
    def score(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        sections: ArrayLike | None = None,
        genes: ArrayLike | None = None,
        missing_genes: ArrayLike | None = None,
        **params: Any,
    ) -> float:
        """Score of the last step, for DPVAESpatialRegressor 1 - Procrustes disparity.

        Parameters
        ----------
        X, y, sections
            See `fit`.
        sample_weight : array-like of shape (n_cells,), default=None
            Weight of each row in the score.
        genes, missing_genes
            See `predict`.
        **params : dict
            Metadata that steps request for `score` under other names.

        Returns
        -------
        float
        """
        X, missing = for_steps(self, X, genes, missing_genes)
        params = _without_none(params, sections=sections)
        if routing_is_on() and missing is None:
            return super().score(X, y, sample_weight=sample_weight, **params)
        params = _without_none(params, sample_weight=sample_weight)
        return call_last_step(self, "score", X, y, missing=missing, params=params)

    def get_metadata_routing(self) -> MetadataRouter:
        """Say what the steps request, for `partial_fit` as for the methods of any Pipeline.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        router = super().get_metadata_routing()
        for name, route in router:
            last = name == self.steps[-1][0]
            route.mapping.add(caller="partial_fit", callee="partial_fit" if last else "transform")
        return router

    def _fit_by(
        self,
        fit: Callable[..., Any],
        X: Any,
        y: ArrayLike | None,
        labels: dict[str, Any],
        params: dict[str, Any],
        *,
        genes: ArrayLike | None,
        query_genes: ArrayLike | None,
        query_counts: Any,
    ) -> Any:
        """Fit by a method of Pipeline, on what it does not know of: names, depths and views."""
        check_same_order(X, y)
        X = with_rows(X)
        table = GeneTable.of(X, genes, query_genes)
        X = X if table is None else table.restrict(X)
        depths = query_depths(query_counts, query_columns(table, query_genes))
        given = _without_none(params, **labels)
        params = self._for_fit(params, **labels)
        with (
            self._calibrated_afterward(X, y, given, depths),
            self._more_for_last_step(X, given, depths),
        ):
            fitted = fit(X, y, **params)
        self.gene_table_ = table
        return fitted

    @contextmanager
    def _calibrated_afterward(
        self, X: Any, y: Any, given: dict[str, Any], depths: NDArray[np.float64] | None
    ) -> Iterator[None]:
        """Calibrate what is fitted in a block, on parts of the reference that are left out."""
        n_folds = self.n_calibration_folds
        if n_folds is None:
            yield
            if hasattr(self, "held_out_"):  # Of a fit before.
                del self.held_out_
            return
        final = self._final_estimator
        check_n_folds(n_folds, final)
        with keeping_checkpoints():
            yield
            try:
                cross_fit(self, X, y, given, n_folds, depths)
            except KeyboardInterrupt:
                if final.on_interrupt != "keep" or in_a_search():
                    raise
                warn(
                    "the calibration by folds was interrupted; the model is kept "
                    "(on_interrupt='keep'), with radii and standard deviations that are too small "
                    "where steps look at positions. Call calibrate on located cells.",
                    RuntimeWarning,
                )

    def _explains_counts(self) -> bool:
        """Whether the last step needs counts beside what the others make of them."""
        likelihood = getattr(self._final_estimator, "likelihood", None)
        return len(self.steps) > 1 and likelihood in COUNT_LIKELIHOODS

    def _for_fit(self, params: dict[str, Any], **labels: Any) -> dict[str, Any]:
        """Parameters of `Pipeline.fit`: a label once under routing, else once per step."""
        if routing_is_on():
            return _without_none(params, **labels)
        return {
            f"{name}__{label}": values
            for label, values in labels.items()
            for _, name, step in self._iter()
            if values is not None and takes(step, "fit", label)
        } | params

    @contextmanager
    def _more_for_last_step(
        self, X: Any, given: dict[str, Any], depths: NDArray[np.float64] | None
    ) -> Iterator[None]:
        """Give the last step counts of the selected genes and thinned views, while a fit lasts."""
        name, final = self.steps[-1]
        makers: dict[str, Callable[[], Any]] = {}
        # Counts that the steps are to transform are what the last step gets as its X.
        if self._explains_counts() and "counts" not in (self.transform_input or ()):
            makers["counts"] = lambda: select_genes(transformers(self), X)
        check_n_thinned(self.n_thinned, final if len(self.steps) > 1 else None)
        if self.n_thinned and len(self.steps) > 1:
            makers["views"] = lambda: thinned_views(self, X, given, self.n_thinned, depths)
        if not makers:
            yield
            return
        self.steps = [*self.steps[:-1], (name, GivenMore(final, **makers))]
        try:
            yield
        finally:
            self.steps = [*self.steps[:-1], (name, final)]


def _without_none(params: dict[str, Any], **labels: Any) -> dict[str, Any]:
    return {label: values for label, values in labels.items() if values is not None} | params
