"""Curves: the terms of the loss during training, and the error for each value of a weight."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import validation_curve
from sklearn.pipeline import Pipeline

from ._common import HIGHLIGHT, PALETTE, get_axes, pyplot

# Columns of a history that are no losses.
_NOT_LOSSES = {"epoch", "scale", "dur"}


class LossCurvesDisplay:
    """The terms of the loss over the epochs, of one or several models (the paper's Figure 7).

    Create it with `from_estimator`, from one fitted model or from several, keyed by name or by
    lambda.

    Parameters
    ----------
    histories : dict of {label: list of dict}
        The `history_` of each model. Labels that are numbers, such as lambda, are colored in
        order.
    terms : sequence of str, default=None
        Columns of `history_` to draw, each in its own axes, titled by its name. None draws all
        terms of the loss that vary, and the held-out stress ``"valid_stress"`` if it was
        measured.
    label : str, default=None
        Title of the legend: what the labels of `histories` stand for.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : ndarray of Axes
        One for each term.
    lines_ : dict of {term: list of Line2D}
        The curves of each term, one for each model.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn_dpvae import make_spatial_pipeline
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.plotting import LossCurvesDisplay
    >>> tissue = make_tissue(200, 20, random_state=0)
    >>> models = {
    ...     weight: make_spatial_pipeline(
    ...         distance_weight=weight, max_epochs=3, random_state=0
    ...     ).fit(tissue.X, tissue.coords)
    ...     for weight in (0.1, 1.0)
    ... }
    >>> display = LossCurvesDisplay.from_estimator(models, terms=["distance"], label="lambda")
    >>> [line.get_label() for line in display.lines_["distance"]]
    ['0.1', '1']
    """

    def __init__(
        self,
        histories: Mapping[Any, Sequence[Mapping[str, Any]]],
        *,
        terms: Sequence[str] | None = None,
        label: str | None = None,
    ) -> None:
        self.histories = histories
        self.terms = terms
        self.label = label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        terms: Sequence[str] | None = None,
        label: str | None = None,
        ax: Any = None,
        **line_options: Any,
    ) -> "LossCurvesDisplay":
        """Draw the histories of fitted models.

        Parameters
        ----------
        estimator : estimator, or dict of {label: estimator}
            Fitted regressors, or pipelines that end in one.
        terms, label
            See the class.
        ax : array of matplotlib Axes, default=None
            One for each term. None creates a figure.
        **line_options : dict
            Passed to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        LossCurvesDisplay

        Raises
        ------
        TypeError
            If an estimator has no `history_`.
        ValueError
            If a term is not in the histories.
        """
        models = estimator if isinstance(estimator, Mapping) else {"": estimator}
        histories = {name: _history(model) for name, model in models.items()}
        return cls(histories, terms=terms, label=label).plot(ax, **line_options)

    def plot(self, ax: Any = None, **line_options: Any) -> "LossCurvesDisplay":
        """Draw the curves.

        Parameters
        ----------
        ax, **line_options
            See `from_estimator`.

        Returns
        -------
        LossCurvesDisplay

        Raises
        ------
        ValueError
            If a term is not in the histories.
        """
        terms = list(self._varying_terms() if self.terms is None else self.terms)
        known = {name for history in self.histories.values() for name in history[0]}
        unknown = [term for term in terms if term not in known]
        if unknown or not terms:
            raise ValueError(
                f"terms={terms!r} asks for columns that the histories do not have, or for none. "
                f"They have {', '.join(sorted(known))}."
            )
        axes = get_axes(ax, len(terms), n_columns=3, size=(3.6, 2.9))
        colors = _ordered_colors(list(self.histories))
        self.lines_: dict[str, list] = {term: [] for term in terms}
        for each, term in zip(axes, terms, strict=True):
            for (name, history), color in zip(self.histories.items(), colors, strict=True):
                values = [row.get(term, np.nan) for row in history]
                text = f"{name:g}" if isinstance(name, int | float) else str(name)
                epochs = np.arange(1, len(values) + 1)
                self.lines_[term] += each.plot(
                    epochs, values, label=text, **{"color": color, **line_options}
                )
            each.set(xlabel="epoch", title=term)
        if len(self.histories) > 1:
            axes[0].legend(title=self.label, frameon=False, fontsize="small")
        self.ax_ = axes
        self.figure_ = axes[0].figure
        return self

    def _varying_terms(self) -> list[str]:
        rows = [row for history in self.histories.values() for row in history]
        # In the order of the history: the loss, its terms, what is measured on held-out cells.
        columns = dict.fromkeys(name for row in rows for name in row if name not in _NOT_LOSSES)
        return [name for name in columns if np.ptp([r[name] for r in rows if name in r]) > 0]


class WeightCurveDisplay:
    """Error against a weight of the loss, usually lambda (the paper's Figure 10).

    The line is the mean over splits, the band one standard deviation to either side, and each dot
    a split. Create it with `from_estimator` or `from_cv_results`.

    Parameters
    ----------
    weights : array-like of shape (n_weights,)
        Values of the parameter.
    errors : array-like of shape (n_weights, n_splits)
        Error on each split; 0 is best.
    name : str, default="distance_weight"
        Name of the parameter, for the axis.
    error_name : str, default="Procrustes disparity"
        Name of the error, for the axis.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    line_ : matplotlib Line2D
        The means over splits.
    best_weight_ : float
        The weight with the lowest mean error.

    See Also
    --------
    sklearn.model_selection.ValidationCurveDisplay : For any parameter and score.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn_dpvae.plotting import WeightCurveDisplay
    >>> display = WeightCurveDisplay([0.1, 1, 10], [[0.5, 0.6], [0.3, 0.3], [0.4, 0.5]]).plot()
    >>> display.best_weight_
    1.0
    """

    def __init__(
        self,
        weights: ArrayLike,
        errors: ArrayLike,
        *,
        name: str = "distance_weight",
        error_name: str = "Procrustes disparity",
    ) -> None:
        self.weights = weights
        self.errors = errors
        self.name = name
        self.error_name = error_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        param_name: str = "dpvae__distance_weight",
        param_range: ArrayLike = (0.01, 0.1, 1.0, 10.0, 100.0),
        cv: Any = None,
        groups: ArrayLike | None = None,
        n_jobs: int | None = None,
        ax: Any = None,
        **line_options: Any,
    ) -> "WeightCurveDisplay":
        """Cross-validate each value of the weight, and draw the disparities.

        Parameters
        ----------
        estimator : estimator
            Its `score` must be 1 - Procrustes disparity.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        y : array-like of shape (n_cells, n_dims)
            Positions in one section. For several sections use GridSearchCV and
            `from_cv_results`.
        param_name : str, default="dpvae__distance_weight"
            Name of the weight among the parameters of the estimator.
        param_range : array-like, default=(0.01, 0.1, 1.0, 10.0, 100.0)
            Values to try.
        cv : int or splitter, default=None
            How to split the cells, for example by `SpatialBlockKFold`.
        groups : array-like of shape (n_cells,), default=None
            Passed to the splitter.
        n_jobs : int, default=None
            Number of fits to run in parallel.
        ax : matplotlib Axes, default=None
            None creates a figure.
        **line_options : dict
            Passed to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        WeightCurveDisplay
        """
        _, scores = validation_curve(
            estimator,
            X,
            y,
            param_name=param_name,
            param_range=param_range,
            cv=cv,
            groups=groups,
            n_jobs=n_jobs,
            error_score="raise",
        )
        name = param_name.rpartition("__")[2]
        return cls(np.asarray(param_range), 1.0 - scores, name=name).plot(ax, **line_options)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        *,
        param_name: str = "dpvae__distance_weight",
        ax: Any = None,
        **line_options: Any,
    ) -> "WeightCurveDisplay":
        """Draw the results of a search over one weight.

        Parameters
        ----------
        cv_results : dict
            `cv_results_` of a GridSearchCV whose score is 1 - disparity, such as the
            estimator's own score or `ProcrustesScorer`. If several candidates share a weight,
            the one with the best mean score counts.
        param_name : str, default="dpvae__distance_weight"
            Name of the weight among the parameters of the search.
        ax, **line_options
            See `from_estimator`.

        Returns
        -------
        WeightCurveDisplay

        Raises
        ------
        ValueError
            If the search did not vary the parameter.
        """
        if f"param_{param_name}" not in cv_results:
            varied = [key[6:] for key in cv_results if key.startswith("param_")]
            raise ValueError(
                f"param_name={param_name!r} was not varied by the search. Pass one that was: "
                f"{', '.join(varied) or 'there is none'}."
            )
        values = np.asarray(cv_results[f"param_{param_name}"], dtype=np.float64)
        n_splits = sum(key.startswith("split") and key.endswith("_score") for key in cv_results)
        scores = np.stack([cv_results[f"split{k}_test_score"] for k in range(n_splits)], axis=1)
        weights = np.unique(values)
        best = [
            max(np.flatnonzero(values == weight), key=lambda row: scores[row].mean())
            for weight in weights
        ]
        name = param_name.rpartition("__")[2]
        return cls(weights, 1.0 - scores[best], name=name).plot(ax, **line_options)

    def plot(self, ax: Any = None, **line_options: Any) -> "WeightCurveDisplay":
        """Draw the curve.

        Parameters
        ----------
        ax, **line_options
            See `from_estimator`.

        Returns
        -------
        WeightCurveDisplay
        """
        weights = np.asarray(self.weights, dtype=np.float64)
        order = np.argsort(weights)
        weights, errors = weights[order], np.asarray(self.errors, dtype=np.float64)[order]
        mean, std = errors.mean(axis=1), errors.std(axis=1)
        self.best_weight_ = float(weights[np.argmin(mean)])

        (axes,) = get_axes(ax, 1, n_columns=1, size=(5.0, 3.6))
        axes.fill_between(weights, mean - std, mean + std, color=PALETTE[0], alpha=0.2, lw=0)
        for split in errors.T:
            axes.plot(weights, split, ".", color="0.6", markersize=4)
        options = {"color": PALETTE[0], "marker": "o", "label": "mean over splits", **line_options}
        (self.line_,) = axes.plot(weights, mean, **options)
        axes.axvline(self.best_weight_, color=HIGHLIGHT, linestyle="--", linewidth=1)
        if (weights > 0).all():
            axes.set_xscale("log")
        else:
            smallest = weights[weights > 0].min(initial=1.0)
            axes.set_xscale("symlog", linthresh=smallest)
            # The scale has a negative side, too, which no weight is on.
            # No weight is negative, but points at 0 are wider than a line.
            axes.set_xlim(left=-0.1 * smallest)
        axes.set(
            xlabel=self.name, ylabel=self.error_name, title=f"lowest at {self.best_weight_:g}"
        )
        self.ax_ = axes
        self.figure_ = axes.figure
        return self


def _history(model: Any) -> list[dict[str, Any]]:
    final = model.steps[-1][1] if isinstance(model, Pipeline) else model
    if not hasattr(final, "history_"):
        raise TypeError(
            f"{type(final).__name__} has no history_. Pass a fitted DPVAESpatialRegressor, or a "
            "pipeline that ends in one."
        )
    return final.history_


def _ordered_colors(labels: list) -> list[Any]:
    """Return shades from dark to light for numbers, and the palette for names."""
    if len(labels) > 1 and all(isinstance(label, int | float) for label in labels):
        ranks: NDArray[Any] = np.argsort(np.argsort(labels))
        return list(pyplot().get_cmap("viridis")(0.9 * ranks / (len(labels) - 1)))
    return [PALETTE[k % len(PALETTE)] for k in range(len(labels))]
