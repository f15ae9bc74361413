"""The recommended chain from counts to positions, as one estimator.

Stands on the regressor and the preprocessing steps.
"""

import inspect

import numpy as np
from sklearn import get_config
from sklearn.feature_selection import SelectorMixin
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.metaestimators import available_if

from ._network.likelihoods import COUNT_LIKELIHOODS
from ._regressor import DPVAESpatialRegressor
from ._utils.validation import check_missing_genes, known_rows
from .decomposition import SpatialPCA
from .feature_selection import SpatiallyVariableGenes
from .preprocessing import LogNormalizer, SectionScaler

# The settings of the paper's experiments, as parameters of DPVAESpatialRegressor.
PAPER_SETTINGS = {
    "distance_weight": 1.0,
    "alignment_weight": 0.0,
    "kl_weight": 1.0,
    "elbo_weight": 1.0,
    "distance_loss": "absolute",
    "hidden_layer_sizes": (128,),
    "n_estimators": 1,
    "max_samples": 1.0,
    "activation": "relu",
    "layer_norm": False,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "input_noise": 0.0,
    "weight_decay": 0.0,
    "batch_size": None,
    "lr": 1e-3,
    "lr_schedule": "constant",
    "max_epochs": 1000,
}

# A third of the standard deviation of the noise in what `SpatialPCA` returns.
_INPUT_NOISE = 0.08


def _final_step_has(method):
    def check(pipeline):
        getattr(pipeline._final_estimator, method)
        return True

    return check


class SpatialPipeline(Pipeline):
    """Pipeline that hands section labels to every step that takes them.

    A plain Pipeline makes the caller name the steps (``scale__sections=...``) or switch on
    metadata routing, and has no way to give the labels to a step's ``transform`` without it.
    Here ``sections=`` is an argument of `fit`, `predict`, `score` ... and works with metadata
    routing off and on, also inside GridSearchCV and cross_validate, and so is ``batch=`` of
    `fit`. Where the last step has a likelihood of counts, it is given the counts of the selected
    genes beside what the steps before it make of them. In all else it is scikit-learn's Pipeline.

    Parameters
    ----------
    steps : list of tuples
        (name, estimator) pairs in order.
    transform_input : list of str, default=None
        See `sklearn.pipeline.Pipeline`.
    memory : str or object with the joblib.Memory interface, default=None
        Where fitted transformers are cached.
    verbose : bool, default=False
        Whether the time of each step is printed.

    See Also
    --------
    make_spatial_pipeline : The recommended steps.

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

    def fit(self, X, y=None, *, sections=None, batch=None, counts=None, **params):
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
        **params : dict
            Other parameters of steps, as `sklearn.pipeline.Pipeline.fit` takes them.

        Returns
        -------
        self
        """
        labels = {"sections": sections, "batch": batch, "counts": counts}
        if counts is None and self._explains_counts():
            self._fit_with_counts(X, y, labels, params)
            return self
        return super().fit(X, y, **self._for_steps("fit", labels), **params)

    def fit_transform(self, X, y=None, *, sections=None, batch=None, counts=None, **params):
        """Fit all steps and return what the last one makes of `X`.

        Parameters
        ----------
        X, y, sections, batch, counts, **params
            See `fit`.

        Returns
        -------
        ndarray of shape (n_cells, n_components)
        """
        labels = {"sections": sections, "batch": batch, "counts": counts}
        if counts is None and self._explains_counts():
            Xt = self._fit_with_counts(X, y, labels, params)
            return self._final_estimator.transform(Xt)
        return super().fit_transform(X, y, **self._for_steps("fit", labels), **params)

    @available_if(_final_step_has("partial_fit"))
    def partial_fit(self, X, y, *, sections=None, batch=None, counts=None):
        """Fine-tune the last step on located cells of another section.

        The other steps stay as fitted, so the genes remain the same.

        Parameters
        ----------
        X, sections, batch, counts
            See `fit`.
        y : array-like of shape (n_cells, n_dims)
            Positions, with NaN in the rows of cells that are not located. These are not trained
            on, but where sections are z-scored by themselves (``query="new_section"``), they
            belong to theirs.

        Returns
        -------
        self
        """
        located = located_rows(y)
        if counts is None and self._explains_counts():
            counts = self._of_selected_genes(X)
        given = {"batch": batch, "counts": counts}
        given = {
            k: v if located is None else _safe_indexing(v, located)
            for k, v in given.items()
            if v is not None
        }
        return self._finish("partial_fit", X, y, sections=sections, rows=located, **given)

    @available_if(_final_step_has("predict"))
    def predict(self, X, *, sections=None, missing_genes=None, **params):
        """Predict positions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_genes)
        sections : array-like of shape (n_cells,), default=None
            Section of each row.
        missing_genes : array-like of shape (n_genes,), dtype bool, default=None
            Genes that the query was not measured for, whose columns in `X` are 0. They count as
            having the mean of the reference; as they stand, they would say that these genes are
            not expressed, and that cells have fewer counts than they have.
        **params : dict
            Passed to the last step's `predict`: ``return_std``, ``anchors``.

        Returns
        -------
        ndarray of shape (n_cells, n_dims)
            Or what the last step's `predict` returns otherwise.
        """
        return self._finish("predict", X, sections=sections, missing=missing_genes, **params)

    @available_if(_final_step_has("calibrate"))
    def calibrate(self, X, y, *, sections=None):
        """Calibrate the last step's uncertainty on located cells that were not in the fit.

        Parameters
        ----------
        X, y, sections
            See `partial_fit`.

        Returns
        -------
        self
        """
        return self._finish("calibrate", X, y, sections=sections, rows=located_rows(y))

    @available_if(_final_step_has("predict_radius"))
    def predict_radius(self, X, *, level=0.95, sections=None, missing_genes=None):
        """Distance from the predicted position that holds the true one with a probability.

        Parameters
        ----------
        X, sections, missing_genes
            See `predict`.
        level : float, default=0.95
            The probability.

        Returns
        -------
        ndarray of shape (n_cells,)
            Radii in tissue units.
        """
        return self._finish(
            "predict_radius", X, sections=sections, missing=missing_genes, level=level
        )

    @available_if(_final_step_has("transform"))
    def transform(self, X, *, sections=None, missing_genes=None):
        """Latent means of cells.

        Parameters
        ----------
        X, sections, missing_genes
            See `predict`.

        Returns
        -------
        ndarray of shape (n_cells, n_components)
        """
        return self._finish("transform", X, sections=sections, missing=missing_genes)

    @available_if(_final_step_has("score"))
    def score(self, X, y=None, *, sections=None, missing_genes=None):
        """Score of the last step, for DPVAESpatialRegressor 1 - Procrustes disparity.

        Parameters
        ----------
        X, y, sections
            See `fit`.
        missing_genes : array-like of shape (n_genes,), dtype bool, default=None
            See `predict`.

        Returns
        -------
        float
        """
        return self._finish("score", X, y, sections=sections, missing=missing_genes)

    def _for_steps(self, method, labels):
        """Labels as parameters of `Pipeline.fit`: once under routing, else one a step."""
        routed = {}
        for label, values in labels.items():
            takers = [name for _, name, step in self._iter() if _takes(step, method, label)]
            if values is None or not takers:
                continue
            if get_config()["enable_metadata_routing"]:
                routed[label] = values
            else:
                routed |= {f"{name}__{label}": values for name in takers}
        return routed

    def _explains_counts(self):
        """Whether the last step needs counts beside what the others make of them."""
        likelihood = getattr(self._final_estimator, "likelihood", None)
        return len(self.steps) > 1 and likelihood in COUNT_LIKELIHOODS

    def _fit_with_counts(self, X, y, labels, params):
        """Fit the last step after the others: only they tell which genes' counts to give it."""
        name, final = self.steps[-1]
        own = {k: v for k, v in params.items() if k.startswith(f"{name}__")}
        others = {k: v for k, v in params.items() if k not in own}
        head = type(self)(
            [*self.steps[:-1], (name, "passthrough")], memory=self.memory, verbose=self.verbose
        )
        Xt = head.fit_transform(X, y, sections=labels["sections"], **others)
        self.steps = [*head.steps[:-1], (name, final)]
        given = {k.removeprefix(f"{name}__"): v for k, v in own.items()}
        for label in ("sections", "batch"):
            given |= _given(final, "fit", label, labels[label])
        final.fit(Xt, y, **{"counts": self._of_selected_genes(X)} | given)
        return Xt

    def _of_selected_genes(self, X):
        """The columns of X that the fitted steps keep, up to the first that makes new ones."""
        columns = np.arange(np.shape(X)[1])
        for _, _, step in self._iter(with_final=False):
            if getattr(step, "n_features_in_", len(columns)) != len(columns):
                break
            if isinstance(step, SelectorMixin):
                columns = columns[step.get_support(indices=True)]
        return _safe_indexing(X, columns, axis=1)

    def _finish(self, method, X, *args, sections=None, missing=None, rows=None, **params):
        """Transform by all but the last step, then call a method of that, on some rows or all."""
        steps = [step for _, _, step in self._iter(with_final=False)]
        if missing is not None:
            missing = check_missing_genes(missing, np.shape(X)[1])
        X, _ = transform_by(steps, X, sections, missing)
        if rows is not None:
            check_consistent_length(X, *args)
            X, *args = (_safe_indexing(values, rows) for values in (X, *args))
            sections = None if sections is None else _safe_indexing(sections, rows)
        final = self._final_estimator
        params |= sections_for(final, method, sections)
        result = getattr(final, method)(X, *args, **params)
        return self if result is final else result


def transform_by(steps, X, sections=None, missing=None):
    """What fitted steps make of X, one after the other.

    Parameters
    ----------
    steps : list of transformers
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
    sections : array-like of shape (n_cells,), optional
        For the steps that take it.
    missing : ndarray of shape (n_genes,), dtype bool, optional
        Genes that were not measured, for the steps that take them.

    Returns
    -------
    X : {ndarray, sparse matrix}
    missing : ndarray or None
        Those that the steps have kept.
    """
    for step in steps:
        given = sections_for(step, "transform", sections)
        X = step.transform(X, **given, **_given(step, "transform", "missing_genes", missing))
        if missing is not None and isinstance(step, SelectorMixin):
            missing = missing[step.get_support()]
    return X, missing


def located_rows(y):
    """Rows of positions that are not NaN; None if that are all, or y is none of numbers."""
    try:
        coords = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        return None  # The last step says what is wrong.
    if not np.isnan(coords).any():
        return None
    located = known_rows(coords.reshape(len(coords), -1), name="y")
    if not len(located):
        raise ValueError("y has no located cell: all positions are NaN.")
    return located


def _takes(step, method, label):
    method = getattr(step, method, None)
    return method is not None and label in inspect.signature(method).parameters


def _given(step, method, label, values):
    return {label: values} if values is not None and _takes(step, method, label) else {}


def sections_for(step, method, sections):
    """The labels as a keyword, for a method that takes them."""
    return _given(step, method, "sections", sections)


def make_spatial_pipeline(
    *,
    query="same_section",
    n_top_genes=2000,
    n_spatial_components=20,
    memory=None,
    verbose=0,
    random_state=None,
    **regressor_params,
):
    """Make the recommended chain: counts in, positions out.

    Library-size normalization and logarithm, the genes with the most spatial autocorrelation on
    the reference among those that a hundredth of its cells express, z-scores by section, clipped
    at 3, components of spatially smoothed expression, then `DPVAESpatialRegressor`.

    Parameters
    ----------
    query : {"same_section", "new_section"}, default="same_section"
        By which statistics cells without positions are z-scored: those of the reference, or
        their own. Choose "new_section" when the query is another section than the reference:
        it removes the shift between the two, but needs the query's cells in one call of
        `predict`, whose answers then depend on each other.
    n_top_genes : int, default=2000
        Number of genes to keep.
    n_spatial_components : int or None, default=20
        Number of components that genes are projected on, by `SpatialPCA`. None gives the genes
        themselves to the net, as in the paper.
    memory : str or object with the joblib.Memory interface, default=None
        Where the fitted preprocessing is cached, which saves time in a grid search over
        parameters of the regressor.
    verbose : int, default=0
        1 shows a progress bar of the training, 2 a line an epoch.
    random_state : int, RandomState instance or None, default=None
        Seed of the components and of the training.
    **regressor_params : dict
        Parameters of `DPVAESpatialRegressor`. Where `input_noise` is not among them, it is 0.08,
        a third of the noise that components have.

    Returns
    -------
    SpatialPipeline
        With the steps "normalize", "genes", "scale", "components" and "dpvae", so that a grid
        search addresses ``dpvae__distance_weight``, ``genes__n_top_genes`` ...

    See Also
    --------
    sklearn_dpvae.pipeline.SpatialPipeline : Any other chain with section labels.

    Examples
    --------
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> reference, query = slice(0, 250), slice(250, 300)
    >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
    >>> pipe = pipe.fit(tissue.X[reference], tissue.coords[reference])
    >>> pipe.predict(tissue.X[query]).shape
    (50, 2)
    """
    components = "passthrough"
    if n_spatial_components is not None:
        components = SpatialPCA(n_spatial_components, random_state=random_state)
    params = {"verbose": verbose, "random_state": random_state, "input_noise": _INPUT_NOISE}
    regressor = DPVAESpatialRegressor(**params | regressor_params)
    return SpatialPipeline(
        [
            # The pseudocount that suits an overdispersion of 1/16.
            ("normalize", LogNormalizer(pseudocount=4.0)),
            ("genes", SpatiallyVariableGenes(n_top_genes=n_top_genes, min_cells=0.01)),
            # Rare counts in shallow cells have z-scores of 20 and more.
            ("scale", SectionScaler(query=query, clip=3.0)),
            ("components", components),
            ("dpvae", regressor),
        ],
        memory=memory,
    )
