"""Whether cells are of a part of the tissue that the reference lacks.

Imports nothing of this folder.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

Array = NDArray[np.float64]

# Fewer cells do not tell.
FEWEST_TO_TELL = 20
# The known cells with the nearest features, to which the distance is taken and with which cells
# are compared; and those that are nearest in the tissue.
_N_NEAR, _N_ALIKE = 15, 30
_N_AROUND = 6
# Mean ranks above one half are less than this many standard errors by chance.
_ERRORS_BY_CHANCE = 1.25
# And these mean ranks above one half, by features and in the tissue, are those of cells that are
# all new.
_ALL_FAR = 0.08
_ALL_ALONE = 0.03


class Novelty:
    """Known cells, with which those of a query are compared.

    Two signs tell of a missing part:

    1. Its cells are far from the nearest known ones in the features. These distances have ranks
       among those of the known cells.
    2. Their predicted positions lie where there are no known cells: far from the nearest ones,
       for how far these are from each other. These ratios have ranks among those of the known
       cells with the nearest features, so that a part at the edge of the tissue is none.

    Known cells count as if each alone was new. The mean rank of cells like these is one half or
    less.

    Parameters
    ----------
    features : ndarray of shape (n_known, n_features)
    coords : ndarray of shape (n_known, n_dims)
    codes : ndarray of shape (n_known,)
        In which section.
    placed : ndarray of shape (n_known, n_dims)
        Where they would be placed by networks that were not trained on them.
    """

    def __init__(self, features: Array, coords: Array, codes: NDArray[np.int64], placed: Array):
        self._alike = NearestNeighbors(n_neighbors=min(_N_ALIKE, len(features) - 1)).fit(features)
        self._far = np.sort(self._alike.kneighbors()[0][:, :_N_NEAR].mean(axis=1))
        self._surroundings = {}
        # Of a section of a few cells, nothing is known of how alone they are.
        self._alone = np.full(len(coords), np.inf)
        for code in np.unique(codes).tolist():
            own = codes == code
            if own.sum() > _N_AROUND:
                self._surroundings[code] = _Surroundings(coords[own])
                self._alone[own] = self._surroundings[code].isolation_of_own(placed[own])

    def of(self, features: Array, placed: Array, codes: NDArray[np.int64]) -> float:
        """How much of a query is of a part that the known cells lack.

        Parameters
        ----------
        features : ndarray of shape (n_cells, n_features)
        placed : ndarray of shape (n_cells, n_dims)
            Predicted positions.
        codes : ndarray of shape (n_cells,)
            The section whose frame each cell is answered in.

        Returns
        -------
        float
            From 0, for cells like the known ones, and for fewer than 20 cells, to 1.
        """
        if len(features) < FEWEST_TO_TELL:
            return 0.0
        distance, alike = self._alike.kneighbors(features)
        mean = distance[:, :_N_NEAR].mean(axis=1)
        far = np.searchsorted(self._far, mean) / len(self._far)
        alone = np.zeros(len(features))
        for code, around in self._surroundings.items():
            own = codes == code
            if own.any():
                isolation = around.isolation(placed[own])
                alone[own] = np.mean(self._alone[alike[own]] < isolation[:, None], axis=1)
        return min(1.0, max(above_half(far) / _ALL_FAR, above_half(alone) / _ALL_ALONE))


class _Surroundings:
    """The known cells of a section.

    Parameters
    ----------
    coords : ndarray of shape (n_known, n_dims)
    """

    def __init__(self, coords: Array):
        self._tree = NearestNeighbors(n_neighbors=_N_AROUND).fit(coords)
        self._spacing = self._tree.kneighbors()[0].mean(axis=1)

    def isolation(self, placed: Array) -> Array:
        """How alone predicted positions are: 1 or so among the known cells, more beside them."""
        return self._isolation(*self._tree.kneighbors(placed))

    def isolation_of_own(self, placed: Array) -> Array:
        """The same of positions that are predicted for the known cells, each without itself."""
        distance, index = self._tree.kneighbors(placed, _N_AROUND + 1)
        own = index == np.arange(len(placed))[:, None]
        # Where a cell is not among the nearest to its position, the farthest is one too many.
        own[~own.any(axis=1), -1] = True
        shape = len(placed), _N_AROUND
        return self._isolation(distance[~own].reshape(shape), index[~own].reshape(shape))

    def _isolation(self, distance: Array, index: NDArray[np.intp]) -> Array:
        """Mean distance from the nearest known cells, over theirs from their own neighbors."""
        spacing = self._spacing[index].mean(axis=1)
        return distance.mean(axis=1) / np.maximum(spacing, np.finfo(float).tiny)


def above_half(ranks: Array) -> float:
    """By how much the mean of ranks is above one half, beyond what chance would do."""
    # The variance of a uniform number is 1 / 12.
    by_chance = _ERRORS_BY_CHANCE / np.sqrt(12.0 * len(ranks))
    return max(0.0, float(np.mean(ranks)) - 0.5 - by_chance)
