"""Procrustes scores of estimators, for cross-validation and searches.

Imports of this package: the Procrustes metrics of this folder, and `_utils`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metadata_routing import MetadataRequest

from .._utils.routing import sections_for
from .._utils.searches import best_of
from .._utils.warn import warn
from ._checks import check_option
from ._disparity import procrustes_disparity, procrustes_distance


class ProcrustesScorer:
    """Score of predicted positions after the best similarity of each section; larger is better.

    A callable ``(estimator, X, y) -> float`` for the ``scoring=`` of `GridSearchCV`,
    `cross_validate` and their like, alone or in a dict of several. As each section is aligned on
    its own, the score does not depend on the frame that an estimator predicts in.

    Parameters
    ----------
    metric : {"disparity", "distance"}, default="disparity"
        ``"disparity"`` scores ``1 - procrustes_disparity``: 1 is a perfect map, and 0 one that
        is no better than a single point. ``"distance"`` scores
        ``-procrustes_distance(normalize=True)``: minus the root mean square distance of a cell
        to its place, in tissue units.
    sections : None, "single", or mapping from row name to label, default=None
        Where the labels come from if they are not passed with the call. A mapping (a pandas
        Series with the rows' names as its index, or a dict) is looked up by the index of X or,
        if X has none, of y; either must then be a pandas object. ``"single"`` declares that
        the rows of each call are of one section, as in `LeaveOneGroupOut` over sections.

    See Also
    --------
    procrustes_disparity : The metric itself.

    Notes
    -----
    With metadata routing enabled the scorer requests `sections`: ``cross_validate(estimator, X,
    y, params={"sections": labels}, scoring=ProcrustesScorer())`` passes each test set's labels.
    Without metadata routing scikit-learn passes no labels to a scorer. If the estimator was
    fitted on several sections (its attribute `sections_` tells), a call without labels warns,
    since aligning sections with unrelated frames as if they were one misjudges them.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_dpvae.metrics import ProcrustesScorer
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> coords = rng.uniform(size=(60, 2))
    >>> X = coords @ rng.normal(size=(2, 8)) + 0.01 * rng.normal(size=(60, 8))
    >>> search = GridSearchCV(Ridge(), {"alpha": [0.01, 100.0]}, scoring=ProcrustesScorer())
    >>> search.fit(X, coords).best_params_
    {'alpha': 0.01}
    """

    def __init__(self, metric: str = "disparity", *, sections: Any = None):
        check_option(metric, "metric", ("disparity", "distance"))
        is_mapping = isinstance(sections, Mapping) or hasattr(sections, "to_dict")
        single = isinstance(sections, str) and sections == "single"
        if not (sections is None or single or is_mapping):
            raise ValueError(
                "sections must be None, 'single', or a mapping from row name to label such as a "
                f"pandas Series, got an object of type {type(sections).__name__}. Labels in the "
                "order of the rows cannot be matched to the rows of a test set."
            )
        self.metric = metric
        self.sections = sections

    def __call__(
        self, estimator: Any, X: Any, y: ArrayLike, *, sections: ArrayLike | None = None
    ) -> float:
        """Score the positions that an estimator predicts.

        Parameters
        ----------
        estimator : object
            Fitted estimator. Its ``predict(X)`` gives positions; if that takes `sections`, it is
            given the labels.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Expression.
        y : array-like of shape (n_samples,) or (n_samples, n_dims)
            Measured positions.
        sections : array-like of shape (n_samples,), default=None
            One label per row.

        Returns
        -------
        float
            The score.
        """
        if sections is None:
            sections = self._find_sections(estimator, X, y)
        # The `predict` of a search passes no labels on to the estimator that it has found.
        model = best_of(estimator)
        y_pred = model.predict(X, **sections_for(model, "predict", sections))
        if self.metric == "disparity":
            return 1.0 - procrustes_disparity(y, y_pred, sections=sections)
        return -procrustes_distance(y, y_pred, sections=sections, normalize=True)

    def _find_sections(self, estimator, X, y):
        """Labels of the rows where none were passed."""
        if isinstance(self.sections, str):
            return None
        if self.sections is not None:
            return self._look_up(X, y)
        fitted_on = _fitted_sections(estimator)
        if fitted_on > 1:
            warn(
                f"the estimator was fitted on {fitted_on} sections, but ProcrustesScorer got no "
                "section labels and aligns all rows as one section. Enable metadata routing "
                "(sklearn.set_config(enable_metadata_routing=True)) and pass sections=, or give "
                "the scorer the labels by row name, ProcrustesScorer(sections=series); if each "
                "test set is one section, say so: ProcrustesScorer(sections='single')."
            )
        return None

    def _look_up(self, X, y):
        named = next((table for table in (X, y) if hasattr(table, "iloc")), None)
        if named is None:
            raise ValueError(
                "ProcrustesScorer(sections=mapping) finds labels by row name, but neither X nor "
                "y is a pandas object with an index. Pass y as a DataFrame indexed by cell, or "
                "pass sections= with metadata routing enabled."
            )
        labels = (
            dict(self.sections)
            if isinstance(self.sections, Mapping)
            else (self.sections.to_dict())
        )
        missing = [name for name in named.index if name not in labels]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(named)} rows have no label in the scorer's sections, "
                f"the first is {missing[0]!r}."
            )
        return np.array([labels[name] for name in named.index])

    def set_score_request(self, *, sections: bool | str | None = True) -> "ProcrustesScorer":
        """Say under which name the labels are to be routed here; by default as `sections`.

        Parameters
        ----------
        sections : bool, str or None, default=True
            True requests `sections`, a string requests metadata of that name, and False and
            None request nothing.

        Returns
        -------
        self : ProcrustesScorer
        """
        self._sections_request = sections
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Request `sections` from scikit-learn's metadata routing.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest
        """
        request = MetadataRequest(owner=type(self).__name__)
        alias = getattr(self, "_sections_request", True)
        request.score.add_request(param="sections", alias=alias)
        return request

    def _accept_sample_weight(self):
        # scikit-learn asks scorers of a dict for this when sample weights are passed.
        return False

    def __repr__(self):
        arguments = [] if self.metric == "disparity" else [f"metric={self.metric!r}"]
        if isinstance(self.sections, str):
            arguments.append(f"sections={self.sections!r}")
        elif self.sections is not None:
            arguments.append(f"sections=<{len(self.sections)} labels>")
        return f"ProcrustesScorer({', '.join(arguments)})"


def _fitted_sections(estimator):
    """Number of sections an estimator was fitted on, seen through searches and pipelines."""
    while True:
        sections = getattr(estimator, "sections_", None)
        if sections is not None:
            return len(set(np.asarray(sections).ravel().tolist()))
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return 1
