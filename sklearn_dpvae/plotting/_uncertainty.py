"""Predicted positions with their standard deviations."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._common import (
    HIGHLIGHT,
    as_map,
    call,
    get_axes,
    in_unit,
    plane,
    pyplot,
    same_length,
    scatter,
)


class UncertaintyDisplay:
    """Predicted positions with a circle or ellipse for the standard deviation of each.

    Create it with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    y_pred : ndarray of shape (n_cells, n_dims)
        Predicted positions, in tissue units.
    std : ndarray of shape (n_cells,) or (n_cells, 2)
        Standard deviations, in tissue units: the radius of each cell's circle, or the half axes of
        its ellipse along x and y.
    y_true : ndarray of shape (n_cells, n_dims), default=None
        Measured positions. A line joins each prediction to its measured position.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    ellipses_ : matplotlib EllipseCollection
    colorbar_ : matplotlib Colorbar

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import numpy as np
    >>> from sklearn_dpvae.plotting import UncertaintyDisplay
    >>> coords = np.random.default_rng(0).uniform(size=(50, 2))
    >>> display = UncertaintyDisplay.from_predictions(coords, np.full(50, 0.1), max_cells=20)
    >>> len(display.ellipses_.get_offsets())
    20
    """

    def __init__(
        self,
        y_pred: NDArray[np.float64],
        std: NDArray[np.float64],
        *,
        y_true: NDArray[np.float64] | None = None,
    ) -> None:
        self.y_pred = y_pred
        self.std = std
        self.y_true = y_true

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sections: ArrayLike | None = None,
        max_cells: int | None = 50,
        ax: Any = None,
        **ellipse_options: Any,
    ) -> "UncertaintyDisplay":
        """Predict positions and standard deviations, and draw them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``predict(X, return_std=True)``.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        y : array-like of shape (n_cells, n_dims), default=None
            Measured positions, if known.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, passed to `predict` if it takes `sections`.
        max_cells, ax, **ellipse_options
            See `from_predictions`.

        Returns
        -------
        UncertaintyDisplay
        """
        pred, std = call(estimator.predict, X, sections, return_std=True)
        return cls.from_predictions(pred, std, y, max_cells=max_cells, ax=ax, **ellipse_options)

    @classmethod
    def from_predictions(
        cls,
        y_pred: ArrayLike,
        std: ArrayLike,
        y_true: ArrayLike | None = None,
        *,
        max_cells: int | None = 50,
        ax: Any = None,
        **ellipse_options: Any,
    ) -> "UncertaintyDisplay":
        """Draw given predictions and their standard deviations.

        Parameters
        ----------
        y_pred, std, y_true
            See the class.
        max_cells : int or None, default=50
            At most this many cells, drawn at random with a fixed seed, get an ellipse. The
            others are dots. None draws an ellipse for every cell.
        ax : matplotlib Axes, default=None
            None creates a figure.
        **ellipse_options : dict
            Options of `plot` (`unit` and others), and of
            `matplotlib.collections.EllipseCollection`.

        Returns
        -------
        UncertaintyDisplay

        Raises
        ------
        ValueError
            If `std` has another shape than (n_cells,) or (n_cells, 2), or arrays differ in their
            numbers of rows.
        """
        pred = plane(y_pred, "y_pred")
        std = np.asarray(std, dtype=np.float64)
        if std.shape not in {(len(pred),), (len(pred), 2)}:
            raise ValueError(
                f"std has shape {std.shape}, but ({len(pred)},) or ({len(pred)}, 2) was "
                "expected: one number per cell, or one per cell and axis."
            )
        true = None if y_true is None else plane(y_true, "y_true")
        same_length(y_pred=pred, y_true=true)
        return cls(pred, std, y_true=true).plot(ax, max_cells=max_cells, **ellipse_options)

    def plot(
        self,
        ax: Any = None,
        *,
        max_cells: int | None = 50,
        unit: str | None = None,
        y_axis: str = "auto",
        **ellipse_options: Any,
    ) -> "UncertaintyDisplay":
        """Draw the predictions.

        Parameters
        ----------
        unit : str, default=None
            Unit of the positions, such as ``"µm"``, for a scale bar and labels. Positions in
            pixels (``"px"``) are drawn downward, as images are.
        y_axis : {"auto", "up", "down"}, default="auto"
            Which way the second coordinate runs; "auto" follows the unit.
        ax, max_cells, **ellipse_options
            See `from_predictions`.

        Returns
        -------
        UncertaintyDisplay
        """
        pyplot()  # The error that names the extra, if matplotlib is missing.
        from matplotlib.collections import EllipseCollection, LineCollection

        (axes,) = get_axes(ax, 1, n_columns=1, size=(5.4, 4.2))
        rows = np.arange(len(self.y_pred))
        if max_cells is not None and max_cells < len(rows):
            rows = np.random.default_rng(0).choice(rows, max_cells, replace=False)
        half = self.std[rows] if self.std.ndim == 2 else np.column_stack([self.std[rows]] * 2)
        points = self.y_pred[rows]

        scatter(axes, self.y_pred, np.full((len(self.y_pred), 3), 0.7), s=3)
        self.ellipses_ = EllipseCollection(
            2 * half[:, 0],
            2 * half[:, 1],
            np.zeros(len(rows)),
            units="xy",
            offsets=points,
            offset_transform=axes.transData,
            **{"cmap": "viridis_r", "facecolors": "none", "linewidths": 1.3, **ellipse_options},
        )
        self.ellipses_.set_array(half.mean(axis=1))
        axes.add_collection(self.ellipses_)
        axes.scatter(*points.T, s=8, color="black", linewidths=0, label="predicted", zorder=3)
        if self.y_true is not None:
            lines = list(np.stack([points, self.y_true[rows]], axis=1))
            axes.add_collection(LineCollection(lines, colors=HIGHLIGHT, linewidths=0.9, zorder=2))
            axes.scatter(*self.y_true[rows].T, s=8, color=HIGHLIGHT, label="true", zorder=3)
            axes.legend(loc="upper left", bbox_to_anchor=(0, 0), ncols=2, frameon=False)
        # Axes do not make room for ellipses on their own.
        axes.update_datalim(np.vstack([points - half, points + half]))
        axes.autoscale_view()
        self.colorbar_ = axes.figure.colorbar(
            self.ellipses_, ax=axes, label=in_unit("standard deviation", unit), shrink=0.8
        )
        as_map(axes, unit=unit, y_axis=y_axis)
        self.ax_ = axes
        self.figure_ = axes.figure
        return self
