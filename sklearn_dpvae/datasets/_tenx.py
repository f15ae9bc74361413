"""Files of 10x Genomics: count matrices (.h5, .mtx) and positions of spots.

The formats are described at https://www.10xgenomics.com/support/software/space-ranger, under
"outputs". May import `_utils`.
"""

import csv
import gzip
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy import io, sparse
from sklearn.utils import Bunch

from .._utils.optional import import_optional
from ._gene_matching import quote

GENE_EXPRESSION = "Gene Expression"

# The columns of a file of positions. Files up to Space Ranger 1.3 have no header.
POSITION_COLUMNS = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)


def read_tenx(path: Path) -> Bunch:
    """Read an output folder of Space Ranger or Cell Ranger, or its matrix in .h5 format.

    Parameters
    ----------
    path : Path
        The folder (often called ``outs``), or a ``*filtered_feature_bc_matrix.h5`` in it.

    Returns
    -------
    section : Bunch
        With X (CSR), genes, obs_names, and coords: positions (x, y), in pixels of the full
        image, of the spots under tissue. They are None if there is no folder ``spatial``.

    Raises
    ------
    FileNotFoundError
        If there is no matrix, or a folder ``spatial`` has no positions.
    ValueError
        If a file cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    matrix = _find_matrix(path) if path.is_dir() else path
    X, genes, barcodes = _read_mtx(matrix) if matrix.is_dir() else _read_h5(matrix)
    section = Bunch(X=X, genes=genes, obs_names=barcodes, coords=None)
    spatial = folder / "spatial"
    if spatial.is_dir():
        file = _find_positions(spatial)
        _place(section, file, *_read_positions(file))
    return section


def _find_matrix(folder: Path) -> Path:
    name = "filtered_feature_bc_matrix"
    for exact in (folder / f"{name}.h5", folder / name):
        if exact.exists():
            return exact
    # Files that were downloaded one by one begin with the name of the sample.
    prefixed = sorted(folder.glob(f"*{name}.h5")) + sorted(folder.glob(f"*{name}/"))
    if len(prefixed) == 1:
        return prefixed[0]
    if prefixed:
        raise FileNotFoundError(
            f"{folder} has several matrices ({quote(p.name for p in prefixed)}). Pass the path of "
            "one .h5 file, or make a folder for each section."
        )
    if any((folder / f"matrix.mtx{end}").exists() for end in ("", ".gz")):
        return folder
    raise FileNotFoundError(
        f"no count matrix in {folder}: expected {name}.h5 or a folder {name} with matrix.mtx "
        "or matrix.mtx.gz, as Space Ranger writes them (often in its folder 'outs')."
    )


def _read_h5(path: Path) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Read a feature-barcode matrix in HDF5: compressed columns, one per barcode."""
    h5py = import_optional("h5py", extra="anndata", purpose="reading 10x .h5 files")
    try:
        with h5py.File(path, "r") as file:
            group = file["matrix"]
            n_features, n_barcodes = group["shape"][()]
            # Compressed columns of the transpose are compressed rows.
            X = sparse.csr_matrix(
                (group["data"][()], group["indices"][()], group["indptr"][()]),
                shape=(n_barcodes, n_features),
            )
            X.check_format(full_check=True)
            barcodes = group["barcodes"][()].astype(str)
            genes = group["features"]["name"][()].astype(str)
            kinds = group["features"]["feature_type"][()].astype(str)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a readable 10x feature-barcode matrix ({_reason(error)}). It may be "
            "damaged or cut short, or of another format."
        ) from error
    return _gene_expression(path, X, genes, kinds, barcodes)


def _read_mtx(folder: Path) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Read a matrix in the Matrix Market format, with its two tables of names."""
    matrix = _existing(folder, "matrix.mtx")
    features = _read_table(_existing(folder, "features.tsv", "genes.tsv"), "\t")
    barcodes = _read_table(_existing(folder, "barcodes.tsv"), "\t")
    try:
        X = sparse.csr_matrix(io.mmread(matrix).T)
    except (OSError, ValueError, TypeError, EOFError, zlib.error) as error:
        raise ValueError(f"{matrix} is not a readable .mtx file ({_reason(error)}).") from error
    if X.shape != (len(barcodes), len(features)):
        raise ValueError(
            f"{matrix} has {X.shape[1]} features and {X.shape[0]} barcodes, but the tables "
            f"beside it name {len(features)} and {len(barcodes)}."
        )
    genes = np.array([row[1] if len(row) > 1 else row[0] for row in features])
    kinds = np.array([row[2] if len(row) > 2 else GENE_EXPRESSION for row in features])
    return _gene_expression(folder, X, genes, kinds, np.array([row[0] for row in barcodes]))


def _gene_expression(
    path: Path, X: sparse.csr_matrix, genes: np.ndarray, kinds: np.ndarray, barcodes: np.ndarray
) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Keep the genes only, no antibodies or other features, and store small integers."""
    if not (len(genes) == len(kinds) == X.shape[1] and len(barcodes) == X.shape[0]):
        raise ValueError(f"the names in {path} do not match the {X.shape} of its matrix.")
    is_gene = kinds == GENE_EXPRESSION
    if not is_gene.any():
        raise ValueError(f"{path} has no feature of the type {GENE_EXPRESSION!r}.")
    if not is_gene.all():
        X, genes = X[:, np.flatnonzero(is_gene)], genes[is_gene]
    if X.dtype.kind in "iu" and (X.nnz == 0 or X.data.max() <= np.iinfo(np.int32).max):
        X = X.astype(np.int32)
    return X, genes, barcodes


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


def _read_positions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the barcodes of the spots under tissue and their positions (x, y) in pixels."""
    if path.suffix == ".parquet":
        pandas = import_optional("pandas", extra="anndata", purpose="reading .parquet files")
        import_optional("pyarrow", extra="anndata", purpose="reading .parquet files")
        try:
            frame = pandas.read_parquet(path)
            columns = [frame[name].to_numpy() for name in POSITION_COLUMNS]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path} is not readable ({_reason(error)}).") from error
    else:
        rows = _read_table(path, ",")
        header: tuple[str, ...] = POSITION_COLUMNS
        if rows and rows[0][0] == "barcode":
            header, rows = tuple(rows[0]), rows[1:]
        if not rows or any(len(row) != len(header) for row in rows):
            raise ValueError(f"{path} is not a table of {len(header)} columns.")
        absent = [name for name in POSITION_COLUMNS if name not in header]
        if absent:
            raise ValueError(f"{path} lacks the column(s) {', '.join(absent)}.")
        by_name = dict(zip(header, zip(*rows, strict=True), strict=True))
        columns = [np.array(by_name[name]) for name in POSITION_COLUMNS]
    barcodes, in_tissue, _, _, pixel_row, pixel_col = columns
    try:
        under_tissue = in_tissue.astype(float) == 1
        # Columns of pixels run along x, rows along y (downwards).
        coords = np.stack([pixel_col.astype(np.float64), pixel_row.astype(np.float64)], axis=1)
    except ValueError as error:
        raise ValueError(f"{path} has positions that are not numbers ({error}).") from error
    return barcodes.astype(str)[under_tissue], coords[under_tissue]


def _place(section: Bunch, file: Path, barcodes: np.ndarray, coords: np.ndarray) -> None:
    """Give each barcode of the matrix its position. Drop those that are not under tissue."""
    row_of = {name: row for row, name in enumerate(barcodes.tolist())}
    rows = np.array([row_of.get(name, -1) for name in section.obs_names.tolist()], dtype=int)
    placed = rows >= 0
    if not placed.any():
        raise ValueError(
            f"none of the {len(rows)} barcodes of the matrix is under tissue in {file} "
            f"(matrix: {quote(section.obs_names)}; positions: {quote(barcodes)}). "
            "Are matrix and positions of the same section?"
        )
    if not placed.all():
        warnings.warn(
            f"{(~placed).sum()} of {len(rows)} barcodes of the matrix are not under tissue in "
            f"{file} and were dropped.",
            UserWarning,
            stacklevel=5,
        )
        section.X = section.X[np.flatnonzero(placed)]
        section.obs_names = section.obs_names[placed]
    section.coords = coords[rows[placed]]


def _existing(folder: Path, *names: str) -> Path:
    for name in names:
        for end in (".gz", ""):
            if (folder / (name + end)).exists():
                return folder / (name + end)
    raise FileNotFoundError(f"no {' or '.join(names)} (or .gz) in {folder}.")


def _read_table(path: Path, delimiter: str) -> list[list[str]]:
    """Read a small table of text, compressed or not. Empty lines are skipped."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            return [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise ValueError(f"{path} is not a readable table ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
