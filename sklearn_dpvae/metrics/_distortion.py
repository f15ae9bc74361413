"""Theorem 1 in numbers: how much can a latent map stretch or shrink distances?

From this package it imports the distances of this folder.
"""

from collections import namedtuple
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar

from ._distances import best_scale, latent_and_tissue_distances


class DistortionBounds(namedtuple("DistortionBounds", ["lower", "upper", "probability"])):
    """The result of `distortion_bounds`: the tuple (lower, upper, probability), and more.

    Attributes
    ----------
    lower, upper : float
        Bounds on the ratio of latent distance to tissue distance, in latent units per tissue
        unit.
    probability : float
        The bounds hold for at least this share of the pairs, ``1 - delta``.
    observed_lower, observed_upper : float
        The ``delta / 2`` and ``1 - delta / 2`` quantiles of the ratios as measured.
    observed_outside : float
        Share of pairs whose ratio is outside the bounds; at most ``delta``.
    scale : float
        c, in latent units per tissue unit.
    loss : float
        The distance-preserving loss of the pairs at this c, in latent units.
    min_distance, max_distance : float
        a and b of the theorem, in tissue units. The tissue distance of at most a share of
        ``delta / 2`` of the pairs is not between them.
    """

    observed_lower: float
    observed_upper: float
    observed_outside: float
    scale: float
    loss: float
    min_distance: float
    max_distance: float

    def __repr__(self) -> str:
        fields = {**self._asdict(), **vars(self)}
        inside = ", ".join(f"{name}={value:.4g}" for name, value in fields.items())
        return f"DistortionBounds({inside})"


def distortion_bounds(
    latents: ArrayLike,
    coords: ArrayLike,
    delta: float = 0.1,
    *,
    scale: float | None = None,
    max_pairs: int | None = 1_000_000,
    sections: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> DistortionBounds:
    r"""Bounds on the distortion of distances by a latent map, from its measured loss.

    This is Theorem 1 of the paper, with every quantity measured on the given pairs.

    Parameters
    ----------
    latents : array-like of shape (n_samples,) or (n_samples, n_components)
        Latent means, or any other map of the cells.
    coords : array-like of shape (n_samples,) or (n_samples, n_dims)
        Measured positions, in tissue units.
    delta : float, default=0.1
        Share of pairs for which the bounds may fail; between 0 and 1, both excluded.
    scale : float, default=None
        c, in latent units per tissue unit, such as the `scale_` of a fitted model. None takes
        the value that minimizes the loss of these pairs.
    max_pairs : int or None, default=1_000_000
        If there are more pairs than this, this number is drawn at random, and the guarantee
        covers the drawn pairs. None takes all pairs.
    sections : array-like of shape (n_samples,), default=None
        One label per row. Pairs are formed within a section only. All sections share one c.
    random_state : int, RandomState instance or None, default=0
        Determines which pairs are drawn.

    Returns
    -------
    DistortionBounds
        A tuple (lower, upper, probability). For at least this share of the pairs, the ratio
        :math:`\|z - z'\| / \|s - s'\|` is between the bounds, where `lower` >= 0. The attributes
        hold the observed quantiles and the quantities that the bounds were computed from.

    Raises
    ------
    ValueError
        If `delta` is not between 0 and 1, if `scale` is not positive, if the sets differ in their
        numbers of rows, if they hold NaN or infinity, or if all positions of each section
        coincide.

    Notes
    -----
    Let (i, j) be a pair drawn at random, :math:`d = \|z_i - z_j\|` and
    :math:`s = \|s_i - s_j\|`. The loss is :math:`L = E |d - c s|`, so Markov's inequality with
    :math:`t = 2 L / \delta` gives

    .. math:: P(|d - c s| > t) \le L / t = \delta / 2 .

    Let a and b be such that :math:`P(s < a) + P(s > b) \le \delta / 2`. If neither event occurs,
    that is, with probability of at least :math:`1 - \delta`, then :math:`a \le s \le b` and

    .. math:: c - \frac{t}{a} \le c - \frac{t}{s} \le \frac{d}{s}
              \le c + \frac{t}{s} \le c + \frac{t}{a} .

    The map is thus bi-Lipschitz for these pairs, and the bounds close in on c as L falls. Of a
    and b, only a enters the bounds, so a is taken as large as possible, as the
    :math:`\delta / 2` quantile of the distances in the tissue, and b is the largest distance. If
    more than that share of pairs coincide in the tissue, a is 0 and the bounds are 0 and infinity.

    References
    ----------
    W. Zhou and J.-H. Du (2024), "Distance-Preserving Spatial Representations in Genomic Data",
    arXiv:2408.00911, Theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import distortion_bounds
    >>> rng = np.random.default_rng(0)
    >>> coords = rng.uniform(size=(200, 2))
    >>> lower, upper, probability = distortion_bounds(3 * coords, coords, delta=0.1)
    >>> round(lower, 6), round(upper, 6), probability
    (3.0, 3.0, 0.9)
    >>> noisy = 3 * coords + 0.02 * rng.normal(size=coords.shape)
    >>> bounds = distortion_bounds(noisy, coords, delta=0.1)
    >>> bounds.lower < bounds.observed_lower < bounds.observed_upper < bounds.upper
    True
    """
    check_scalar(delta, "delta", Real, min_val=0, max_val=1, include_boundaries="neither")
    latent, tissue = latent_and_tissue_distances(
        latents, coords, scale, sections, max_pairs, random_state
    )
    scale = best_scale(latent, tissue) if scale is None else float(scale)
    loss = float(np.mean(np.abs(latent - scale * tissue)))

    # At most a share of delta / 2 of the pairs comes before this order statistic.
    rank = int(len(tissue) * delta / 2)
    min_distance = float(np.partition(tissue, rank)[rank])
    margin = 2 * loss / delta / min_distance if min_distance > 0 else np.inf
    lower, upper = max(scale - margin, 0.0), scale + margin

    apart = tissue > 0
    ratios = latent[apart] / tissue[apart]
    # Rounding errors must not put pairs outside bounds that hold exactly.
    slack = 1e-12 * (scale + ratios)
    outside = np.sum((ratios < lower - slack) | (ratios > upper + slack))
    if min_distance > 0:
        outside += np.sum(~apart)

    bounds = DistortionBounds(lower, upper, 1.0 - delta)
    bounds.observed_lower, bounds.observed_upper = map(
        float, np.quantile(ratios, [delta / 2, 1 - delta / 2])
    )
    bounds.observed_outside = float(outside / len(tissue))
    bounds.scale, bounds.loss = scale, loss
    bounds.min_distance, bounds.max_distance = min_distance, float(tissue.max())
    return bounds
