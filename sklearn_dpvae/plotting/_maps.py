"""Maps of the tissue: the true and the reconstructed one side by side, and errors."""

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
    categories_of,
    get_axes,
    in_unit,
    legend_beside,
    plane,
    position_colors,
    same_length,
    scatter,
)


class ReconstructionDisplay:
    """True and reconstructed tissue side by side, in the same colors (the paper's Figures 5, 6).

    A triangle of marked cells shows how the map is turned and stretched. Create the display with
    `from_estimator` or `from_predictions`.

    Parameters
    ----------
    y_true : ndarray of shape (n_cells, n_dims)
        Measured positions, in tissue units. The first two dimensions are drawn.
    y_pred : ndarray of shape (n_cells, n_dims)
        Reconstructed positions.
    color : array-like of shape (n_cells,) or (n_cells, 3), default=None
        Numbers, labels or RGB values to color the cells by. Categories of pandas keep their
        order. None colors cells by their true positions.
    marked : array-like of int, default=None
        Indices of cells to mark in both maps. None marks three cells of each section, far apart,
        and an empty list none.
    sections : array-like of shape (n_cells,), default=None
        Section of each row. Each section has its own row of two maps.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : ndarray of Axes
        The true and the reconstructed map of the first section, then of the second, and so on.

    See Also
    --------
    ErrorMapDisplay : The error of each cell.

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

    def __init__(
        self,
        y_true: NDArray[np.float64],
        y_pred: NDArray[np.float64],
        *,
        color: ArrayLike | None = None,
        marked: ArrayLike | None = None,
        sections: ArrayLike | None = None,
    ) -> None:
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
        """Predict positions, and draw them next to the true ones.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `predict`.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        y : array-like of shape (n_cells, n_dims)
            Measured positions.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, passed to `predict` if it takes `sections`.
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
        """Draw the true and the predicted map.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_cells, n_dims)
            Measured and predicted positions.
        sections : array-like of shape (n_cells,), default=None
            Section of each row.
        align : bool, default=True
            Whether to first move the predictions of each section by the best similarity to the
            true positions.
        color, marked
            See the class.
        ax : array of matplotlib Axes, default=None
            Two for each section. None creates a figure.
        **scatter_options : dict
            Options of `plot` (`unit` and others) and of `matplotlib.axes.Axes.scatter`.

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

    def plot(
        self,
        ax: Any = None,
        *,
        unit: str | None = None,
        y_axis: str = "auto",
        palette: Any = None,
        **scatter_options: Any,
    ) -> "ReconstructionDisplay":
        """Draw the maps.

        Parameters
        ----------
        palette : dict or list, default=None
            Colors of labels: by label, or in the order of the categories, as scanpy keeps them
            in ``adata.uns["celltype_colors"]``.
        unit : str, default=None
            Unit of the positions, such as ``"µm"``, for a scale bar and labels. Positions in
            pixels (``"px"``) are drawn downward, as images are.
        y_axis : {"auto", "up", "down"}, default="auto"
            Which way the second coordinate runs; "auto" follows the unit.
        ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        ReconstructionDisplay
        """
        parts = by_section(self.sections, len(self.y_true))
        axes = get_axes(ax, 2 * len(parts), n_columns=2, size=(4.2, 3.8))
        categories = categories_of(self.color)
        values = None if self.color is None else np.asarray(self.color)
        if categories is None and values is not None and values.dtype.kind in "OSU":
            categories = sorted(set(map(str, values.tolist())))  # The same colors in all sections.
        if categories is not None:
            scatter_options |= {"categories": categories}
        for (label, rows), pair in zip(parts, axes.reshape(-1, 2), strict=True):
            true, pred = self.y_true[rows], self.y_pred[rows]
            color = position_colors(true) if values is None else values[rows]
            marked = self._marked_among(rows)
            suffix = "" if label is None else f", {label}"
            for each, points, title in zip(
                pair, (true, pred), ("true", "reconstructed"), strict=True
            ):
                scatter(each, points, color, palette=palette, **scatter_options)
                if len(marked):
                    _draw_marked(each, points[marked])
                as_map(each, title + suffix, unit=unit, y_axis=y_axis)
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
    """The error of each cell's predicted position, drawn on the tissue (the paper's Figure 8).

    Create it with `from_estimator` or `from_predictions`.

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

    def __init__(self, coords: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
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
        """Predict positions, and draw their errors.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `predict`.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        y : array-like of shape (n_cells, n_dims)
            Measured positions. Sections that are drawn together should not overlap.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, passed to `predict` if it takes `sections`.
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
        """Draw the errors of given predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_cells, n_dims)
            Measured and predicted positions.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, for `align`.
        align : bool, default=False
            Whether to first move the predictions of each section by the best similarity to the
            true positions. This is needed for sections whose frame the model does not know.
        ax : matplotlib Axes, default=None
            None creates a figure.
        **scatter_options : dict
            Options of `plot` (`unit` and others) and of `matplotlib.axes.Axes.scatter`.

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

    def plot(
        self,
        ax: Any = None,
        *,
        unit: str | None = None,
        y_axis: str = "auto",
        **scatter_options: Any,
    ) -> "ErrorMapDisplay":
        """Draw the errors.

        Parameters
        ----------
        unit : str, default=None
            Unit of the positions, such as ``"µm"``, for a scale bar and labels. Positions in
            pixels (``"px"``) are drawn downward, as images are.
        y_axis : {"auto", "up", "down"}, default="auto"
            Which way the second coordinate runs; "auto" follows the unit.
        ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        ErrorMapDisplay
        """
        (axes,) = get_axes(ax, 1, n_columns=1, size=(5.2, 4.2))
        # Draw large errors last, so that they are not covered.
        order = np.argsort(self.errors)
        options = {"cmap": "plasma_r", "vmin": 0, **scatter_options}
        drawn = scatter(axes, self.coords[order], self.errors[order], **options)
        self.colorbar_ = axes.figure.colorbar(
            drawn, ax=axes, label=in_unit("error", unit), shrink=0.8
        )
        title = f"median error {np.median(self.errors):.3g} {unit or ''}".strip()
        as_map(axes, title, unit=unit, y_axis=y_axis)
        self.ax_ = axes
        self.figure_ = axes.figure
        return self


def _draw_marked(ax: Any, points: NDArray[np.float64]) -> None:
    """Join cells in a ring, each marked by a different shape."""
    ring = np.vstack([points, points[:1]])
    ax.plot(*ring.T, color="white", linewidth=3.2, zorder=3)
    ax.plot(*ring.T, color="black", linewidth=1.6, zorder=4)
    for k, point in enumerate(points):
        ax.plot(
            *point, "osD^v*"[k % 6], color="white", markeredgecolor="black", markersize=9, zorder=5
        )
