"""Where single cells may lie."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._common import HIGHLIGHT, as_map, call, get_axes, plane, point_size, pyplot, same_length


class PlacesDisplay:
    """The tissue once for each of a few cells, shaded by where that cell may lie.

    Create it with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    places : PlaceDistribution
        What `predict_places` returns.
    cells : sequence of int
        Rows of `places` to show.
    level : float, default=0.8
        Probability of the region that is outlined.
    y_pred : ndarray of shape (n_cells, n_dims), default=None
        Predicted positions of all cells of `places`, drawn as crosses.
    y_true : ndarray of shape (n_cells, n_dims), default=None
        Their true positions, drawn as stars.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : ndarray of matplotlib Axes
        One for each cell shown.
    shades_ : list of matplotlib PathCollection
        The places of each cell, in the shade of their probability.
    outlines_ : list of matplotlib contour sets
        The border of each cell's region; None where its places do not span an area.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import numpy as np
    >>> from sklearn_dpvae.places import PlaceDistribution
    >>> from sklearn_dpvae.plotting import PlacesDisplay
    >>> grid = np.stack(np.meshgrid(range(9), range(9)), axis=-1).reshape(-1, 2)
    >>> p = np.exp(-((grid - [2, 6]) ** 2).sum(axis=1))
    >>> places = PlaceDistribution(p[None] / p.sum(), grid)
    >>> display = PlacesDisplay.from_predictions(places, y_true=[[2, 6]])
    >>> len(display.ax_)
    1
    """

    def __init__(
        self,
        places: Any,
        cells: Sequence[int],
        *,
        level: float = 0.8,
        y_pred: NDArray[np.float64] | None = None,
        y_true: NDArray[np.float64] | None = None,
    ) -> None:
        self.places = places
        self.cells = cells
        self.level = level
        self.y_pred = y_pred
        self.y_true = y_true

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sections: ArrayLike | None = None,
        cells: Sequence[int] | None = None,
        level: float = 0.8,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "PlacesDisplay":
        """Ask an estimator where cells may lie, and draw some of them.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `predict_places` and `predict`.
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the estimator takes.
        y : array-like of shape (n_cells, n_dims), default=None
            True positions, if known.
        sections : array-like of shape (n_cells,), default=None
            Section of each row.
        cells, level, ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        PlacesDisplay
        """
        places = call(estimator.predict_places, X, sections)
        return cls.from_predictions(
            places,
            y_pred=call(estimator.predict, X, sections),
            y_true=y,
            cells=cells,
            level=level,
            ax=ax,
            **scatter_options,
        )

    @classmethod
    def from_predictions(
        cls,
        places: Any,
        *,
        y_pred: ArrayLike | None = None,
        y_true: ArrayLike | None = None,
        cells: Sequence[int] | None = None,
        level: float = 0.8,
        ax: Any = None,
        **scatter_options: Any,
    ) -> "PlacesDisplay":
        """Draw where some cells may lie.

        Parameters
        ----------
        places : PlaceDistribution
            What `predict_places` returns.
        y_pred, y_true : array-like of shape (n_cells, n_dims), default=None
            See the class.
        cells : sequence of int, default=None
            Rows to show; None takes the first six.
        level : float, default=0.8
            Probability of the region that is outlined, between 0 and 1.
        ax : array of matplotlib Axes, default=None
            One for each cell. None creates a figure.
        **scatter_options : dict
            Passed to `matplotlib.axes.Axes.scatter` for the places.

        Returns
        -------
        PlacesDisplay

        Raises
        ------
        ValueError
            If there are not as many positions as cells of `places`, or `level` is none.
        """
        pred = None if y_pred is None else plane(y_pred, "y_pred")
        true = None if y_true is None else plane(y_true, "y_true")
        same_length(places=places, y_pred=pred, y_true=true)
        shown = list(range(min(6, len(places)))) if cells is None else [int(c) for c in cells]
        display = cls(places, shown, level=level, y_pred=pred, y_true=true)
        return display.plot(ax, **scatter_options)

    def plot(self, ax: Any = None, **scatter_options: Any) -> "PlacesDisplay":
        """Draw the cells.

        Parameters
        ----------
        ax, **scatter_options
            See `from_predictions`.

        Returns
        -------
        PlacesDisplay
        """
        pyplot()  # The error that names the extra, if matplotlib is missing.
        self.ax_ = get_axes(ax, len(self.cells), n_columns=3, size=(3.0, 2.8))
        self.shades_, self.outlines_ = [], []
        region = self.places.region(self.level)
        for axes, cell in zip(self.ax_, self.cells, strict=True):
            columns = np.flatnonzero(self.places.sections == self.places.cell_sections[cell])
            points = plane(self.places.locations[columns], "locations")
            p = self.places.probabilities[cell, columns].toarray().ravel()
            options = {
                "s": 2 * point_size(len(points)),
                "cmap": "Greys",
                "linewidths": 0,
                "vmin": -0.08 * p.max(),
            }
            self.shades_.append(axes.scatter(*points.T, c=p, **{**options, **scatter_options}))
            least = p[region[cell, columns].toarray().ravel()].min()
            self.outlines_.append(_outline(axes, points, p, least))
            if self.y_pred is not None:
                axes.scatter(
                    *self.y_pred[cell], marker="x", s=40, color="black", label="predicted"
                )
            if self.y_true is not None:
                axes.scatter(
                    *self.y_true[cell],
                    marker="*",
                    s=90,
                    color=HIGHLIGHT,
                    edgecolors="white",
                    linewidths=0.6,
                    label="true",
                    zorder=4,
                )
            as_map(axes)
        if self.y_pred is not None or self.y_true is not None:
            self.ax_[0].legend(loc="upper left", bbox_to_anchor=(0, 0), ncols=2, frameon=False)
        self.figure_ = self.ax_[0].figure
        return self


def _outline(axes: Any, points: NDArray[np.float64], p: NDArray[np.float64], least: float) -> Any:
    """Draw the border of the places with a probability of `least` or more."""
    from matplotlib.tri import Triangulation

    if len(points) < 3 or np.linalg.matrix_rank(points - points[0]) < 2 or p.min() >= least:
        return None
    triangles = Triangulation(*points.T)
    edges = np.linalg.norm(np.diff(points[triangles.edges], axis=1)[:, 0], axis=1)
    corners = points[triangles.triangles]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    # Triangles over gaps of the tissue and along its border.
    long = longest > 4 * np.median(edges)
    if not long.all():
        triangles.set_mask(long)
    # Between the region's least probable place and the next.
    below = p[p < least].max()
    return axes.tricontour(
        triangles, p, levels=[0.5 * (least + below)], colors="#0072B2", linewidths=1.4
    )
