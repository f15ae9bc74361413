"""Output folders of instruments that image cells: Xenium, CosMx, MERSCOPE.

May import `_utils`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._gene_matching import quote
from ._section import raw_section
from ._tables import read_frame
from ._tenx import read_mtx, read_tenx_h5


def read_xenium(path: Path) -> Bunch:
    """Read an output folder of Xenium, or the matrix in it.

    Parameters
    ----------
    path : Path
        The folder, ``cell_feature_matrix.h5`` or the folder ``cell_feature_matrix``. Positions
        are read from ``cells.parquet`` or ``cells.csv.gz``, in micrometers.

    Returns
    -------
    Bunch
        See `raw_section`.

    Raises
    ------
    FileNotFoundError
        If the folder has no matrix or no table of cells.
    ValueError
        If a file cannot be read, or lacks cells.
    """
    folder = path if path.is_dir() and path.name != "cell_feature_matrix" else path.parent
    matrix = folder / "cell_feature_matrix.h5" if path == folder else path
    if not matrix.exists():
        matrix = folder / "cell_feature_matrix"
    if not matrix.exists():
        raise FileNotFoundError(
            f"no cell_feature_matrix.h5 and no folder cell_feature_matrix in {folder}, which "
            f"otherwise looks like Xenium's. There are {quote(_names(folder))}."
        )
    section = read_mtx(matrix) if matrix.is_dir() else read_tenx_h5(matrix)
    table = _first(folder, "cells.parquet", "cells.csv.gz", "cells.csv")
    if table is None:
        raise FileNotFoundError(f"no cells.parquet or cells.csv.gz with positions in {folder}.")
    cells = read_frame(table)
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in cells["cell_id"]]
    _place(section, names, _columns(cells, table, "x_centroid", "y_centroid"), table)
    return section


def read_cosmx(path: Path) -> Bunch:
    """Read an output folder of CosMx, or the matrix in it.

    Parameters
    ----------
    path : Path
        The folder, or its ``*_exprMat_file.csv``. Positions are read from
        ``*_metadata_file.csv``, in pixels of all fields of view.

    Returns
    -------
    Bunch
        See `raw_section`. What is outside of cells, with the number 0, is left out.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, or cannot be read.
    """
    matrix = path if path.is_file() else _only(path, "*exprMat_file.csv*")
    table = _only(matrix.parent, "*metadata_file.csv*")
    counts, cells = read_frame(matrix), read_frame(table)
    key = ["fov", "cell_ID"]
    for frame, file in ((counts, matrix), (cells, table)):
        if not set(key) <= set(frame):
            raise ValueError(f"{file} lacks the columns fov and cell_ID of CosMx.")
    counts = counts[counts["cell_ID"] != 0]
    genes = [column for column in counts.columns if column not in {*key, "cell"}]

    def names(frame: Any) -> list[str]:
        return [f"{fov}_{cell}" for fov, cell in frame[key].to_numpy().tolist()]

    section = raw_section(counts[genes].to_numpy(), genes, names(counts))
    coords = _columns(cells, table, "CenterX_global_px", "CenterY_global_px")
    _place(section, names(cells), coords, table)
    return section


def read_merscope(path: Path) -> Bunch:
    """Read an output folder of MERSCOPE, or the matrix in it.

    Parameters
    ----------
    path : Path
        The folder, or its ``cell_by_gene.csv``. Positions are read from ``cell_metadata.csv``,
        in micrometers.

    Returns
    -------
    Bunch
        See `raw_section`.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing, or cannot be read.
    """
    matrix = path if path.is_file() else _only(path, "*cell_by_gene*.csv*")
    table = _only(matrix.parent, "*cell_metadata*.csv*")
    # Names of cells are numbers that floats cannot hold.
    counts = read_frame(matrix, index_col=0, dtype={0: str})
    cells = read_frame(table, index_col=0, dtype={0: str})
    section = raw_section(counts.to_numpy(), list(counts.columns), counts.index)
    coords = _columns(cells, table, "center_x", "center_y")
    _place(section, list(map(str, cells.index)), coords, table)
    return section


def _columns(frame: Any, file: Path, x: str, y: str) -> np.ndarray:
    if not {x, y} <= set(frame):
        raise ValueError(f"{file} has no positions {x} and {y}; it has {quote(frame.columns)}.")
    found: np.ndarray = frame[[x, y]].to_numpy(dtype=np.float64)
    return found


def _place(section: Bunch, cells: list[str], coords: np.ndarray, file: Path) -> None:
    """Give each cell of a matrix its position."""
    row_of = {name: row for row, name in enumerate(cells)}
    rows = np.array([row_of.get(name, -1) for name in section.obs_names.tolist()], dtype=int)
    if (rows < 0).all():
        raise ValueError(
            f"none of the {len(rows)} cells of the matrix is in {file} (matrix: "
            f"{quote(section.obs_names)}; positions: {quote(cells)}). Do they belong together?"
        )
    section.coords = np.where((rows >= 0)[:, None], coords[rows], np.nan)


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(
            f"expected one file {pattern} in {folder}, found "
            f"{quote(p.name for p in found) or 'none'}."
        )
    return found[0]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
