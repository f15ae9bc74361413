"""The sources that a caller names: one or several paths and objects, each with a name.

May import `_utils`.
"""

import glob
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ._containers import is_mudata, is_spatialdata, table_of
from ._genes import make_unique
from ._section_labels import SECTION_KEY

# Folders and files of Space Ranger that are called alike in all samples.
_ALIKE = {
    "outs",
    "spatial",
    "filtered_feature_bc_matrix",
    "filtered_feature_bc_matrix.h5",
    "raw_feature_bc_matrix.h5",
    "cell_feature_matrix",
    "cell_feature_matrix.h5",
    "binned_outputs",
    "segmented_outputs",
}


def named_sources(source: Any) -> dict[str, Any]:
    """Give each source a name.

    Parameters
    ----------
    source : path, AnnData, or several of these
        A path may begin with ``~`` or be a pattern of several, such as ``"sections/*.h5ad"``.
        Several are a list, a generator, an array or Series, or a dict by name.

    Returns
    -------
    dict
        Paths and objects by name: that of the dict, of the file or folder without suffix, or a
        number.

    Raises
    ------
    FileNotFoundError
        If nothing fits a pattern.
    ValueError
        If there is none, or one is an address on the web.
    TypeError
        If `source` is of another type.
    """
    if isinstance(source, Mapping):
        named = {str(name): expand(part) for name, part in source.items()}
        several = [name for name, parts in named.items() if len(parts) > 1]
        if several:
            raise ValueError(
                f"the pattern of {several[0]!r} fits {len(named[several[0]])} files; a name of "
                "the dict stands for one."
            )
        named = {name: parts[0] for name, parts in named.items()}
    else:
        parts = expand(source)
        names = [_name(part, number) for number, part in enumerate(parts, 1)]
        named = dict(zip(make_unique(names)[0].tolist(), parts, strict=True))
    if not named:
        raise ValueError("source is empty: give at least one section to read.")
    return named


def expand(source: Any) -> list[Any]:
    """The paths and objects that a source stands for; see `named_sources`."""
    if isinstance(source, str | os.PathLike):
        address = re.match(r"(?!file:)[a-z][a-z0-9+.-]+://", str(source))
        if address:
            raise ValueError(
                f"{source} is an address, not a path. Download the file, and pass that."
            )
        path = Path(source).expanduser()
        if not path.exists() and glob.has_magic(str(path)):
            found = sorted(glob.glob(str(path), recursive=True))
            if not found:
                raise FileNotFoundError(f"no file or folder fits the pattern {path}")
            return [Path(name) for name in found]
        return [path]
    if is_mudata(source) or is_spatialdata(source):
        return [table_of(source)]
    if hasattr(source, "obsm") and hasattr(source, "var_names"):
        return [source]
    if isinstance(source, Iterable) and getattr(source, "ndim", 1) == 1:
        # The values of a Series of paths, not its index.
        return [part for item in source for part in expand(item)]
    raise TypeError(
        "source must be a path, an AnnData, or a list or dict of these, got "
        f"{type(source).__name__}."
    )


def _name(source: Any, number: int) -> str:
    """Name of a source: its file or folder without suffix, or a number."""
    if not isinstance(source, Path):
        return f"{SECTION_KEY}_{number}"
    path = source.absolute()
    while path.name in _ALIKE and path.parent.name:
        path = path.parent
    name = path.name.removesuffix(".gz")
    for suffix in (".h5", ".h5ad", ".h5mu", ".loom", ".zarr", ".hdf5", ".csv", ".txt", ".tsv"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
