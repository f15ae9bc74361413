"""What the displays share: axes, colors, and calls of an estimator.

From this package it imports the checks, the metrics and the import of optional packages.
"""

import inspect
from collections.abc import Mapping
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

# Images have their origin at the top, and so have positions in pixels of one.
_PIXELS = {"px", "pixel", "pixels"}

# Points beyond which .svg and .pdf hold a picture of them instead of each.
_RASTERIZED = 5000

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


def as_map(
    ax: Any, title: str | None = None, *, unit: str | None = None, y_axis: str = "auto"
) -> None:
    """Turn axes into a map: equal scales, no frame, a scale bar if there is a unit.

    Parameters
    ----------
    ax : Axes
        Points are drawn already.
    title : str, optional
    unit : str, optional
        Unit of the positions.
    y_axis : {"auto", "up", "down"}, default="auto"
        "down" draws as images are drawn, and as scanpy and squidpy do with an image. "auto" does
        so for a unit of pixels.
    """
    if y_axis not in ("auto", "up", "down"):
        raise ValueError(f"y_axis must be 'auto', 'up' or 'down', got {y_axis!r}.")
    ax.set_aspect("equal")
    ax.set_axis_off()
    down = y_axis == "down" or (y_axis == "auto" and unit in _PIXELS)
    if down and not ax.yaxis_inverted():
        ax.invert_yaxis()
    if unit is not None:
        _scale_bar(ax, unit)
    if title is not None:
        ax.set_title(title)


def _scale_bar(ax: Any, unit: str) -> None:
    """Draw a bar of a round length, up to a fourth of the width, below the map."""
    low, width = ax.dataLim.x0, ax.dataLim.width
    if not np.isfinite(width) or width <= 0:
        return
    step = 10 ** np.floor(np.log10(width / 4))
    length = max(k * step for k in (1, 2, 5) if k * step <= width / 4)
    place = {"transform": ax.get_xaxis_transform(), "clip_on": False}
    ax.plot([low, low + length], [-0.03, -0.03], color="black", linewidth=2, **place)
    ax.text(
        low + length / 2, -0.05, f"{length:g} {unit}", ha="center", va="top",
        fontsize="small", **place
    )  # fmt: skip


def in_unit(what: str, unit: str | None) -> str:
    """The label of a color bar."""
    return f"{what} ({unit or 'tissue units'})"


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


def scatter(
    ax: Any,
    points: NDArray[np.float64],
    color: Any,
    *,
    palette: Any = None,
    categories: Any = None,
    **options: Any,
) -> Any:
    """Scatter positions, colored by a color map (numbers), by the palette (labels) or by RGB.

    Parameters
    ----------
    ax : Axes
    points : ndarray of shape (n_cells, 2)
    color : array-like of shape (n_cells,) or (n_cells, 3)
    palette : dict or list, optional
        Colors of labels: by label, or in the order of the categories.
    categories : array-like, optional
        Labels in order. None takes those of a pandas Categorical, or sorts them.
    **options : dict
        Passed to `matplotlib.axes.Axes.scatter`.

    Returns
    -------
    PathCollection or None
        What a color bar can describe: the points if they are colored by numbers, else None.
        Labels are left in the axes for a legend.
    """
    options = {
        "s": point_size(len(points)),
        "linewidths": 0,
        "rasterized": len(points) > _RASTERIZED,
        **options,
    }
    order = categories_of(color) if categories is None else list(categories)
    color = np.asarray(color)
    if color.ndim == 2:
        ax.scatter(*points.T, c=color, **options)
        return None
    if color.dtype.kind in "fiu" and palette is None and order is None:
        return ax.scatter(*points.T, c=color, **{"cmap": "viridis", **options})
    codes, labels = check_sections(color, len(points))
    names = [str(label) for label in labels.tolist()]
    every = names if order is None else [str(label) for label in order]
    shades = _shades(every, palette)
    for name in every:
        if name in names:
            rows = codes == names.index(name)
            ax.scatter(*points[rows].T, color=shades[name], label=name, **options)
    return None


def categories_of(color: Any) -> list[Any] | None:
    """Categories of a pandas Categorical or Series of them, in order; None for others."""
    categories = getattr(getattr(color, "cat", color), "categories", None)
    return None if categories is None else list(categories)


def _shades(names: list[str], palette: Any) -> dict[str, Any]:
    """A color for each label."""
    if isinstance(palette, Mapping):
        given = {str(name): shade for name, shade in palette.items()}
        lacking = [name for name in names if name not in given]
        if lacking:
            raise ValueError(f"palette has no color for {', '.join(lacking)}.")
        return given
    if palette is not None:
        shades = list(palette)
        if len(shades) < len(names):
            raise ValueError(
                f"palette has {len(shades)} colors for {len(names)} labels. Pass one for each, "
                "in the order of the categories."
            )
        return dict(zip(names, shades, strict=False))
    if len(names) <= len(PALETTE):
        return dict(zip(names, PALETTE, strict=False))
    # The palette, lighter, and darker; 24 colors tell as many labels apart as eyes can.
    to_rgb = import_optional("matplotlib.colors", extra="plot", purpose="plotting").to_rgb
    base = np.array([to_rgb(shade) for shade in PALETTE])
    base[-1] = 0.35  # Gray: black has no darker shade.
    shades = [*base, *(0.45 * base + 0.55), *(0.55 * base)]
    return {name: shades[k % len(shades)] for k, name in enumerate(names)}


def legend_beside(ax: Any, title: str | None = None) -> None:
    """Put a legend to the right of axes, with markers large enough to tell apart."""
    handles = ax.get_legend_handles_labels()[0]
    size = handles[0].get_sizes()[0] if handles else 1.0
    ax.legend(
        title=title,
        frameon=False,
        fontsize="small",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        markerscale=max(1.5, float(np.sqrt(25 / size))),
        ncols=-(-len(handles) // 16),
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
