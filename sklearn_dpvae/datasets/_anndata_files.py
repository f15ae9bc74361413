"""Files that hold an AnnData, or what can be made one: .h5ad, .zarr, SpatialData, .h5mu, .loom.

May import `_utils`.
"""

import gzip
import json
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from .._utils.optional import import_optional
from ._containers import centroids
from ._gene_matching import quote
from ._section import reason


def read_h5ad(path: Path) -> Any:
    """Read an AnnData from an .h5ad file, with a clear error if the file is damaged.

    Parameters
    ----------
    path : Path
        The file, which exists.

    Returns
    -------
    adata : AnnData

    Raises
    ------
    ValueError
        If the file is damaged or of another format.
    ImportError
        If anndata is missing.
    """
    anndata = import_optional("anndata", extra="anndata", purpose="reading .h5ad files")
    return _checked(path, ".h5ad file", lambda: anndata.read_h5ad(path))


def read_h5ad_gz(path: Path) -> Any:
    """Read an AnnData from an .h5ad file that was compressed by gzip, as for GEO."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.stem
        try:
            with gzip.open(path) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise OSError(error.errno, f"{error.strerror} while {path} is unpacked") from error
            raise ValueError(f"{path} is damaged or cut short ({reason(error)}).") from error
        return read_h5ad(target)


def read_zarr(path: Path) -> Any:
    """Read an AnnData from a folder of Zarr."""
    anndata = import_optional("anndata", extra="anndata", purpose="reading .zarr folders")
    return _checked(path, "AnnData in Zarr", lambda: anndata.read_zarr(path))


def read_spatialdata(path: Path) -> Any:
    """Read the one table of a SpatialData in Zarr.

    Where the table has no positions itself, they are the centroids of its shapes, which needs
    spatialdata.
    """
    tables = sorted(p for p in path.glob("table*/*") if _is_group(p))
    if len(tables) != 1:
        raise ValueError(
            f"{path} is a SpatialData with {len(tables)} tables"
            + (f": pass one of {', '.join(map(str, tables))}." if tables else ".")
        )
    adata = read_zarr(tables[0])
    if "spatial" not in adata.obsm and "spatialdata_attrs" in adata.uns:
        spatialdata = import_optional(
            "spatialdata", extra="io", purpose="positions from the shapes of a SpatialData"
        )
        adata.obsm["spatial"] = centroids(spatialdata.read_zarr(path), adata, "global")
    return adata


def read_mudata(path: Path) -> Any:
    """Read the modality of gene expression of an .h5mu file."""
    anndata = import_optional("anndata", extra="anndata", purpose="reading .h5mu files")
    h5py = import_optional("h5py", extra="anndata", purpose="reading .h5mu files")
    with h5py.File(path, "r") as file:
        names = list(file["mod"])
        chosen = names if len(names) == 1 else [n for n in ("rna", "gex", "GEX", "RNA")
                                                if n in names]  # fmt: skip
        if not chosen:
            raise ValueError(
                f"{path} is a MuData (.h5mu) with {len(names)} modalities "
                f"({quote(names) or 'none'}), and none is called rna. Read it by mudata.read_h5mu "
                "and pass the AnnData of the modality, mdata.mod[name]."
            )
        return _checked(path, "MuData", lambda: anndata.io.read_elem(file["mod"][chosen[0]]))


def read_loom(path: Path) -> Any:
    """Read a .loom file: genes in rows, cells in columns."""
    anndata = import_optional("anndata", extra="anndata", purpose="reading .loom files")
    pandas = import_optional("pandas", extra="anndata", purpose="reading .loom files")
    h5py = import_optional("h5py", extra="anndata", purpose="reading .loom files")
    with h5py.File(path, "r") as file:
        var = _attributes(file["row_attrs"])
        obs = _attributes(file["col_attrs"])
        names = next((k for k in ("Gene", "gene", "gene_names", "var_names") if k in var), None)
        if names is None:
            raise ValueError(
                f"{path} is a .loom file without names of genes: row_attrs has "
                f"{quote(var) or 'nothing'}, and no Gene."
            )
        matrix = sparse.csr_matrix(file["matrix"][()].T)
        layers = {key: sparse.csr_matrix(v[()].T) for key, v in file.get("layers", {}).items()}
    cells = next((k for k in ("CellID", "cell_id", "obs_names", "Barcode") if k in obs), None)
    adata = anndata.AnnData(
        matrix,
        obs=pandas.DataFrame(obs, index=None if cells is None else obs[cells].astype(str)),
        var=pandas.DataFrame(var, index=var[names].astype(str)),
        layers=layers,
    )
    if cells is None:
        adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    return adata


def zarr_kind(folder: Path) -> str | None:
    """What a folder of Zarr holds: "zarr" for an AnnData, "spatialdata", or None."""
    if not _is_group(folder):
        return None
    attributes: dict[str, Any] = {}
    for name in (".zattrs", "zarr.json"):
        if (folder / name).exists():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            attributes |= content.get("attributes", content)
    if "spatialdata_attrs" in attributes or (folder / "tables").is_dir():
        return "spatialdata"
    is_anndata = (folder / "obs").is_dir() and (folder / "var").is_dir()
    return "zarr" if is_anndata or attributes.get("encoding-type") == "anndata" else None


def _is_group(folder: Path) -> bool:
    return any((folder / name).exists() for name in (".zgroup", "zarr.json", ".zattrs"))


def _attributes(group: Any) -> dict[str, np.ndarray]:
    found = {}
    for key, dataset in group.items():
        values = dataset[()]
        if values.ndim == 1:
            found[key] = values.astype(str) if values.dtype.kind in "SO" else values
    return found


def _checked(path: Path, what: str, read: Callable[[], Any]) -> Any:
    """Read an AnnData. Whatever goes wrong, the file cannot be read."""
    try:
        with warnings.catch_warnings():
            # The cleaning warns itself, and makes them unique.
            warnings.filterwarnings("ignore", message=".*names are not unique")
            adata = read()
    except Exception as error:
        # anndata passes on what h5py, zarr and pandas raise, and errors of its own.
        if isinstance(error, PermissionError | IsADirectoryError | ImportError | MemoryError):
            raise
        raise ValueError(
            f"{path} is not a readable {what} ({reason(error)}). It may be damaged or cut short, "
            "or of another format."
        ) from error
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise ValueError(f"{path} has no cells or no genes (its shape is {adata.shape}).")
    return adata
