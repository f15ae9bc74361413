"""Read sections from AnnData objects, .h5ad files and Space Ranger output folders.

May import `_utils`.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch

from .._utils.optional import import_optional
from .._utils.validation import check_sections, label_text
from ._genes import align_genes, make_unique, quote
from ._positions import SPATIAL_KEY, find_positions
from ._section_labels import SECTION_KEY, warn_of_unnamed_sections
from ._tenx import read_tenx


def read_sections(
    source: Any,
    *,
    layer: str | None = None,
    spatial_key: str | None = SPATIAL_KEY,
    section_key: str | None = SECTION_KEY,
) -> Bunch:
    """Read one or several sections: expression, positions, names of genes and sections.

    Parameters
    ----------
    source : path, AnnData, list of these, or dict of these
        Where the sections come from:

        * an ``.h5ad`` file or an :class:`anndata.AnnData` object;
        * an output folder of Space Ranger: ``filtered_feature_bc_matrix.h5`` or the folder
          ``filtered_feature_bc_matrix`` with ``matrix.mtx(.gz)``, and
          ``spatial/tissue_positions(_list).csv`` or ``.parquet``. Spots that are not under
          tissue are left out. Positions are (column, row) in pixels of the full image. There are
          no positions if there is no folder ``spatial`` (Cell Ranger);
        * a 10x ``.h5`` matrix, with positions in a folder ``spatial`` beside it if there is one;
        * a list of such sources, or a dict of them by name. Their cells are concatenated, with
          the genes that all sources have, in the order of the first.
    layer : str, default=None
        Layer of the AnnData that holds the expression. None means ``.X``. ``"raw"`` means
        ``.raw.X``, unless a layer has this name.
    spatial_key : str or None, default="spatial"
        Key of ``.obsm`` that holds the positions. If the default key is absent, positions that
        are in one other known place are taken, such as ``.obsm["X_spatial"]`` or the columns x
        and y of ``.obs``. Any other key must exist. With None, positions are not read.
    section_key : str or None, default="section"
        Column of ``.obs`` that holds the labels of sections. If the default column is absent, or
        with None, each source is one section, named by its key in the dict or its file name. Any
        other column must exist.

    Returns
    -------
    sections : :class:`~sklearn.utils.Bunch`
        With the attributes

        X : csr_matrix of shape (n_cells, n_genes)
            Expression as stored, usually counts.
        coords : ndarray of shape (n_cells, n_dims), dtype float64, or None
            Positions in the units of the source. None if the source has no positions.
        genes : ndarray of shape (n_genes,), dtype str
            Names of the genes, made unique.
        sections : ndarray of shape (n_cells,), dtype str
            Section of each cell.
        obs_names : ndarray of shape (n_cells,), dtype str
            Barcodes or names of the cells. They are prefixed by the source if several sources
            share names.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a folder lacks the matrix or the positions.
    ValueError
        If there is no such layer, spatial key or section key (the message lists what there is),
        positions may be in several places,
        a file is damaged, cells have no section label, or sources have no gene in common, or
        only some of them have positions.
    TypeError
        If `source` is of another type.
    ImportError
        If a package of the extra ``anndata`` is missing.

    Warns
    -----
    UserWarning
        If names of genes are repeated (``-1``, ``-2``, ... are appended), or barcodes have no
        position and are left out; if positions are taken from another place than ``spatial_key``;
        if the default column is absent and something else tells sections apart.

    See Also
    --------
    align_genes : Bring a query's genes into the order of a reference's.
    fetch_visium : Download one of 27 public sections.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from sklearn_dpvae.datasets import make_tissue, read_sections
    >>> tissue = make_tissue(n_cells=100, n_genes=20, random_state=0)
    >>> adata = AnnData(tissue.X, obsm={"spatial": tissue.coords})
    >>> section = read_sections({"cortex": adata})
    >>> section.X.shape, section.coords.shape, section.sections[0].item()
    ((100, 20), (100, 2), 'cortex')
    """
    if isinstance(source, Mapping):
        named = {str(name): part for name, part in source.items()}
    elif isinstance(source, list | tuple):
        names = [_name(part, number) for number, part in enumerate(source, 1)]
        named = dict(zip(make_unique(names)[0].tolist(), source, strict=True))
    else:
        named = {_name(source, 1): source}
    if not named:
        raise ValueError("source is empty: give at least one section to read.")
    parts = {}
    for name, part in named.items():
        parts[name] = _read(part, name, layer, spatial_key, section_key)
    return next(iter(parts.values())) if len(parts) == 1 else _concatenate(parts)


def _name(source: Any, number: int) -> str:
    """Name of a source: its file or folder without suffix, or a number."""
    if not isinstance(source, str | os.PathLike):
        return f"{SECTION_KEY}_{number}"
    path = Path(source).absolute()
    # Space Ranger writes to SAMPLE/outs, and all its matrices have the same name.
    if path.name == "outs":
        path = path.parent
    elif path.name == "filtered_feature_bc_matrix.h5":
        path = path.parents[1] if path.parent.name == "outs" else path.parent
    return path.stem if path.suffix in {".h5", ".h5ad"} else path.name


def _read(
    source: Any, name: str, layer: str | None, spatial_key: str | None, section_key: str | None
) -> Bunch:
    """Read one source."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        if path.is_dir() or path.suffix == ".h5":
            if layer is not None:
                raise ValueError(
                    f"{path} is 10x output, which has no layers; got layer={layer!r}."
                )
            section = read_tenx(path)
            section.sections = np.full(len(section.obs_names), name)
        else:
            section = _from_anndata(read_h5ad(path), name, layer, spatial_key, section_key)
    elif hasattr(source, "obsm") and hasattr(source, "var_names"):
        section = _from_anndata(source, name, layer, spatial_key, section_key)
    else:
        raise TypeError(
            "source must be a path, an AnnData, or a list or dict of these, got "
            f"{type(source).__name__}."
        )
    section.genes, repeated = make_unique(section.genes)
    if repeated:
        warnings.warn(
            f"{len(repeated)} names of genes occur more than once in {name} ({quote(repeated)}); "
            "-1, -2, ... were appended.",
            UserWarning,
            stacklevel=3,
        )
    return section


def read_h5ad(path: Path) -> Any:
    """Read an AnnData from an .h5ad file, with a clear error if the file is not one.

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
    h5py = import_optional("h5py", extra="anndata", purpose="reading .h5ad files")
    try:
        with h5py.File(path, "r") as file:
            if not {"obs", "var"} <= set(file):
                raise ValueError(f"an HDF5 file with {quote_all(file)} instead of obs and var")
        with warnings.catch_warnings():
            # `read_sections` warns itself, and makes them unique.
            warnings.filterwarnings("ignore", message=".*names are not unique")
            adata = anndata.read_h5ad(path)
    except Exception as error:
        # anndata passes on what h5py and pandas raise. Whatever it is, the file cannot be read.
        if isinstance(error, PermissionError | IsADirectoryError | ImportError):
            raise
        raise ValueError(
            f"{path} is not a readable .h5ad file ({' '.join(str(error).split())}). It may be "
            "damaged or cut short, or of another format."
        ) from error
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise ValueError(f"{path} has no cells or no genes (its shape is {adata.shape}).")
    return adata


def _from_anndata(
    adata: Any, name: str, layer: str | None, spatial_key: str | None, section_key: str | None
) -> Bunch:
    """Take the parts out of an AnnData."""
    X, genes = _expression(adata, name, layer)
    coords = None
    if spatial_key == SPATIAL_KEY:
        coords = find_positions(adata, name)
    elif spatial_key in adata.obsm:
        coords = np.asarray(adata.obsm[spatial_key], dtype=np.float64)
    elif spatial_key is not None:
        raise ValueError(
            f"{name} has no positions spatial_key={spatial_key!r}; .obsm has "
            f"{quote_all(adata.obsm)}. Pass one of these keys."
        )
    if section_key is not None and section_key in adata.obs:
        codes, labels = check_sections(adata.obs[section_key], adata.n_obs)
        sections = np.array([label_text(label) for label in labels.tolist()])[codes]
    elif section_key in (None, SECTION_KEY):
        if section_key is not None:
            warn_of_unnamed_sections(adata, name)
        sections = np.full(adata.n_obs, name)
    else:
        raise ValueError(
            f"{name} has no column section_key={section_key!r}; .obs has "
            f"{quote_all(adata.obs)}. Pass one of these columns."
        )
    return Bunch(
        X=X,
        coords=coords,
        genes=np.asarray(genes).astype(str),
        sections=sections,
        obs_names=np.asarray(adata.obs_names).astype(str),
    )


def find_expression(adata: Any, name: str, layer: str | None) -> tuple[Any, Any]:
    """The matrix that `layer` names, as stored in the AnnData, and the names of its columns.

    Parameters
    ----------
    adata : AnnData
    name : str
        What messages call the AnnData.
    layer : str or None
        None means ``.X``. ``"raw"`` means ``.raw.X``, unless a layer has this name.

    Returns
    -------
    X : array, sparse matrix, or backed dataset, of shape (n_cells, n_genes)
    genes : Index of shape (n_genes,)

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    if layer == "raw" and layer not in adata.layers and adata.raw is not None:
        X, genes = adata.raw.X, adata.raw.var_names
    elif layer is None:
        X, genes = adata.X, adata.var_names
    elif layer in adata.layers:
        X, genes = adata.layers[layer], adata.var_names
    else:
        raise ValueError(
            f"{name} has no layer={layer!r}; it has {quote_all(adata.layers)}. Pass one of these, "
            "or None for .X."
        )
    if X is None:
        raise ValueError(
            f"{name} has no .X. Pass layer= to use one of its layers: {quote_all(adata.layers)}."
        )
    return X, genes


def _expression(adata: Any, name: str, layer: str | None) -> tuple[sparse.csr_matrix, Any]:
    """The matrix that `layer` names, as CSR, and the names of its columns."""
    X, genes = find_expression(adata, name, layer)
    if getattr(adata, "isbacked", False):
        X = X[:]
    return sparse.csr_matrix(X), genes


def _concatenate(parts: dict[str, Bunch]) -> Bunch:
    """Concatenate the cells of several sources, with the genes that all of them have."""
    first, *others = parts.values()
    common = set(first.genes.tolist()).intersection(*(part.genes.tolist() for part in others))
    genes = np.array([gene for gene in first.genes.tolist() if gene in common])
    if len(genes) == 0:
        raise ValueError(
            "the sources have no gene in common: "
            + "; ".join(f"{name} has {quote(part.genes)}" for name, part in parts.items())
            + ". Read them separately."
        )
    placed = {name: None if p.coords is None else p.coords.shape[1] for name, p in parts.items()}
    if len(set(placed.values())) > 1:
        raise ValueError(
            "some sources have positions of another number of dimensions than others, or none ("
            + ", ".join(f"{name}: {n or 'no positions'}" for name, n in placed.items())
            + "). Read them separately."
        )
    for what in ("sections", "obs_names"):
        _prefix_shared(parts, what)
    return Bunch(
        X=sparse.vstack([align_genes(p.X, p.genes, genes) for p in parts.values()], format="csr"),
        coords=None
        if first.coords is None
        else np.concatenate([part.coords for part in parts.values()]),
        genes=genes,
        sections=np.concatenate([part.sections for part in parts.values()]),
        obs_names=np.concatenate([part.obs_names for part in parts.values()]),
    )


def _prefix_shared(parts: dict[str, Bunch], what: str) -> None:
    """Put the name of the source before labels if several sources use the same labels."""
    seen: set[str] = set()
    for part in parts.values():
        labels = set(part[what].tolist())
        if seen & labels:
            break
        seen |= labels
    else:
        return
    for name, part in parts.items():
        part[what] = np.array([f"{name}_{label}" for label in part[what].tolist()])


def quote_all(names: Any) -> str:
    """All names for a message, or ``none``."""
    return ", ".join(repr(str(name)) for name in names) or "none"
