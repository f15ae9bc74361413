"""How good are distributions over places?

From this package it imports the checks of this folder.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from ._checks import check_points


def place_log_score(y_true: ArrayLike, places: Any) -> float:
    """Mean logarithm of the density at the true positions, above that of a uniform guess.

    It is a proper score: nothing has a higher expectation than the true distribution.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,) or (n_cells, n_dims)
        True positions, in the frame of each cell's places.
    places : PlaceDistribution
        What `predict_places` returns, of the same cells.

    Returns
    -------
    float
        In nats. 0 is a guess for which all places of a cell's section are equally probable;
        with 1, the right place is 2.7 times as probable as with that guess.

    Raises
    ------
    ValueError
        If there is not one position for each cell, in the dimensions of the places.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import place_log_score
    >>> from sklearn_dpvae.places import PlaceDistribution
    >>> locations = 100.0 * np.arange(4)[:, None]
    >>> uniform = PlaceDistribution(np.full((1, 4), 0.25), locations)
    >>> sure = PlaceDistribution([[0, 1, 0, 0]], locations)
    >>> place_log_score([100.0], uniform), round(place_log_score([100.0], sure), 2)
    (0.0, 0.53)
    """
    gain = places.log_density(y_true) - places.log_density_of_uniform(y_true)
    return float(np.mean(gain))


def place_coverage(y_true: ArrayLike, places: Any, level: float) -> float:
    """Share of cells whose region of a level has the place nearest to the true position.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,) or (n_cells, n_dims)
        True positions, in the frame of each cell's places.
    places : PlaceDistribution
        What `predict_places` returns, of the same cells.
    level : float
        Between 0 and 1. Regions are right if the coverage equals it. They are made of whole
        places, so that it is somewhat greater where a single place has much of the probability.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If there is not one position for each cell, or `level` is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import place_coverage
    >>> from sklearn_dpvae.places import PlaceDistribution
    >>> places = PlaceDistribution([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], np.arange(3)[:, None])
    >>> place_coverage([0, 0], places, 0.6)
    0.5
    """
    own = _nearest_of_own_section(_one_for_each(y_true, places), places)
    inside = places.region(level)[np.arange(len(own)), own]
    return float(np.mean(inside))


def energy_score(
    y_true: ArrayLike,
    places: Any,
    *,
    n_samples: int = 200,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    r"""Energy score: how far samples lie from the true position, less what they spread.

    .. math:: E \|S - y\| - \tfrac{1}{2} E \|S - S'\|

    for independent samples S and S'. It is a proper score, and the mean error where a
    distribution is a single point. Lower is better.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,) or (n_cells, n_dims)
        True positions, in the frame of each cell's places.
    places : PlaceDistribution
        What `predict_places` returns, of the same cells.
    n_samples : int, default=200
        Pairs of samples of each cell.
    random_state : int, RandomState instance or None, default=0
        Of the samples.

    Returns
    -------
    float
        Mean over cells, in tissue units.

    Raises
    ------
    ValueError
        If there is not one position for each cell, in the dimensions of the places.

    References
    ----------
    Gneiting, T. and Raftery, A. E. (2007), "Strictly Proper Scoring Rules, Prediction, and
    Estimation", Journal of the American Statistical Association 102.

    Examples
    --------
    >>> from sklearn_dpvae.metrics import energy_score
    >>> from sklearn_dpvae.places import PlaceDistribution
    >>> energy_score([[3.0, 4.0]], PlaceDistribution([[1.0]], [[0.0, 0.0]]))
    5.0
    """
    true = _one_for_each(y_true, places)
    drawn = places.sample(2 * n_samples, random_state=random_state)
    first, second = drawn[:, :n_samples], drawn[:, n_samples:]
    to_truth = np.linalg.norm(drawn - true[:, None], axis=-1).mean(axis=1)
    spread = np.linalg.norm(first - second, axis=-1).mean(axis=1)
    return float(np.mean(to_truth - 0.5 * spread))


def _one_for_each(y_true: ArrayLike, places: Any) -> NDArray[np.float64]:
    true = check_points(y_true, "y_true")
    expected = (len(places), places.locations.shape[1])
    if true.shape != expected:
        raise ValueError(
            f"y_true has shape {true.shape}, but {expected} was expected: one position for each "
            "cell of the distribution."
        )
    return true


def _nearest_of_own_section(true: NDArray[np.float64], places: Any) -> NDArray[np.intp]:
    own = np.empty(len(true), dtype=np.intp)
    for code in np.unique(places.cell_sections):
        rows = np.flatnonzero(places.cell_sections == code)
        columns = np.flatnonzero(places.sections == code)
        own[rows] = columns[np.argmin(cdist(true[rows], places.locations[columns]), axis=1)]
    return own
