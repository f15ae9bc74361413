"""What a fitted model knows of a section of which some cells are known.

Imports the adapted map and the frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .adaptation import AdaptedMap
from .frames import SectionFrame

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class KnownCells:
    """Known cells of one section of a query, and what they have taught.

    Attributes
    ----------
    frame : SectionFrame
        Of the reference, in which the section is answered without them.
    rows : ndarray of shape (n_rows,)
        Rows of the query that belong to the section.
    indices : ndarray of shape (n_known,)
        Those of `rows` that are known.
    coords : ndarray of shape (n_known, n_dims)
        Where they are.
    adapted : AdaptedMap or None
        What they have taught beyond the pose.
    """

    frame: SectionFrame
    rows: NDArray[np.intp]
    indices: NDArray[np.intp]
    coords: Array
    adapted: AdaptedMap | None


def radii_told_by(known: Sequence[KnownCells], n_cells: int, level: float) -> Array:
    """Radii that hold the true position with a probability, as known cells of a section tell.

    Parameters
    ----------
    known : sequence of KnownCells
    n_cells : int
    level : float

    Returns
    -------
    ndarray of shape (n_cells,)
        0 for known cells, and NaN where they have taught nothing.
    """
    radius = np.full(n_cells, np.nan)
    for section in known:
        if section.adapted is not None:
            radius[section.rows] = section.adapted.radius(level)
        radius[section.rows[section.indices]] = 0.0
    return radius
