"""Cross-validation whose test sets are contiguous blocks of tissue.

Neighboring cells resemble each other, so a random split tests a model on cells whose neighbors
it was trained on. A block leaves them out.

May import `_utils`.
"""

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state, check_scalar

from ._utils.validation import check_coords, check_sections

# Positions along a cut are rounded to this many digits of the extent. Rounding errors then do not
# divide a row of spots at random: it is cut where it ends.
_IN_LINE_DIGITS = 9


class SpatialBlockKFold(BaseCrossValidator):
    """K-fold splitter whose test sets are contiguous blocks of tissue.

    Each section is cut by straight lines (planes in 3-D) into blocks of equal numbers of cells:
    in two across its longest direction, then each half in the same way, until there is a block
    for each fold. A fold tests on one block of every section. Cells at the same position stay
    together.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    blocks_per_fold : int, default=1
        Number of blocks of each section in a test set. The more there are, the smaller they are:
        test cells are nearer to training cells, but cover more kinds of tissue.
    buffer : float, default=0.0
        Width of the margin around the test set that is left out of the training set. 0 leaves
        nothing out.
    buffer_unit : {"distance", "neighbors"}, default="distance"
        ``"distance"`` leaves out training cells that are within `buffer`, in tissue units, of a
        test cell of their section. ``"neighbors"`` leaves out training cells that are among the
        `buffer` cells nearest to a test cell. This suits sections in different units; `buffer`
        must then be an integer.
    random_state : int, RandomState instance or None, default=None
        None always cuts across the directions of largest variance. Otherwise the directions are
        drawn at random, with a preference for large variance, and so is the order of the folds.
        Pass an int for folds that are the same in every call.

    See Also
    --------
    sklearn.model_selection.LeaveOneGroupOut : Tests on whole sections.

    Notes
    -----
    The positions are taken from `y`. scikit-learn's cross-validation passes them there, since they
    are what an estimator learns to predict.

    Section labels reach the splitter as `groups`, or as `sections` when metadata routing is
    enabled: with it, ``cross_validate(estimator, X, coords, cv=SpatialBlockKFold(),
    params={"sections": labels})`` gives the labels to splitter, estimator and scorer.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.model_selection import SpatialBlockKFold
    >>> coords = np.array([[x, y] for x in range(4) for y in range(2)])
    >>> for train, test in SpatialBlockKFold(n_splits=2, buffer=1.0).split(coords, coords):
    ...     print(train, test)
    [6 7] [0 1 2 3]
    [0 1] [4 5 6 7]
    """

    # Both hold labels of sections: scikit-learn's name for them in splitters, and this package's.
    __metadata_request__split = {"groups": True, "sections": True}  # noqa: RUF012

    def __init__(
        self,
        n_splits: int = 5,
        *,
        blocks_per_fold: int = 1,
        buffer: float = 0.0,
        buffer_unit: str = "distance",
        random_state: int | np.random.RandomState | None = None,
    ):
        check_scalar(n_splits, "n_splits", Integral, min_val=2)
        check_scalar(blocks_per_fold, "blocks_per_fold", Integral, min_val=1)
        if buffer_unit not in ("distance", "neighbors"):
            raise ValueError(
                f"buffer_unit must be 'distance' or 'neighbors', got {buffer_unit!r}."
            )
        number = Integral if buffer_unit == "neighbors" and buffer != 0 else Real
        check_scalar(buffer, "buffer", number, min_val=0)
        self.n_splits = n_splits
        self.blocks_per_fold = blocks_per_fold
        self.buffer = buffer
        self.buffer_unit = buffer_unit
        self.random_state = random_state

    def split(
        self,
        X: Any,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        sections: ArrayLike | None = None,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Generate the rows of each fold's training and test set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Not looked at.
        y : array-like of shape (n_samples,) or (n_samples, n_dims)
            Positions, in tissue units.
        groups : array-like of shape (n_samples,), default=None
            Section label of each row. None means that all rows are of one section.
        sections : array-like of shape (n_samples,), default=None
            The same labels under this package's name. Pass either `groups` or `sections`.

        Yields
        ------
        train, test : ndarray of int
            Sorted rows. Each row is in the test set of one fold.

        Raises
        ------
        ValueError
            If `y` is None, NaN or infinite, a section has fewer distinct positions than blocks,
            `groups` and `sections` disagree, or the buffer leaves no training cells.
        """
        if y is None:
            raise ValueError(
                "SpatialBlockKFold cuts the tissue by its positions, but y is None. Pass the "
                "coordinates as y: split(X, coords)."
            )
        coords = check_coords(y, name="y")
        codes, labels = self._section_codes(groups, sections, len(coords))

        folds = self._folds(coords, codes, labels)
        for fold in range(self.n_splits):
            in_test = folds == fold
            in_train = ~in_test
            if self.buffer > 0:
                for code in range(len(labels)):
                    members = np.flatnonzero(codes == code)
                    near = self._in_buffer(coords[members], in_test[members])
                    in_train[members[near]] = False
            if not in_train.any():
                raise ValueError(
                    f"buffer={self.buffer} ({self.buffer_unit}) leaves no training cells in fold "
                    f"{fold} of {self.n_splits}. Lower buffer or raise n_splits."
                )
            yield np.flatnonzero(in_train), np.flatnonzero(in_test)

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, *, sections: Any = None
    ) -> int:
        """Number of folds.

        Parameters
        ----------
        X, y, groups, sections : object
            Ignored.

        Returns
        -------
        int
        """
        return self.n_splits

    @staticmethod
    def _section_codes(
        groups: ArrayLike | None, sections: ArrayLike | None, n_samples: int
    ) -> tuple[NDArray[np.int64], NDArray]:
        if groups is None:
            return check_sections(sections, n_samples)
        codes, labels = check_sections(groups, n_samples)
        if sections is not None:
            other, _ = check_sections(sections, n_samples)
            pairs = np.unique(np.column_stack([codes, other]), axis=0)
            if not len(pairs) == len(labels) == len(np.unique(other)):
                raise ValueError(
                    "groups and sections divide the rows differently, but SpatialBlockKFold takes "
                    "both as the labels of sections. Pass only one of them."
                )
        return codes, labels

    def _folds(
        self, coords: NDArray[np.float64], codes: NDArray[np.int64], labels: NDArray
    ) -> NDArray[np.intp]:
        """Number of the fold that tests each row."""
        rng = None if self.random_state is None else check_random_state(self.random_state)
        n_blocks = self.n_splits * self.blocks_per_fold
        folds = np.empty(len(coords), dtype=np.intp)
        for code, label in enumerate(labels.tolist()):
            members = np.flatnonzero(codes == code)
            spots, spot_of_cell, n_cells = np.unique(
                coords[members], axis=0, return_inverse=True, return_counts=True
            )
            if len(spots) < n_blocks:
                raise ValueError(
                    f"section {label!r} has {len(spots)} distinct position(s) and cannot be cut "
                    f"into {n_blocks} blocks. Lower n_splits (or blocks_per_fold), or leave the "
                    "section out."
                )
            blocks = np.empty(len(spots), dtype=np.intp)
            _cut(spots, n_cells, np.arange(len(spots)), 0, n_blocks, rng, blocks)
            # Blocks of successive numbers are neighbors: give them to different folds.
            fold_of_block = np.concatenate(
                [
                    np.arange(self.n_splits) if rng is None else rng.permutation(self.n_splits)
                    for _ in range(self.blocks_per_fold)
                ]
            )
            folds[members] = fold_of_block[blocks[spot_of_cell.ravel()]]
        return folds

    def _in_buffer(
        self, coords: NDArray[np.float64], in_test: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which cells of a section are test cells, or too near to them."""
        test = coords[in_test]
        if self.buffer_unit == "distance":
            distances, _ = KDTree(test).query(coords)
            return distances <= self.buffer
        near = in_test.copy()
        # The nearest cell of a test cell is the cell itself, or one at the same position.
        n_neighbors = min(int(self.buffer) + 1, len(coords))
        _, neighbors = KDTree(coords).query(test, k=n_neighbors)
        near[neighbors.ravel()] = True
        return near


def _cut(
    spots: NDArray[np.float64],
    n_cells: NDArray[np.intp],
    members: NDArray[np.intp],
    first: int,
    n_blocks: int,
    rng: np.random.RandomState | None,
    blocks: NDArray[np.intp],
) -> None:
    """Cut some spots (`members`) into blocks by recursive bisection; write their numbers.

    The numbers, from `first` on, go into `blocks`.
    """
    if n_blocks == 1:
        blocks[members] = first
        return
    n_left = n_blocks // 2
    order = members[_order_along_cut(spots[members], n_cells[members], rng)]
    cells_before = np.cumsum(n_cells[order])
    share = n_left / n_blocks * cells_before[-1]
    # Spots cannot be divided, and each block needs at least one.
    nearest = np.argmin(np.abs(cells_before - share)) + 1
    n_before = int(np.clip(nearest, n_left, len(order) - (n_blocks - n_left)))
    _cut(spots, n_cells, order[:n_before], first, n_left, rng, blocks)
    _cut(spots, n_cells, order[n_before:], first + n_left, n_blocks - n_left, rng, blocks)


def _order_along_cut(
    spots: NDArray[np.float64], n_cells: NDArray[np.intp], rng: np.random.RandomState | None
) -> NDArray[np.intp]:
    """Order of spots along the principal axis, or along a random direction near it."""
    # The spots differ, so their extent is not zero.
    scaled = (spots - spots.min(axis=0)) / np.ptp(spots, axis=0).max()
    centered = scaled - np.average(scaled, axis=0, weights=n_cells)
    covariance = (centered * n_cells[:, None]).T @ centered
    covariance /= np.trace(covariance)
    if rng is None:
        direction = np.linalg.eigh(covariance)[1][:, -1]
        direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
    else:
        # Any direction in a round piece of tissue, mostly the longest one in an elongated piece.
        direction = covariance @ covariance @ rng.standard_normal(len(covariance))
        direction /= np.linalg.norm(direction)
    along = np.round(centered @ direction, _IN_LINE_DIGITS)
    return np.lexsort((*centered.T, along))
