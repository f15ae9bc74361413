"""Signs that an AnnData without a column of sections holds several.

Imports nothing of this package.
"""

import re
import warnings
from typing import Any

import numpy as np

SECTION_KEY = "section"

OTHER_COLUMNS = ("library_id", "sample", "sample_id", "batch", "slide", "slide_id")


def warn_of_unnamed_sections(adata: Any, name: str) -> None:
    """Warn if something else tells sections apart.

    Signs are another column of ``.obs``, several libraries in ``.uns["spatial"]``, and barcodes
    of 10x that end on numbers of their own.

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
        found = [re.fullmatch(r"[ACGT]{12,}-(\d+)", str(barcode)) for barcode in adata.obs_names]
        ends = np.unique([match.group(1) for match in found if match])
        if len(ends) < 2:
            return
        sign = f"its barcodes end on {len(ends)} numbers ({_some(ends.tolist())})"
    _warn(name, sign, "a column of .obs that tells them apart as section_key=")


def _warn(name: str, sign: str, remedy: str) -> None:
    warnings.warn(
        f"{name} has no column {SECTION_KEY!r} and is taken for one section, but {sign}. If these "
        f"are sections, pass {remedy}, else section_key=None.",
        UserWarning,
        stacklevel=3,
    )


def _some(labels: list[Any]) -> str:
    return ", ".join(map(str, labels[:3])) + (", ..." if len(labels) > 3 else "")
