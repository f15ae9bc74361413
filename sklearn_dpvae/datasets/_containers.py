"""Objects that hold several AnnData: SpatialData and MuData.

May import `_utils`.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .._utils.optional import import_optional

# Names of the modality of expression, as muon and Cell Ranger call it.
EXPRESSION = ("rna", "RNA", "gex", "GEX")


def is_spatialdata(data: Any) -> bool:
    """Whether an object is a SpatialData."""
    return hasattr(data, "tables") and hasattr(data, "shapes")


def is_mudata(data: Any) -> bool:
    """Whether an object is a MuData."""
    return isinstance(getattr(data, "mod", None), Mapping)


def table_of(data: Any, table: str | None = None, coordinate_system: str | None = None) -> Any:
    """The AnnData that is meant.

    Parameters
    ----------
    data : AnnData, SpatialData or MuData
    table : str, optional
        Table of a SpatialData, or modality of a MuData. None takes the only one, and of a MuData
        the one of gene expression.
    coordinate_system : str, optional
        Of a SpatialData, in which positions are the centroids of the shapes or labels that the
        table annotates. None takes ``.obsm["spatial"]`` of the table, or the system "global" if
        it has none.

    Returns
    -------
    AnnData
        A copy where positions were put into it.

    Raises
    ------
    TypeError
        If `table` or `coordinate_system` is given and `data` is neither.
    ValueError
        If there is no such table, or several and none is named.
    """
    if is_mudata(data):
        named = {name: data.mod[name] for name in data.mod}
        if table is None and len(named) > 1:
            table = next((name for name in EXPRESSION if name in named), None)
        return _named(named, table, "MuData", "modalities")
    if is_spatialdata(data):
        adata = pick_table(data, table)
        has_positions = "spatial" in adata.obsm
        annotates = "spatialdata_attrs" in adata.uns
        if coordinate_system is not None or (annotates and not has_positions):
            adata = adata.copy()
            adata.obsm["spatial"] = centroids(data, adata, coordinate_system or "global")
        return adata
    if table is not None or coordinate_system is not None:
        raise TypeError(
            f"table and coordinate_system choose from a SpatialData or MuData, but the data are a "
            f"{type(data).__name__}. Leave them out."
        )
    return data


def pick_table(sdata: Any, table: str | None) -> Any:
    """The table of a SpatialData that is named, or the only one; it is no copy."""
    return _named(dict(sdata.tables), table, "SpatialData", "tables")


def centroids(sdata: Any, adata: Any, coordinate_system: str) -> NDArray[np.float64]:
    """Centroids of what the rows of a table annotate, NaN for those that are not there.

    Parameters
    ----------
    sdata : SpatialData
    adata : AnnData
        A table of it.
    coordinate_system : str

    Returns
    -------
    ndarray of shape (n_cells, n_dims)
    """
    spatialdata = import_optional(
        "spatialdata", extra="io", purpose="positions from the shapes of a SpatialData"
    )
    region, instance = _annotated(adata)
    coords: NDArray[np.float64] | None = None
    for name in dict.fromkeys(region.tolist()):
        rows = np.flatnonzero(region == name)
        with warnings.catch_warnings():
            # Instances may be in any order; they are found by their names.
            warnings.filterwarnings(
                "ignore", message="The index of the dataframe is not monotonic"
            )
            found = spatialdata.get_centroids(sdata[name], coordinate_system=coordinate_system)
        frame = found.compute()
        axes = [axis for axis in ("x", "y", "z") if axis in frame]
        if coords is None:
            coords = np.full((adata.n_obs, len(axes)), np.nan)
        coords[rows] = frame[axes].reindex(instance[rows]).to_numpy()
    assert coords is not None
    return coords


def add_shapes(
    sdata: Any,
    adata: Any,
    name: str,
    coords: NDArray[np.float64],
    coordinate_system: str | None = None,
) -> None:
    """Put circles at positions beside a table, under the names of the instances that it has.

    Parameters
    ----------
    sdata : SpatialData
    adata : AnnData
        A table of it.
    name : str
        Of the new shapes, which take the place of older ones.
    coords : ndarray of shape (n_cells, n_dims)
    coordinate_system : str, optional
        That they are in; None is "global".
    """
    models = import_optional(
        "spatialdata.models", extra="io", purpose="writing shapes into a SpatialData"
    )
    transformations = import_optional(
        "spatialdata.transformations", extra="io", purpose="writing shapes into a SpatialData"
    )
    # Half of the spacing, so that circles of neighbors touch.
    spacing = np.median(cKDTree(coords).query(coords, k=min(2, len(coords)))[0].reshape(-1, 1))
    index = _annotated(adata)[1] if "spatialdata_attrs" in adata.uns else adata.obs_names
    index = np.asarray(index)
    # SpatialData warns of elements whose index is not sorted, and finds instances by name.
    order = np.argsort(index, kind="stable")
    circles = models.ShapesModel.parse(
        coords[order],
        geometry=0,
        radius=float(spacing) / 2 or 1.0,
        index=index[order],
        transformations={coordinate_system or "global": transformations.Identity()},
    )
    # SpatialData warns of an element that takes the place of another.
    if name in sdata.shapes:
        del sdata.shapes[name]
    sdata.shapes[name] = circles


def _named(parts: dict[str, Any], name: str | None, what: str, kind: str) -> Any:
    known = ", ".join(parts) or "(none)"
    if name is None and len(parts) == 1:
        return next(iter(parts.values()))
    if name not in parts:
        said = "and none is named" if name is None else f"and no {name!r}"
        raise ValueError(f"the {what} has the {kind} {known}, {said}. Name one by table=.")
    return parts[name]


def _annotated(adata: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Name of the element and of the instance in it, for each row of a table."""
    keys = adata.uns["spatialdata_attrs"]
    return np.asarray(adata.obs[keys["region_key"]]), np.asarray(adata.obs[keys["instance_key"]])
