"""Positions moved to the nearest spot. Imports the checks only."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors

from .._utils.validation import check_coords


def nearest_locations(
    coords: ArrayLike, locations: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the spot that is nearest to each position.

    Parameters
    ----------
    coords : array-like of shape (n_cells, n_dims)
        Positions, such as `predict` returns.
    locations : array-like of shape (n_locations, n_dims)
        Spots, in the same frame and unit.

    Returns
    -------
    index : ndarray of shape (n_cells,)
        Row of `locations`. The first of several that are equally near.
    distance : ndarray of shape (n_cells,)
        In the unit of the positions. One that is much longer than the distance of the spots says
        that a cell was placed off the tissue.

    Raises
    ------
    ValueError
        If there is no location, or the numbers of dimensions differ.

    See Also
    --------
    map_cells : Respects how many cells a spot holds.

    Examples
    --------
    >>> from sklearn_dpvae.mapping import nearest_locations
    >>> nearest_locations([[0.2, 0.0], [5.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]])
    (array([0, 1]), array([0.2, 4. ]))
    """
    points = check_coords(coords, name="coords")
    spots = check_coords(locations, name="locations")
    if points.shape[1] != spots.shape[1]:
        raise ValueError(
            f"coords has {points.shape[1]} dimension(s) but locations has {spots.shape[1]}. Pass "
            "both in the same frame."
        )
    distance, index = NearestNeighbors(n_neighbors=1).fit(spots).kneighbors(points)
    return index[:, 0], distance[:, 0]
