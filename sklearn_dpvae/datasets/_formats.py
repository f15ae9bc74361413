"""What a file or folder is, by its content, and who reads it.

May import `_utils`.
"""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._utils.optional import import_optional
from . import _anndata_files, _imaging, _spaceranger, _tables
from ._anndata_files import zarr_kind
from ._gene_matching import quote
from ._section import reason

HDF5 = b"\x89HDF\r\n\x1a\n"
GZIP = b"\x1f\x8b"

# Formats that are read into an AnnData, and those that are read into a raw section.
ANNDATA_READERS: dict[str, Callable[[Path], Any]] = {
    "h5ad": _anndata_files.read_h5ad,
    "h5ad.gz": _anndata_files.read_h5ad_gz,
    "zarr": _anndata_files.read_zarr,
    "spatialdata": _anndata_files.read_spatialdata,
    "h5mu": _anndata_files.read_mudata,
    "loom": _anndata_files.read_loom,
}
SECTION_READERS: dict[str, Callable[[Path], Any]] = {
    "10x": _spaceranger.read_spaceranger,
    "xenium": _imaging.read_xenium,
    "cosmx": _imaging.read_cosmx,
    "merscope": _imaging.read_merscope,
    "text": _tables.read_counts_table,
}

# Groups of HDF5 files of other programs.
_OTHER_HDF5 = {
    "barcode_idx": "molecule_info.h5 of Cell Ranger, which has molecules, not cells",
    "geneExp": ".gef file of Stereo-seq. Convert it to .h5ad by stereopy",
    "cellBin": ".cgef file of Stereo-seq. Convert it to .h5ad by stereopy",
    "cell.names": "file of SeuratDisk (.h5Seurat). Convert it to .h5ad by SeuratDisk::Convert",
    "obsm": "part of an AnnData",
}
_OF_R = "R data file. Save the object as .h5ad from R, for instance by zellkonverter"


def format_of(path: Path) -> str:
    """Say what a file or folder is.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        A key of `ANNDATA_READERS` or `SECTION_READERS`.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is of a format that is not read; the message names it.
    """
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_folder(path: Path) -> str:
    kind = zarr_kind(path)
    if kind is not None:
        return kind
    if path.name == "cell_feature_matrix" or any(
        (path / name).exists()
        for name in ("experiment.xenium", "cell_feature_matrix.h5", "cell_feature_matrix")
    ):
        return "xenium"
    for pattern, kind in (("*exprMat_file.csv*", "cosmx"), ("*cell_by_gene*.csv*", "merscope")):
        if any(path.glob(pattern)):
            return kind
    return "10x"


def _of_file(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(1024)
    if head.startswith(GZIP):
        try:
            with gzip.open(path) as inner:
                inside = inner.read(1024)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is damaged or cut short ({reason(error)}).") from error
        if inside.startswith(HDF5):
            return "h5ad.gz"
        head = inside
    elif HDF5 in (head[:8], head[512:520]):  # MuData puts a block of text before the rest.
        return _of_hdf5(path)
    if head.startswith(b"%%MatrixMarket"):
        if not path.name.startswith("matrix.mtx"):
            raise ValueError(
                f"{path} is a matrix in Matrix Market format without names of genes and cells. "
                "Put it into a folder as matrix.mtx, beside features.tsv and barcodes.tsv, and "
                "pass the folder."
            )
        return "10x"
    for start, name in (
        (b"RDX", _OF_R),
        (b"X\n\x00", _OF_R),
        (b"PK\x03\x04", "zip archive. Unpack it, and pass what is in it"),
        (b"PAR1", "table in Parquet. Pass the folder that it belongs to"),
        (b"\x80", "pickle of Python"),
    ):
        if head.startswith(start):
            raise ValueError(f"{path} is not a readable .h5ad file or section: it is a {name}.")
    if head[257:262] == b"ustar":
        raise ValueError(f"{path} is a tar archive. Unpack it, and pass the folder.")
    return _of_text(path, head)


def _of_hdf5(path: Path) -> str:
    h5py = import_optional("h5py", extra="anndata", purpose="reading HDF5 files (.h5ad, .h5)")
    try:
        with h5py.File(path, "r") as file:
            keys = set(file)
            encoding = file.attrs.get("encoding-type")
            groups = [key for key in keys if isinstance(file[key], h5py.Group)]
            old_10x = any("barcodes" in file[key] for key in groups)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"{path} is not a readable HDF5 file ({reason(error)}). It may be damaged or cut "
            "short."
        ) from error
    if encoding == "MuData" or ("mod" in keys and encoding != "anndata"):
        return "h5mu"
    if {"obs", "var"} <= keys:
        return "h5ad"
    if {"row_attrs", "col_attrs"} <= keys:
        return "loom"
    if "matrix" in groups or old_10x:
        is_xenium = path.name.startswith("cell_feature_matrix") and any(
            (path.parent / name).exists()
            for name in ("cells.parquet", "cells.csv.gz", "cells.csv")
        )
        return "xenium" if is_xenium else "10x"
    for key, name in _OTHER_HDF5.items():
        if key in keys:
            raise ValueError(f"{path} is not a readable .h5ad file or section: it is a {name}.")
    raise ValueError(
        f"{path} is not a readable .h5ad file: an HDF5 file with "
        f"{quote(sorted(keys)) or 'nothing'} instead of obs and var, or a matrix of 10x Genomics."
    )


def _of_text(path: Path, head: bytes) -> str:
    """Which table of text it is, or an error if it is none."""
    try:
        first = head.decode("utf-8-sig", errors="strict" if len(head) < 1024 else "ignore")
    except UnicodeDecodeError:
        first = "\x00"
    if "\x00" in first or not first.strip():
        what = "empty" if not head else "of no format that is known here"
        raise ValueError(
            f"{path} is not a readable .h5ad file, section, or matrix of 10x Genomics: it is "
            f"{what}. It may be damaged or cut short."
        )
    if "exprMat_file" in path.name:
        return "cosmx"
    if "cell_by_gene" in path.name:
        return "merscope"
    if first.lstrip().startswith(("<", "{", "version https://git-lfs")):
        raise ValueError(
            f"{path} is not a readable .h5ad file or section: it begins with "
            f"{first.split(chr(10))[0][:40]!r}. Was the download complete?"
        )
    return "text"
