"""Model files and tables: what can be written, and what can be read."""

import csv
import io
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from .._persistence import load, save
from .._spatial_model import SpatialModel, as_spatial_model
from .._utils.files import replacing
from .._utils.optional import import_optional

PICKLES = (".joblib", ".pickle", ".pkl")
# What files of data are called; a model of such a name would be taken for one.
_DATA = (
    ".csv",
    ".gz",
    ".h5",
    ".h5ad",
    ".h5mu",
    ".loom",
    ".mtx",
    ".parquet",
    ".tsv",
    ".txt",
    ".zarr",
)


def check_output(path: str, suffixes: tuple[str, ...] = (), inputs: Iterable[Any] = ()) -> Path:
    """Find out before long work whether its result can be written.

    Parameters
    ----------
    path : str
        As it was given by --output.
    suffixes : tuple of str, default=()
        What its name may end with; empty for a model, which may be called anything but data.
    inputs : iterable of path-like
        Files that are read, and must not be overwritten.
    """
    output = Path(path)
    if suffixes and output.suffix not in suffixes:
        raise ValueError(f"cannot tell the format of --output {path}: use {' or '.join(suffixes)}")
    if not suffixes and output.suffix in _DATA:
        raise ValueError(
            f"--output {path} has the name of a data file; name a model, such as "
            f"{output.with_suffix('.dpvae').name}"
        )
    for source in inputs:
        if source is not None and output.exists() and _same_file(output, Path(source)):
            raise ValueError(f"--output {path} would overwrite what is read; name another file")
    if output.is_dir():
        raise IsADirectoryError(f"--output {path} is a folder; name a file")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output {path}: there is no folder {output.parent}")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        what = f"--output {path}: cannot write to the folder {output.parent}"
        raise PermissionError(what) from error
    return output


def _same_file(first: Path, second: Path) -> bool:
    return second.exists() and first.samefile(second)


def save_model(model: SpatialModel, path: Path) -> None:
    """Write a model: as a file that runs no code, or as a pickle if it is called one."""
    if path.suffix not in PICKLES:
        save(model, path)
        return
    with replacing(path) as scratch:
        joblib.dump(model, scratch)


def load_model(path: str) -> SpatialModel:
    """Read a model: one that `sklearn_dpvae.save` wrote, or a pickle, which can run code.

    Only what is called like a pickle is read as one, whatever is in the file.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no such model file: {path}")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a model file; did you mix up the order?")
    if Path(path).suffix not in PICKLES:
        content = load(path)
    else:
        try:
            content = joblib.load(path)
        except Exception as error:  # Damaged pickles raise nearly anything.
            raise ValueError(
                f"{path} is not a model file, or is damaged ({type(error).__name__}: {error})"
            ) from error
    try:
        return as_spatial_model(content)
    except TypeError as error:
        raise ValueError(f"{path} holds no model that can be used here: {error}") from error


def write_h5ad(path: Path, adata: Any) -> None:
    """Write an AnnData, by way of memory: HDF5 may crash the process where a disk is full."""
    h5py = import_optional("h5py", extra="anndata", purpose="writing .h5ad")
    try:
        from anndata.io import write_elem
    except ImportError:  # anndata 0.10
        from anndata.experimental import write_elem
    adata.strings_to_categoricals()
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        write_elem(file, "/", adata)
    with replacing(path) as scratch:
        scratch.write_bytes(image.getbuffer())


def write_csv(
    path: Path | None, names: np.ndarray, coords: np.ndarray, std: np.ndarray | None
) -> None:
    """Write a line for each cell: barcode, x, y (z), and std where there is one.

    Without a path they go to stdout.
    """
    n_dims = coords.shape[1]
    axes = list("xyz"[:n_dims]) if n_dims <= 3 else [f"x{i}" for i in range(1, n_dims + 1)]
    columns = coords if std is None else np.column_stack([coords, std])
    header = ["barcode", *axes, *([] if std is None else ["std"])]
    rows = ([name, *values] for name, values in zip(names, columns.tolist(), strict=True))
    if path is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *rows])
        return
    with replacing(path) as scratch, open(scratch, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
