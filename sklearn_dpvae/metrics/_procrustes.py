"""Procrustes analysis: how well one map fits another, whatever its pose and scale.

Imports of this package: this folder's checks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_points, check_two_point_sets, is_one_point


@dataclass(frozen=True, eq=False)
class ProcrustesTransform:
    """A similarity: translation, rotation or reflection, and one scale.

    Maps a point ``p`` to ``target_mean + scale * (p - source_mean) @ rotation``.
    `procrustes_align` makes it; it can then be applied to any other points of the source's
    space.

    Attributes
    ----------
    rotation : ndarray of shape (d_source, d_target)
        Orthonormal columns if ``d_source >= d_target``, orthonormal rows otherwise.
    scale : float
        Units of the target per unit of the source, never negative. It is 0 if the source is a
        single point, or if no similarity fits better than the mean of the target.
    source_mean : ndarray of shape (d_source,)
        Mean of the source, in the source's units.
    target_mean : ndarray of shape (d_target,)
        Mean of the target, in the target's units.
    disparity : float
        Share of the target's spread that the similarity leaves unexplained: 0 is a perfect
        fit and 1 is no better than the mean (more than 1 is possible without scaling).

    See Also
    --------
    procrustes_align : Fit the similarity.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import procrustes_align
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> align = procrustes_align(square, 2 * square + 5)
    >>> align([[0.5, 0.0]])
    array([[6., 5.]])
    """

    rotation: NDArray[np.float64]
    scale: float
    source_mean: NDArray[np.float64]
    target_mean: NDArray[np.float64]
    disparity: float

    def transform(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points of the source's space into the target's.

        Parameters
        ----------
        points : array-like of shape (n_points, d_source)
            Points in the source's units.

        Returns
        -------
        ndarray of shape (n_points, d_target), dtype float64
            Points in the target's units.

        Raises
        ------
        ValueError
            If the points do not have `d_source` columns or are not finite.
        """
        points = self._check(points, self.rotation.shape[0])
        return self.target_mean + self.scale * ((points - self.source_mean) @ self.rotation)

    def inverse_transform(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points of the target's space back into the source's.

        Parameters
        ----------
        points : array-like of shape (n_points, d_target)
            Points in the target's units.

        Returns
        -------
        ndarray of shape (n_points, d_source), dtype float64
            Points in the source's units.

        Raises
        ------
        ValueError
            If the two spaces differ in dimension or the scale is 0: there is no inverse then.
        """
        d_source, d_target = self.rotation.shape
        if d_source != d_target:
            raise ValueError(
                f"a transform from {d_source} to {d_target} dimensions has no inverse. "
                "Align in the other direction instead."
            )
        if self.scale == 0:
            raise ValueError(
                "the scale of this transform is 0 (every point is mapped to the target's mean), "
                "so it has no inverse."
            )
        points = self._check(points, d_target)
        return self.source_mean + ((points - self.target_mean) @ self.rotation.T) / self.scale

    def __call__(self, points: ArrayLike) -> NDArray[np.float64]:
        """Same as `transform`."""
        return self.transform(points)

    @staticmethod
    def _check(points: ArrayLike, n_dims: int) -> NDArray[np.float64]:
        points = check_points(points, "points", any_unit=True)
        if points.shape[1] != n_dims:
            raise ValueError(
                f"points has {points.shape[1]} dimension(s) but the transform was fitted with "
                f"{n_dims}. Pass an array of shape (n_points, {n_dims})."
            )
        return points


def fit_similarity(source, target, *, scaling, reflection, weights=None):
    """Best similarity of validated point sets; `target` must have an extent.

    With A, B the centered sets and U S V' the singular value decomposition of A'B, the
    rotation is U V' and the scale tr(S) / |A|^2. If A has more columns than B this is the
    solution for B with columns of zeros appended. Positive weights of the rows enter every sum.
    """
    source_mean = np.average(source, axis=0, weights=weights)
    target_mean = np.average(target, axis=0, weights=weights)
    centered_source = np.zeros_like(source) if is_one_point(source) else source - source_mean
    centered_target = target - target_mean
    if weights is not None:
        # Every sum below is one of products of two rows, so each row takes the root.
        root = np.sqrt(weights)[:, None]
        centered_source, centered_target = root * centered_source, root * centered_target

    # Dividing by the largest coordinate keeps the squares below within float64's range.
    source_unit = np.abs(centered_source).max() or 1.0
    target_unit = np.abs(centered_target).max()
    centered_source = centered_source / source_unit
    centered_target = centered_target / target_unit
    source_spread = np.sum(centered_source**2)
    target_spread = np.sum(centered_target**2)

    left, singular, right = np.linalg.svd(centered_source.T @ centered_target, full_matrices=False)
    # Between spaces of unequal dimension a reflection is a rotation through the spare
    # dimension, so there is nothing to exclude.
    square = source.shape[1] == target.shape[1]
    if square and not reflection and np.linalg.det(left @ right) < 0:
        left[:, -1] *= -1
        singular[-1] *= -1
    rotation = left @ right

    if source_spread == 0:
        unit_scale = 0.0
    elif scaling:
        unit_scale = max(float(np.sum(singular)), 0.0) / source_spread
    else:
        unit_scale = source_unit / target_unit

    # The residual itself, not 1 - overlap^2, which would lose a small misfit to cancellation.
    rotated = centered_source @ rotation
    residual = np.sum((centered_target - unit_scale * rotated) ** 2)
    if source.shape[1] > target.shape[1]:
        dropped = centered_source - rotated @ rotation.T
        residual += np.sum((unit_scale * dropped) ** 2)
    scale = unit_scale * target_unit / source_unit if scaling or source_spread == 0 else 1.0
    return ProcrustesTransform(
        rotation=rotation,
        scale=float(scale),
        source_mean=source_mean,
        target_mean=target_mean,
        disparity=float(residual / target_spread),
    )


def procrustes_align(
    source: ArrayLike, target: ArrayLike, *, scaling: bool = True, reflection: bool = True
) -> ProcrustesTransform:
    """Fit the similarity that takes one point set closest to another.

    Minimizes the sum of squared distances between the moved rows of `source` and the same
    rows of `target` over translations, rotations (and reflections) and one scale.

    Parameters
    ----------
    source : array-like of shape (n_samples,) or (n_samples, d_source)
        The points to move, e.g. latent means or predicted positions.
    target : array-like of shape (n_samples,) or (n_samples, d_target)
        Where each of them should go, e.g. measured positions. `d_target` may differ from
        `d_source`: the set with fewer dimensions is then completed by coordinates that are 0.
        So with ``d_source > d_target`` the source is rotated as a whole and its last
        coordinates are dropped; what they held counts as misfit.
    scaling : bool, default=True
        Whether to fit the scale; it is 1 otherwise.
    reflection : bool, default=True
        Whether mirror images are allowed. Has an effect only if ``d_source == d_target``.

    Returns
    -------
    ProcrustesTransform
        The similarity. It is a callable that moves other points likewise.

    Raises
    ------
    ValueError
        If the sets have different numbers of rows, hold NaN or infinity, or if all rows of
        `target` are the same point. If all rows of `source` are the same point, the scale is 0
        and everything is mapped to the mean of the target.

    References
    ----------
    P. H. Schönemann (1966), "A generalized solution of the orthogonal Procrustes problem",
    Psychometrika 31.

    J. C. Gower (1975), "Generalized Procrustes analysis", Psychometrika 40.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.metrics import procrustes_align
    >>> source = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> align = procrustes_align(source, 3 * source @ quarter_turn)
    >>> round(align.scale, 6), round(align.disparity, 6)
    (3.0, 0.0)
    >>> align.transform([[1.0, 1.0]]).round(6)
    array([[-3.,  3.]])
    """
    source, target, _, _ = check_two_point_sets(
        source, target, ("source", "target"), any_unit=True
    )
    if is_one_point(target):
        raise ValueError(
            f"all {len(target)} row(s) of target are the same point {target[0].tolist()}; "
            "a similarity cannot be fitted to a target without an extent."
        )
    return fit_similarity(source, target, scaling=scaling, reflection=reflection)
