"""Model files and tables, written at once or not at all."""

import csv
import os
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from .. import __version__
from .._utils.files import replacing

FORMAT = "sklearn-dpvae model"


def check_output(path: str, suffixes: tuple[str, ...] = ()) -> Path:
    """Find out before long work whether its result can be written."""
    output = Path(path)
    if suffixes and output.suffix not in suffixes:
        raise ValueError(f"cannot tell the format of --output {path}: use {' or '.join(suffixes)}")
    if output.is_dir():
        raise IsADirectoryError(f"--output {path} is a folder; name a file")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output {path}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f"--output {path}: cannot write to the folder {output.parent}")
    return output


def save_model(path: Path, pipeline: Any, genes: np.ndarray) -> None:
    """Write a fitted pipeline and the names of the genes it takes."""
    content = {
        "format": FORMAT,
        "version": __version__,
        "pipeline": pipeline,
        "genes": np.asarray(genes),
    }
    with replacing(path) as scratch:
        joblib.dump(content, scratch)


def load_model(path: str) -> dict[str, Any]:
    """Read what `save_model` wrote. As every pickle, such a file can run code."""
    if not Path(path).exists():
        raise FileNotFoundError(f"no such model file: {path}")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a model file; did you mix up the order?")
    if zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} was written by sklearn_dpvae.save; the command reads what "
            "'sklearn-dpvae fit' wrote. Load this one in Python by sklearn_dpvae.load"
        )
    try:
        content = joblib.load(path)
    except Exception as error:  # Damaged pickles raise nearly anything.
        raise ValueError(
            f"{path} is not a model file, or is damaged ({type(error).__name__}: {error})"
        ) from error
    if not (isinstance(content, dict) and content.get("format") == FORMAT):
        raise ValueError(f"{path} is not a model file that 'sklearn-dpvae fit' wrote")
    absent = {"pipeline", "genes"} - content.keys()
    if absent:
        raise ValueError(f"the model file {path} lacks {' and '.join(sorted(absent))}")
    return content


def write_csv(path: Path, names: np.ndarray, coords: np.ndarray, std: np.ndarray) -> None:
    """Write a line for each cell: barcode, x, y (z), std."""
    axes = "xyz" if coords.shape[1] <= 3 else [f"x{i}" for i in range(1, coords.shape[1] + 1)]
    with replacing(path) as scratch, open(scratch, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["barcode", *axes[: coords.shape[1]], "std"])
        for name, point, spread in zip(names.tolist(), coords.tolist(), std.tolist(), strict=True):
            writer.writerow([name, *point, spread])
