"""Positions of cells in an AnnData, wherever they are kept, and cells without one.

May import `_utils`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from .._utils.warn import warn

SPATIAL_KEY = "spatial"

# Keys of .obsm and pairs of columns of .obs that other tools write. The rows and columns of an
# array are left out: their steps are not of the same length.
OTHER_KEYS = ("X_spatial", "spatial3d", "spatial_3d", "spatial_fov", "X_xy", "coordinates")
OTHER_COLUMNS = (
    ("x", "y"),
    ("imagecol", "imagerow"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("CenterX_global_px", "CenterY_global_px"),
    ("spatial_x", "spatial_y"),
    ("xcoord", "ycoord"),
    ("X", "Y"),
)


def find_positions(adata: Any, name: str) -> NDArray[np.float64] | None:
    """Positions in ``.obsm["spatial"]``, or in another place where these are the only ones.

    Parameters
    ----------
    adata : AnnData
    name : str
        What messages call it.

    Returns
    -------
    ndarray of shape (n_cells, n_dims), or None if there are none

    Raises
    ------
    ValueError
        If `SPATIAL_KEY` is absent and there are several other places.

    Warns
    -----
    UserWarning
        If positions are taken from another place.
    """
    if SPATIAL_KEY in adata.obsm:
        return as_positions(adata.obsm[SPATIAL_KEY], f".obsm[{SPATIAL_KEY!r}] of {name}")
    places = {f".obsm[{key!r}]": adata.obsm[key] for key in OTHER_KEYS if key in adata.obsm}
    for pair in OTHER_COLUMNS:
        if set(pair) <= set(adata.obs):
            places[f".obs[{list(pair)}]"] = adata.obs[list(pair)]
    if len(places) > 1:
        raise ValueError(
            f"{name} has no .obsm[{SPATIAL_KEY!r}], and positions may be in "
            f"{' or '.join(places)}. Put those that you mean into "
            f".obsm[{SPATIAL_KEY!r}], or name a key of .obsm by spatial_key=."
        )
    for place, positions in places.items():
        warn(
            f"{name} has no .obsm[{SPATIAL_KEY!r}], so positions are taken from {place}. "
            f"Put others into .obsm[{SPATIAL_KEY!r}] if these are not the ones."
        )
        return as_positions(positions, f"{place} of {name}")
    return None


def as_positions(values: Any, what: str) -> NDArray[np.float64]:
    """Positions as numbers; the columns of a DataFrame are chosen by name.

    Parameters
    ----------
    values : {array-like, DataFrame} of shape (n_cells, n_columns)
    what : str
        What messages call it.

    Returns
    -------
    ndarray of shape (n_cells, n_dims)

    Raises
    ------
    ValueError
        If the values are not numbers, or a DataFrame has more than two columns, none of which
        are known.

    Warns
    -----
    UserWarning
        If columns are left out.
    """
    columns = [str(column) for column in getattr(values, "columns", [])]
    chosen = columns
    for pair in OTHER_COLUMNS:
        if set(pair) <= set(columns):
            chosen = [*pair, *(["z"] if pair == ("x", "y") and "z" in columns else [])]
            break
    else:
        if len(columns) > 2:
            raise ValueError(
                f"{what} has the columns {', '.join(columns)}, and it is not clear which of them "
                "are positions. Keep those, or call them x and y (and z)."
            )
    if len(chosen) < len(columns):
        warn(f"{what} has the columns {', '.join(columns)}; {', '.join(chosen)} are taken.")
    if columns:
        values = values[[name for name in values.columns if str(name) in chosen]]
        values = values.set_axis(map(str, values.columns), axis=1)[chosen]
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} are not numbers ({error}).") from error


def is_located(coords: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether all coordinates of a cell are finite.

    Parameters
    ----------
    coords : ndarray of shape (n_cells, n_dims)

    Returns
    -------
    ndarray of shape (n_cells,), dtype bool
    """
    located: NDArray[np.bool_] = np.all(np.isfinite(coords), axis=1)
    return located


def located_cells(data: Bunch, name: str, verb: str) -> Bunch:
    """The cells of a reference that have a position.

    Parameters
    ----------
    data : Bunch
        What `read_sections` returns, with positions.
    name : str
        What messages call it.
    verb : str
        What is not done with the other cells, such as ``"fitted"``.

    Returns
    -------
    Bunch

    Raises
    ------
    ValueError
        If no cell has a position.

    Warns
    -----
    UserWarning
        If some cells have none.
    """
    located = is_located(data.coords)
    if located.all():
        return data
    n_lost, n_cells = int((~located).sum()), len(located)
    if n_lost == n_cells:
        raise ValueError(
            f"all {n_cells} positions of {name} are NaN or infinite. Name positions that are "
            "known by spatial_key=."
        )
    rows = np.flatnonzero(~located)[:3].tolist()
    first = ", ".join(f"{row} ({data.obs_names[row]})" for row in rows)
    more = ", ..." if n_lost > len(rows) else ""
    warn(
        f"{n_lost} of {n_cells} cells of {name} have a position that is NaN or infinite, and are "
        f"not {verb}: rows {first}{more}. Give their positions, or drop these cells."
    )
    per_cell = ("X", "coords", "sections", "obs_names")
    return Bunch(**data | {key: data[key][located] for key in per_cell})
