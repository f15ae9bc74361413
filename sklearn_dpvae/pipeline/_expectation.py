"""What a query may expect, by the held-out cells of the reference, and whether to warn of it.

Imports the held-out cells.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from .._utils.counts import kind_of_values, library_sizes
from .._utils.matrix import evenly_spaced, in_memory
from .._utils.warn import warn
from ._held_out import HeldOut

# A p-value below this is that of a cell that is not of the reference.
_UNLIKE = 0.05

# More of such cells, or an expected error nearer to that of a guess and this much above that of
# the own cells of the reference: positions should not be trusted.
_MOST_UNLIKE = 0.5
_NEARLY_A_GUESS = 0.9
_WORSE_THAN_ITS_OWN = 1.2

# Fewer cells of a query than this say little of it; of more, these are looked at.
CELLS_TO_DOUBT = 20
_CELLS_TO_LOOK_AT = 200


@dataclass(frozen=True)
class Expectation:
    """What some cells of a query may expect. NaN stands for what is not known.

    Attributes
    ----------
    depth, reference_depth : float
        Median library sizes of the query and of the held-out cells, over the genes that both have.
    unlike : float
        Share of cells that do not resemble the reference, from 0 to 1.
    expected_error : float
        Median error of held-out cells that are as shallow as the query and lack the same genes.
    reference_error : float
        The same of the held-out cells as they are.
    guess_error : float
        The same if all of them were put into the middle.
    """

    depth: float = np.nan
    reference_depth: float = np.nan
    unlike: float = np.nan
    expected_error: float = np.nan
    reference_error: float = np.nan
    guess_error: float = np.nan

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons not to trust positions."""
        found = []
        if self.unlike > _MOST_UNLIKE:
            found.append(f"{self.unlike:.0%} of the cells do not resemble the reference")
        nearly_a_guess = self.expected_error > _NEARLY_A_GUESS * self.guess_error
        if nearly_a_guess and self.expected_error > _WORSE_THAN_ITS_OWN * self.reference_error:
            found.append(
                f"cells of the reference that are as shallow and lack the same genes are placed "
                f"with an error of {self.expected_error:.3g}, where the middle of the tissue has "
                f"{self.guess_error:.3g}"
            )
        return tuple(found)


def expect(
    held_out: HeldOut,
    pipeline: Any,
    X: Any,
    sections: NDArray[Any] | None,
    missing: NDArray[np.bool_] | None,
    *,
    counts: bool,
) -> Expectation:
    """What some cells of a query may expect.

    Parameters
    ----------
    held_out : HeldOut
    pipeline : SpatialPipeline
        That the query is for.
    X, sections, missing
        The query.
    counts : bool
        Whether it holds counts.
    """
    depth = reference_depth = unlike = np.nan
    depths = library_sizes(X) if counts and held_out.counts else None
    if depths is not None:
        depth = float(np.median(depths))
        reference_depth = float(np.median(library_sizes(held_out.without(missing))))
        depths = depths[depths > 0] if (depths > 0).any() else None
    middle = held_out.coords.mean(axis=0)
    if held_out.slopes is not None:
        unlike = float(np.mean(held_out.p_values(pipeline, X, sections, missing) < _UNLIKE))
    return Expectation(
        depth=depth,
        reference_depth=reference_depth,
        unlike=unlike,
        expected_error=float(np.median(held_out.errors(depths, missing))),
        reference_error=float(np.median(held_out.own_errors)),
        guess_error=float(np.median(np.linalg.norm(held_out.coords - middle, axis=1))),
    )


def warn_of_doubts(
    pipeline: Any, X: Any, sections: ArrayLike | None, missing: NDArray[np.bool_] | None
) -> None:
    """Warn in one line where a query should not be trusted, if enough cells can tell.

    Parameters
    ----------
    pipeline : SpatialPipeline
    X : {array-like, sparse matrix} of shape (n_cells, n_genes)
        What it was asked about, in memory.
    sections : array-like of shape (n_cells,) or None
    missing : ndarray of shape (n_genes,), dtype bool, or None
    """
    held_out: HeldOut | None = getattr(pipeline, "held_out_", None)
    n_cells = _num_samples(X)
    if held_out is None or n_cells < CELLS_TO_DOUBT:
        return
    rows = evenly_spaced(n_cells, _CELLS_TO_LOOK_AT)
    some = in_memory(_safe_indexing(X, rows))
    labels = None if sections is None else np.asarray(sections)[rows]
    counts = kind_of_values(some) == "counts"
    expectation = expect(held_out, pipeline, some, labels, missing, counts=counts)
    say_doubts(expectation.doubts, "sklearn_dpvae.check_query")


def say_doubts(doubts: tuple[str, ...], who: str) -> None:
    """Warn of the first of the reasons not to trust positions, and say who tells more."""
    if doubts:
        warn(f"positions should not be trusted: {doubts[0]}. {who} says more.")
