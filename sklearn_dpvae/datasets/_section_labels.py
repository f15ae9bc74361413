"""Signs that an AnnData without a column of sections holds several.

Imports `_utils` alone of this package.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .._utils.matrix import evenly_spaced
from .._utils.warn import warn

SECTION_KEY = "section"

_CELLS_TO_LOOK_AT = 2000

OTHER_COLUMNS = ("library_id", "sample", "sample_id", "batch", "slide", "slide_id")


def warn_of_unnamed_sections(adata: Any, name: str) -> None:
    """Warn if something else tells sections apart.

    Signs are another column of ``.obs``, several libraries in ``.uns["spatial"]``, and barcodes
    of 10x with several beginnings or ends, as aggregation and concatenation give them.

    Parameters
    ----------
    adata : AnnData
    name : str
        What messages call it.
    """
    for key in OTHER_COLUMNS:
        labels = adata.obs[key].dropna().unique().tolist() if key in adata.obs else []
        if 2 <= len(labels) <= adata.n_obs // 3:
            sign = f".obs[{key!r}] has {len(labels)} labels ({_some(labels)})"
            _warn(name, sign, f"section_key={key!r}")
            return
    libraries = adata.uns.get("spatial")
    if isinstance(libraries, dict) and len(libraries) > 1:
        sign = f".uns['spatial'] has {len(libraries)} libraries ({_some(list(libraries))})"
    else:
        of_barcodes = _sign_of_barcodes(adata.obs_names)
        if of_barcodes is None:
            return
        sign = of_barcodes
    _warn(name, sign, "a column of .obs that tells them apart as section_key=")


def warn_of_pieces(coords: NDArray[np.float64], name: str) -> None:
    """Warn if what is taken for one section lies in pieces far from each other.

    Pieces are far apart where the gap between them is a tenth of the extent of all, and ten times
    the spacing of the cells.

    Parameters
    ----------
    coords : ndarray of shape (n_cells, n_dims)
        Finite.
    name : str
        What messages call it.
    """
    n_cells = len(coords)
    if n_cells < 100:
        return
    some = coords[evenly_spaced(n_cells, _CELLS_TO_LOOK_AT)]
    tree = cKDTree(some)
    spacing = np.median(tree.query(some, k=2)[0][:, 1])
    gap = max(10 * spacing, 0.1 * np.linalg.norm(np.ptp(some, axis=0)))
    pairs = tree.query_pairs(gap, output_type="ndarray")
    links = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(some), len(some)))
    _, piece = connected_components(links, directed=False)
    sizes = np.bincount(piece)
    large = np.flatnonzero(sizes >= 0.1 * len(some))
    if len(large) < 2:
        return
    shares = ", ".join(f"{sizes[i] / len(some):.0%}" for i in large)
    warn(
        f"{name} is taken for one section, but its cells lie in {len(large)} pieces far apart "
        f"({shares} of them), and the distance between pieces says nothing of the tissue if they "
        "were put on the slide one by one. Label them in a column of .obs and name it by "
        "section_key=."
    )


def _warn(name: str, sign: str, remedy: str) -> None:
    warn(
        f"{name} has no column {SECTION_KEY!r} and is taken for one section, but {sign}. If these "
        f"are sections, pass {remedy}, else section_key=None."
    )


def _sign_of_barcodes(names: Any) -> str | None:
    """What tells barcodes apart beside their bases, such as AAAC-1-0 and b_AAAC-1."""
    found = [re.fullmatch(r"(.*?)[ACGT]{12,}(.*)", str(name)) for name in names]
    matches = [match for match in found if match]
    for group, what in ((2, "end on"), (1, "begin with")):
        parts = sorted({match.group(group) for match in matches})
        if 2 <= len(parts) <= len(matches) // 3:
            # -1, -2 and -1-0, -1-1 are numbers.
            tails = [re.fullmatch(r"(?:-\d+)*-(\d+)", part) for part in parts]
            if all(tails) and group == 2:
                shown = [part.removeprefix("-") for part in parts]
                return f"its barcodes {what} {len(parts)} numbers ({_some(shown)})"
            return f"its barcodes {what} {len(parts)} texts ({_some(parts)})"
    return None


def _some(labels: list[Any]) -> str:
    return ", ".join(map(str, labels[:3])) + (", ..." if len(labels) > 3 else "")
