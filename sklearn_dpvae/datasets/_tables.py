"""Small tables of text, and tables of counts: Slide-seq, Spatial Transcriptomics.

May import `_utils`.
"""

import csv
import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._utils.optional import import_optional
from ._section import raw_section, reason

_SPOT = re.compile(r"(?:.*_)?(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")
_BARCODE = re.compile(r"[ACGTN]{8,}(-\d+)?")


def read_table(path: Path, delimiter: str | None = None) -> list[list[str]]:
    """Read a small table of text, compressed or not. Empty lines are skipped.

    Parameters
    ----------
    path : Path
    delimiter : str, optional
        None finds out which of comma, semicolon and tab the first line has most of.

    Returns
    -------
    list of list of str

    Raises
    ------
    ValueError
        If it is not text.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        # Spreadsheets put a byte-order mark before the text.
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            if delimiter is None:
                first = file.readline()
                file.seek(0)
                delimiter = max(",;\t", key=first.count)
            return [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise ValueError(f"{path} is not a readable table ({reason(error)}).") from error


def read_frame(path: Path, **options: Any) -> Any:
    """Read a table as a DataFrame: .csv, .txt, .tsv, compressed or not, or .parquet.

    Parameters
    ----------
    path : Path
    **options : dict
        Of `pandas.read_csv`.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    pandas = import_optional("pandas", extra="anndata", purpose=f"reading {path.name}")
    try:
        if path.suffix == ".parquet":
            import_optional("pyarrow", extra="anndata", purpose="reading .parquet files")
            return pandas.read_parquet(path)
        tabs = {".txt", ".tsv"} & set(path.suffixes)
        # Told by its content: downloads are unpacked, and names stay.
        compression = "gzip" if _is_gzip(path) else None
        return pandas.read_csv(path, sep="\t" if tabs else ",", compression=compression, **options)
    except (OSError, ValueError, KeyError, EOFError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is not readable ({reason(error)}).") from error


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def read_counts_table(path: Path) -> Bunch:
    """Read a table of counts: spots of Spatial Transcriptomics, or beads of Slide-seq.

    Spots are called by their place, such as 12x7, which is their position then, in steps of the
    array. Positions of beads are in a table ``*bead_locations*`` beside.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Bunch
        See `raw_section`.

    Raises
    ------
    ValueError
        If rows and columns cannot be told apart.
    """
    frame = read_frame(path, index_col=0, comment="#")
    rows, columns = (list(map(str, axis)) for axis in (frame.index, frame.columns))
    if not rows or not columns:
        raise ValueError(f"{path} is a table of text without counts.")
    in_rows = _are_cells(rows)
    if not in_rows and not _are_cells(columns) and "digital_expression" not in path.name:
        raise ValueError(
            f"{path} is a table of text, of {len(rows)} rows ({rows[0]}, ...) and {len(columns)} "
            f"columns ({columns[0]}, ...), and it is not clear which of them are genes. Read it "
            "into an AnnData: anndata.AnnData(pandas.read_csv(...)), with cells in rows."
        )
    frame = frame if in_rows else frame.T
    cells, genes = list(map(str, frame.index)), list(map(str, frame.columns))
    try:
        X = frame.to_numpy(dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path} has values that are not numbers ({reason(error)}).") from error
    places = [_SPOT.fullmatch(cell) for cell in cells]
    coords = None
    if all(places):
        coords = [[float(p.group(1)), float(p.group(2))] for p in places if p]
    else:
        coords = _bead_locations(path, cells)
    whole = (np.floor(X) == X).all()
    return raw_section(X.astype(np.int64) if whole else X, genes, cells, coords=coords)


def _are_cells(names: list[str]) -> bool:
    some = names[:50]
    return bool(some) and (
        all(_SPOT.fullmatch(name) for name in some)
        or all(_BARCODE.fullmatch(name) for name in some)
    )


def _bead_locations(path: Path, cells: list[str]) -> Any:
    """Positions of Slide-seq's beads, NaN for those that the table lacks; None without one."""
    found = sorted(
        file
        for file in path.parent.iterdir()
        if re.search(r"bead_?locations?", file.name, re.IGNORECASE)
    )
    if len(found) != 1:
        return None
    frame = read_frame(found[0], index_col=0)
    frame.index = frame.index.astype(str)
    numbers = frame.select_dtypes("number").iloc[:, :2]
    return numbers.reindex(cells).to_numpy(dtype=np.float64)
