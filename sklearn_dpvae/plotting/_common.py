"""What the displays share: axes, colors, and calls of an estimator.

From this package it imports the checks, the metrics and the import of optional packages.
"""

import inspect
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._utils.optional import import_optional
from .._utils.validation import check_sections
from ..metrics import procrustes_align

# Okabe and Ito's palette (2008), which color-blind readers can tell apart, with black last.
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
HIGHLIGHT = "#D55E00"

# The colors of positions at the corners of a map: blue to orange across, dark to light upward.
_CORNERS = np.array(
    [[[0.00, 0.20, 0.42], [0.48, 0.21, 0.00]], [[0.45, 0.78, 1.00], [1.0, 0.80, 0.35]]]
)


def pyplot() -> Any:
    """Import matplotlib.pyplot, or raise an error that names the extra."""
    return import_optional("matplotlib.pyplot", extra="plot", purpose="plotting")


def get_axes(ax: Any, n: int, *, n_columns: int, size: tuple[float, float]) -> NDArray[Any]:
    """Return an array of `n` axes: the given ones, or those of a new figure.

    Parameters
    ----------
    ax : Axes, array of Axes, or None
    n : int
    n_columns : int
        Number of columns of a new figure.
    size : tuple of float
        Width and height of each of its axes, in inches.
    """
    if ax is not None:
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) < n:
            raise ValueError(
                f"ax holds {len(axes)} axes, but {n} are needed. Create them with "
                f"plt.subplots(ncols={n}), or leave ax=None."
            )
        return axes[:n]
    n_columns = min(n, n_columns)
    n_rows = -(-n // n_columns)
    _, axes = pyplot().subplots(
        n_rows,
        n_columns,
        figsize=(size[0] * n_columns, size[1] * n_rows),
        layout="constrained",
        squeeze=False,
    )
    for spare in axes.ravel()[n:]:
        spare.set_axis_off()
    return axes.ravel()[:n]


def as_map(ax: Any, title: str | None = None) -> None:
    """Turn axes into a map: equal scales, no frame."""
    ax.set_aspect("equal")
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title)


def as_columns(values: ArrayLike) -> NDArray[np.float64]:
    """Return positions as float64; a single coordinate becomes one column."""
    points = np.asarray(values, dtype=np.float64)
    return points[:, None] if points.ndim == 1 else points


def plane(coords: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return positions as two columns: pad a single one with zeros, or take the first two."""
    points = as_columns(coords)
    if points.ndim != 2 or not points.size:
        raise ValueError(f"{name} must be of shape (n_cells, n_dims), got {points.shape}.")
    if not np.isfinite(points).all():
        raise ValueError(f"{name} has values that are NaN or infinite. Drop those rows.")
    if points.shape[1] == 1:
        return np.column_stack([points, np.zeros(len(points))])
    return points[:, :2]


def same_length(**arrays: Any) -> None:
    """Raise unless all arrays that are not None have the same number of rows."""
    lengths = {name: len(array) for name, array in arrays.items() if array is not None}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(
            f"arrays differ in their numbers of rows: {counts}. Pass the same cells in each."
        )


def position_colors(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a color for each position, so that neighbors look alike: RGB of shape (n, 3)."""
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    x, y = ((points - low) / np.where(extent > 0, extent, 1.0)).T[:, :, None]
    dark, light = ((1 - x) * left + x * right for left, right in _CORNERS)
    return (1 - y) * dark + y * light


def scatter(ax: Any, points: NDArray[np.float64], color: Any, **options: Any) -> Any:
    """Scatter positions, colored by a color map (numbers), by the palette (labels) or by RGB.

    Returns
    -------
    PathCollection or None
        What a color bar can describe: the points if they are colored by numbers, else None.
        Labels are left in the axes for a legend.
    """
    options = {"s": point_size(len(points)), "linewidths": 0, **options}
    color = np.asarray(color)
    if color.ndim == 2:
        ax.scatter(*points.T, c=color, **options)
        return None
    if color.dtype.kind in "fiu":
        return ax.scatter(*points.T, c=color, **{"cmap": "viridis", **options})
    codes, labels = check_sections(color, len(points))
    for code, label in enumerate(labels.tolist()):
        shade = PALETTE[code % len(PALETTE)]
        marker = "osD^v"[code // len(PALETTE) % 5]
        ax.scatter(*points[codes == code].T, color=shade, marker=marker, label=label, **options)
    return None


def legend_beside(ax: Any, title: str | None = None) -> None:
    """Put a legend to the right of axes, with markers large enough to tell apart."""
    ax.legend(
        title=title,
        frameon=False,
        fontsize="small",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        markerscale=1.5,
    )


def point_size(n_cells: int) -> float:
    """Return a marker area, in square points, that suits this number of cells."""
    return float(np.clip(9000 / n_cells, 1.0, 25.0))


def call(method: Any, X: Any, sections: ArrayLike | None, **options: Any) -> Any:
    """Call a method of an estimator, and pass the section labels if it takes them."""
    if sections is not None and "sections" in inspect.signature(method).parameters:
        options["sections"] = sections
    return method(X, **options)


def by_section(sections: ArrayLike | None, n_cells: int) -> list[tuple[Any, NDArray[Any]]]:
    """Return the label and the rows of each section; the label is None without `sections`."""
    if sections is None:
        return [(None, np.arange(n_cells))]
    codes, labels = check_sections(sections, n_cells)
    return [(label, np.flatnonzero(codes == k)) for k, label in enumerate(labels.tolist())]


def aligned(
    pred: NDArray[np.float64], true: NDArray[np.float64], sections: ArrayLike | None
) -> NDArray[np.float64]:
    """Move predictions by the best similarity to the true positions, section by section."""
    moved = pred.copy()
    for _, rows in by_section(sections, len(true)):
        moved[rows] = procrustes_align(pred[rows], true[rows]).transform(pred[rows])
    return moved
