"""Output folders of Space Ranger and Cell Ranger: which matrix, and where the spots are.

May import `_utils`.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._gene_matching import quote
from ._section import reason
from ._tables import read_frame, read_table
from ._tenx import read_mtx, read_tenx_h5

# The columns of a file of positions. Files up to Space Ranger 1.3 have no header.
POSITION_COLUMNS = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)

_FILTERED = ("filtered_feature_bc_matrix", "filtered_feature_cell_matrix")
_TRUE, _FALSE = {"1", "1.0", "true", "t"}, {"0", "0.0", "false", "f", ""}


def read_spaceranger(path: Path) -> Bunch:
    """Read an output folder of Space Ranger or Cell Ranger, or a matrix in it.

    Parameters
    ----------
    path : Path
        The sample's folder, its ``outs``, a folder of one bin size or of segmented cells, the
        folder of a matrix, ``spatial``, or a matrix in .h5 or .mtx format.

    Returns
    -------
    Bunch
        See `raw_section`. Positions are (x, y) in pixels of the full image. They are None if
        there is no folder ``spatial``.

    Raises
    ------
    FileNotFoundError
        If there is no matrix, or a folder ``spatial`` has no positions.
    ValueError
        If there are several bin sizes, or a file cannot be read.
    """
    if path.is_file():
        matrix = path.parent if path.name.startswith("matrix.mtx") else path
    elif _has_mtx(path):
        matrix = path
    else:
        path = _folder_of_results(path)
        matrix = _find_matrix(path)
    section = read_mtx(matrix) if matrix.is_dir() else read_tenx_h5(matrix)
    folder = path if path.is_dir() and path != matrix else matrix.parent
    if not (folder / "spatial").is_dir() and matrix.is_dir():
        folder = matrix
    if "raw" in matrix.name:
        section.notes.append(f"it is the raw matrix {matrix.name}")
    _place(section, folder, matrix)
    _name_libraries(section, folder)
    return section


def _has_mtx(folder: Path) -> bool:
    return any((folder / f"matrix.mtx{end}").exists() for end in ("", ".gz"))


def _folder_of_results(path: Path) -> Path:
    """The folder with the matrix, from the sample above it, or from ``spatial`` in it."""
    if path.name == "spatial":
        path = path.parent
    if (path / "outs").is_dir():
        path = path / "outs"
    if any(path.glob("*_matrix*")) or not path.is_dir():
        return path
    bins = sorted(folder for folder in path.glob("binned_outputs/*") if folder.is_dir())
    cells = path / "segmented_outputs"
    found = [*bins, *([cells] if cells.is_dir() else [])]
    if path.name == "binned_outputs":
        found = sorted(folder for folder in path.iterdir() if folder.is_dir())
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{path} has results for several sizes of bins. Pass one of the folders "
            f"{', '.join(str(folder.relative_to(path)) for folder in found)}."
        )
    return path


def _find_matrix(folder: Path) -> Path:
    for name in _FILTERED:
        for exact in (folder / f"{name}.h5", folder / name):
            if exact.exists():
                return exact
        # Files that were downloaded one by one begin with the name of the sample.
        prefixed = sorted(folder.glob(f"*{name}.h5")) + sorted(folder.glob(f"*{name}/"))
        if len(prefixed) == 1:
            return prefixed[0]
        if prefixed:
            raise FileNotFoundError(
                f"{folder} has several matrices ({quote(p.name for p in prefixed)}). Pass the "
                "path of one .h5 file, or make a folder for each section."
            )
    if _has_mtx(folder):
        return folder
    others = sorted(folder.glob("*_matrix.h5")) + sorted(folder.glob("*_matrix/"))
    raw = [p for p in others if "raw_feature" in p.name]
    if raw and (folder / "spatial").is_dir():
        return raw[0]
    if others:
        why = "is another matrix"
        if raw:
            why = (
                "has the barcodes of no cells, too, and there is no folder 'spatial' to tell them"
            )
        elif any("probe" in p.name for p in others):
            why = "has probes, which are summed by gene if you pass the path of the file"
        raise FileNotFoundError(
            f"no count matrix {_FILTERED[0]} in {folder}, only {quote(p.name for p in others)}, "
            f"which {why}. Copy {_FILTERED[0]}.h5 there, or pass the path of the file itself if "
            "that is what you mean."
        )
    raise FileNotFoundError(
        f"no count matrix in {folder}: expected {_FILTERED[0]}.h5 or a folder {_FILTERED[0]} with "
        "matrix.mtx or matrix.mtx.gz, as Space Ranger writes them (often in its folder 'outs'). "
        f"There are {quote(sorted(p.name for p in folder.iterdir())) or 'no files'}."
    )


def _place(section: Bunch, folder: Path, matrix: Path) -> None:
    """Give each barcode of the matrix its position, and say which are not under tissue."""
    cells = sorted(folder.glob("*cell_segmentations.geojson"))
    if "cell_matrix" in matrix.name and cells:
        barcodes, coords = _read_outlines(cells[0])
        under_tissue = np.ones(len(barcodes), dtype=bool)
        file = cells[0]
    elif (folder / "spatial").is_dir():
        file = _find_positions(folder / "spatial")
        barcodes, under_tissue, coords = _read_positions(file)
    else:
        return
    row_of = {name: row for row, name in enumerate(barcodes.tolist())}
    rows = np.array([row_of.get(name, -1) for name in section.obs_names.tolist()], dtype=int)
    placed = rows >= 0
    placed[placed] = under_tissue[rows[placed]]
    if not placed.any():
        raise ValueError(
            f"none of the {len(rows)} barcodes of the matrix is under tissue in {file} "
            f"(matrix: {quote(section.obs_names)}; positions: {quote(barcodes)}). "
            "Are matrix and positions of the same section?"
        )
    section.in_tissue = placed
    section.coords = coords[rows]


def _find_positions(spatial: Path) -> Path:
    for stem in ("tissue_positions", "tissue_positions_list"):
        for end in (".csv", ".csv.gz", ".parquet"):
            if (spatial / (stem + end)).exists():
                return spatial / (stem + end)
    found = sorted(p for p in spatial.glob("*tissue_positions*") if not p.name.startswith("."))
    if len(found) == 1:
        return found[0]
    raise FileNotFoundError(
        f"no positions of spots in {spatial}: expected tissue_positions.csv, "
        "tissue_positions_list.csv or tissue_positions.parquet, as Space Ranger writes them."
    )


def _read_positions(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return barcodes, whether they are under tissue, and positions (x, y) in pixels."""
    if path.suffix == ".parquet":
        frame = read_frame(path)
        try:
            columns = [frame[name].to_numpy() for name in POSITION_COLUMNS]
        except KeyError as error:
            raise ValueError(f"{path} is not readable ({reason(error)}).") from error
    else:
        columns = _columns(path, read_table(path))
    barcodes, in_tissue, _, _, pixel_row, pixel_col = columns
    try:
        # Columns of pixels run along x, rows along y (downwards).
        coords = np.stack([pixel_col.astype(np.float64), pixel_row.astype(np.float64)], axis=1)
    except ValueError as error:
        raise ValueError(f"{path} has positions that are not numbers ({error}).") from error
    said = [str(value).strip().lower() for value in in_tissue.tolist()]
    unknown = set(said) - _TRUE - _FALSE
    if unknown:
        raise ValueError(
            f"{path} has in_tissue={sorted(unknown)[0]!r}; write 1 or 0, or True or False."
        )
    return barcodes.astype(str), np.array([value in _TRUE for value in said]), coords


def _columns(path: Path, rows: list[list[str]]) -> list[np.ndarray]:
    """The columns of a table of text, which may have a header and names of rows."""
    header: tuple[str, ...] = POSITION_COLUMNS
    if rows and "barcode" in rows[0]:
        header, rows = tuple(rows[0]), rows[1:]
        if rows and len(rows[0]) == len(header) + 1:  # R writes no name for names of rows.
            header = ("", *header)
    if not rows or any(len(row) != len(header) for row in rows):
        n_found = f"; it has {len(rows[0])}" if rows else ""
        raise ValueError(
            f"{path} is not a table of {len(header)} columns ({', '.join(header)}){n_found}."
        )
    absent = [name for name in POSITION_COLUMNS if name not in header]
    if absent:
        raise ValueError(
            f"{path} lacks the column(s) {', '.join(absent)}; it has {', '.join(header)}."
        )
    by_name = dict(zip(header, zip(*rows, strict=True), strict=True))
    return [np.array(by_name[name]) for name in POSITION_COLUMNS]


def _read_outlines(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Barcodes of segmented cells, and the centroids of their outlines, in pixels."""
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        barcodes = [_barcode_of(feature["properties"]["cell_id"]) for feature in features]
        coords = [_centroid(feature["geometry"]["coordinates"][0]) for feature in features]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is not a readable file of cells ({reason(error)}).") from error
    return np.array(barcodes), np.array(coords)


def _barcode_of(cell: Any) -> str:
    return f"cellid_{cell:09d}-1" if isinstance(cell, int) else str(cell)


def _centroid(outline: Any) -> np.ndarray:
    """Centroid of the area of a polygon."""
    points = np.asarray(outline, dtype=np.float64)
    start = points[0]
    x, y = (points - start).T
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    if not cross.sum():
        return points.mean(axis=0)
    sums = np.stack([((v[:-1] + v[1:]) * cross).sum() for v in (x, y)])
    centroid: np.ndarray = start + sums / (3 * cross.sum())
    return centroid


def _name_libraries(section: Bunch, folder: Path) -> None:
    """Sections of ``spaceranger aggr``, whose barcodes end on the number of the library."""
    if section.coords is None:
        return
    ends = [re.search(r"-(\d+)$", barcode) for barcode in section.obs_names.tolist()]
    numbers = np.array([int(match.group(1)) if match else 0 for match in ends])
    libraries = np.unique(numbers)
    if len(libraries) < 2:
        return
    names = {n: str(n) for n in libraries.tolist()}
    table = folder / "aggregation.csv"
    if table.exists():
        header, *rows = read_table(table)
        key = "library_id" if "library_id" in header else header[0]
        names |= {i: row[header.index(key)] for i, row in enumerate(rows, 1)}
    section.sections = np.array([names[n] for n in numbers.tolist()])
    section.notes.append(
        f"its barcodes end on {len(libraries)} numbers, which are taken for sections "
        f"({quote(dict.fromkeys(section.sections.tolist()))})"
    )
