"""Maps of tissue: true beside reconstructed, and errors."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..reconstruction._landmarks import choose_landmarks
from ._common import (
    aligned,
    as_columns,
    as_map,
    by_section,
    call,
    get_axes,
    legend_beside,
    plane,
    position_colors,
    same_length,
    scatter,
)


class ReconstructionDisplay:
    """True and reconstructed tissue side by side, in the same colors (the paper's Figures 5, 6).

    A few marked cells, joined to a triangle, show how the map is turned and stretched. Make it by
    `from_estimator` or `from_predictions`.

    Parameters
    ----------
    y_true : ndarray of shape (n_cells, n_dims)
        Measured positions, in tissue units. Of three dimensions the first two are drawn.
    y_pred : ndarray of shape (n_cells, n_dims)
        Reconstructed positions.
    color : array-like of shape (n_cells,) or (n_cells, 3), default=None
        Numbers, labels or RGB. None colors cells by their true positions.
    marked : array-like of int, default=None
        Indices of cells to mark in both maps. None takes three of each section, far apart.
    sections : array-like of shape (n_cells,), default=None
        Section of each row: each is drawn in a row of its own.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : ndarray of Axes
        True and reconstructed map of the first section, of the second ...

    See Also
    --------
    ErrorMapDisplay : How far off each cell is.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.plotting import ReconstructionDisplay
    >>> tissue = make_tissue(200, 20, random_state=0)
    >>> display = ReconstructionDisplay.from_predictions(tissue.coords, -tissue.coords)
    >>> display.ax_.shape
    (2,)
    """

    def __init__(self, y_true, y_pred, *, color=None, marked=None, sections=None):
        self.y_true = y_true
        self.y_pred = y_pred
        self.color = color
        self.marked = marked
        self.sections = sections

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        align: bool = True,
        color: ArrayLike | None = None,
        marked: ArrayLike | None = None,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "ReconstructionDisplay":
        """Predict, and draw beside the truth.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `predict`.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        y : array-like of shape (n_cells, n_dims)
            Measured positions.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, given to `predict` if it takes it.
        align, color, marked, ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        ReconstructionDisplay
        """
        return cls.from_predictions(
            y,
            call(estimator.predict, X, sections),
            sections=sections,
            align=align,
            color=color,
            marked=marked,
            ax=ax,
            **scatter_options,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        align: bool = True,
        color: ArrayLike | None = None,
        marked: ArrayLike | None = None,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "ReconstructionDisplay":
        """Draw two maps.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_cells, n_dims)
            Measured and predicted positions.
        sections : array-like of shape (n_cells,), default=None
            Section of each row.
        align : bool, default=True
            Whether predictions are first moved by the similarity, within each section, that
            fits the truth best.
        color, marked
            See the class.
        ax : array of matplotlib Axes, default=None
            Two for each section. None makes a figure.
        **scatter_options : dict
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        ReconstructionDisplay
        """
        true, pred = plane(y_true, "y_true"), plane(y_pred, "y_pred")
        same_length(y_true=true, y_pred=pred, sections=sections, color=color)
        if align:
            pred = aligned(pred, true, sections)
        display = cls(true, pred, color=color, marked=marked, sections=sections)
        return display.plot(ax, **scatter_options)

    def plot(self, ax: Any = None, **scatter_options: Any) -> "ReconstructionDisplay":
        """Draw.

        Parameters
        ----------
        ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        ReconstructionDisplay
        """
        parts = by_section(self.sections, len(self.y_true))
        axes = get_axes(ax, 2 * len(parts), n_columns=2, size=(4.2, 3.8))
        for (label, rows), pair in zip(parts, axes.reshape(-1, 2), strict=True):
            true, pred = self.y_true[rows], self.y_pred[rows]
            color = position_colors(true) if self.color is None else np.asarray(self.color)[rows]
            marked = self._marked_among(rows)
            suffix = "" if label is None else f", {label}"
            for each, points, title in zip(
                pair, (true, pred), ("true", "reconstructed"), strict=True
            ):
                scatter(each, points, color, **scatter_options)
                _draw_marked(each, points[marked])
                as_map(each, title + suffix)
            if pair[1].get_legend_handles_labels()[0]:
                legend_beside(pair[1])
        self.ax_ = axes
        self.figure_ = axes[0].figure
        return self

    def _marked_among(self, rows: NDArray[Any]) -> NDArray[Any]:
        if self.marked is not None:
            return np.flatnonzero(np.isin(rows, self.marked))
        points = self.y_true[rows]
        return choose_landmarks(points, min(3, len(points)), method="farthest", random_state=0)


class ErrorMapDisplay:
    """How far off the prediction of each cell is, on the tissue (the paper's Figure 8).

    Make it by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    coords : ndarray of shape (n_cells, n_dims)
        Measured positions, in tissue units.
    errors : ndarray of shape (n_cells,)
        Distance of each prediction from the truth, in tissue units.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    colorbar_ : matplotlib Colorbar

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.plotting import ErrorMapDisplay
    >>> tissue = make_tissue(200, 20, random_state=0)
    >>> display = ErrorMapDisplay.from_predictions(tissue.coords, tissue.coords + [3.0, 4.0])
    >>> display.errors[:2]
    array([5., 5.])
    """

    def __init__(self, coords, errors):
        self.coords = coords
        self.errors = errors

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        align: bool = False,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "ErrorMapDisplay":
        """Predict, and draw the errors.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `predict`.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        y : array-like of shape (n_cells, n_dims)
            Measured positions. Sections that are drawn together should not overlap.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, given to `predict` if it takes it.
        align, ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        ErrorMapDisplay
        """
        pred = call(estimator.predict, X, sections)
        return cls.from_predictions(
            y, pred, sections=sections, align=align, ax=ax, **scatter_options
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        align: bool = False,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "ErrorMapDisplay":
        """Draw the errors of predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_cells, n_dims)
            Measured and predicted positions.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, for `align`.
        align : bool, default=False
            Whether predictions are first moved by the similarity that fits the truth best, as a
            prediction for another section than the reference has to be.
        ax : matplotlib Axes, default=None
        **scatter_options : dict
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        ErrorMapDisplay
        """
        true = as_columns(y_true)
        pred = as_columns(y_pred)
        same_length(y_true=true, y_pred=pred, sections=sections)
        if align:
            pred = aligned(pred, true, sections)
        errors = np.linalg.norm(pred - true, axis=1)
        return cls(plane(true, "y_true"), errors).plot(ax, **scatter_options)

    def plot(self, ax: Any = None, **scatter_options: Any) -> "ErrorMapDisplay":
        """Draw.

        Parameters
        ----------
        ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        ErrorMapDisplay
        """
        (axes,) = get_axes(ax, 1, n_columns=1, size=(5.2, 4.2))
        # Small errors first, so that large ones are not covered.
        order = np.argsort(self.errors)
        options = {"cmap": "plasma_r", "vmin": 0, **scatter_options}
        drawn = scatter(axes, self.coords[order], self.errors[order], **options)
        self.colorbar_ = axes.figure.colorbar(
            drawn, ax=axes, label="error (tissue units)", shrink=0.8
        )
        as_map(axes, f"median error {np.median(self.errors):.3g}")
        self.ax_ = axes
        self.figure_ = axes.figure
        return self


def _draw_marked(ax: Any, points: NDArray[np.float64]) -> None:
    """Cells joined in a ring, each with a marker of its own shape."""
    ring = np.vstack([points, points[:1]])
    ax.plot(*ring.T, color="white", linewidth=3.2, zorder=3)
    ax.plot(*ring.T, color="black", linewidth=1.6, zorder=4)
    for k, point in enumerate(points):
        ax.plot(
            *point, "osD^v*"[k % 6], color="white", markeredgecolor="black", markersize=9, zorder=5
        )
