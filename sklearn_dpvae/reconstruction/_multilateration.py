"""Multilateration: rows placed one by one, by their dissimilarities to fixed landmarks.

All arithmetic is row by row, in an order that does not depend on the batch, so that a row's
answer does not either. It is numpy on the CPU even if the other rows are solved on a GPU: sums in
torch depend on the shape of the batch. Imports nothing of this package.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Smallest curvature trusted by a Newton step; the majorizer's own curvature is 1.
_MIN_CURVATURE = 0.1
_N_NEIGHBORS = 10
# Steps and tolerance where a place is only a start.
_ROUGH_STEPS = 20
_ROUGH_TOL = 1e-3


def _pass(
    points: Floats, dissimilarities: Floats, landmarks: Floats, softening: float
) -> tuple[Floats, Floats, Floats]:
    """Stress, half gradient and half Hessian (both divided by m) of each row's own problem."""
    n_dims = landmarks.shape[1]
    differences = [points[:, k : k + 1] - landmarks[:, k] for k in range(n_dims)]
    distances = differences[0] * differences[0]
    distances += softening**2
    scratch = np.empty_like(distances)
    for difference in differences[1:]:
        np.multiply(difference, difference, out=scratch)
        distances += scratch
    np.sqrt(distances, out=distances)

    np.subtract(distances, dissimilarities, out=scratch)
    scratch *= scratch
    stress = scratch.sum(axis=1)

    ratio = np.divide(dissimilarities, distances)
    gradient = np.empty_like(points)
    np.subtract(1.0, ratio, out=scratch)
    diagonal = scratch.mean(axis=1)
    weighted = np.empty_like(scratch)
    for k, difference in enumerate(differences):
        np.multiply(scratch, difference, out=weighted)
        gradient[:, k] = weighted.mean(axis=1)

    hessian = np.zeros((len(points), n_dims, n_dims))
    np.multiply(distances, distances, out=distances)
    ratio /= distances
    for k in range(n_dims):
        np.multiply(ratio, differences[k], out=scratch)
        for other in range(k + 1):
            np.multiply(scratch, differences[other], out=weighted)
            hessian[:, k, other] = hessian[:, other, k] = weighted.mean(axis=1)
        hessian[:, k, k] += diagonal
    return stress, gradient, hessian


def _newton_step(gradient: Floats, hessian: Floats) -> Floats:
    """Newton step of each row: longer where the stress is less curved.

    The curvatures of the stress never exceed the majorizer's, which are 1 in these units.
    Taking absolute values and cutting them from below makes every step a descent.
    """
    curvature, axes = np.linalg.eigh(hessian)
    curvature = np.clip(np.abs(curvature), _MIN_CURVATURE, 1.0)
    step = np.zeros_like(gradient)
    for axis in range(gradient.shape[1]):
        direction = axes[:, :, axis]
        along = gradient[:, 0] * direction[:, 0]
        for k in range(1, gradient.shape[1]):
            along += gradient[:, k] * direction[:, k]
        step += (along / curvature[:, axis])[:, None] * direction
    return step


def place_rows(
    dissimilarities: Floats,
    landmarks: Floats,
    starts: list[Floats],
    *,
    max_iter: int = 100,
    tol: float = 1e-10,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Place each row by its dissimilarities to fixed landmarks.

    Row by row, minimize ``sum_j (||y - l_j|| - delta_j)^2`` by Newton steps. Where one would
    not lower the row's stress, the next is the Guttman step ``y+ = mean_j (l_j + delta_j
    (y - l_j) / ||y - l_j||)``, which always lowers it. Every row stops on its own.

    Parameters
    ----------
    dissimilarities : ndarray of shape (n_rows, n_landmarks)
    landmarks : ndarray of shape (n_landmarks, n_dims)
    starts : list of ndarray of shape (n_rows, n_dims)
        Candidates; each row starts from the one of lowest stress.
    max_iter : int, default=100
        Most steps of a row.
    tol : float, default=1e-10
        A row stops when its step is shorter than `tol` times the landmarks' radius.

    Returns
    -------
    points : ndarray of shape (n_rows, n_dims)
    stress : ndarray of shape (n_rows,)
        The minimized sum, of each row.
    n_iter : ndarray of shape (n_rows,)
        Steps that each row took.
    """
    center = landmarks.mean(axis=0)
    landmarks = landmarks - center
    radius = np.sqrt((landmarks**2).sum(axis=1).max())
    radius = radius if radius > 0 else 1.0
    softening = np.sqrt(np.finfo(np.float64).eps) * 1e-3 * radius

    points = starts[0] - center
    passed = _pass(points, dissimilarities, landmarks, softening)
    for start in starts[1:]:
        other = start - center
        other_passed = _pass(other, dissimilarities, landmarks, softening)
        better = other_passed[0] < passed[0]
        points = np.where(better[:, None], other, points)
        for kept, new in zip(passed, other_passed, strict=True):
            kept[better] = new[better]

    best, stress = points.copy(), passed[0].copy()
    n_iter = np.zeros(len(points), dtype=np.int64)
    rows = np.arange(len(points))
    old, (old_stress, gradient, hessian) = points, passed
    newton: NDArray[np.bool_] = np.ones(len(points), dtype=bool)
    for iteration in range(1, max_iter + 1):
        step = np.where(newton[:, None], _newton_step(gradient, hessian), gradient)
        going = np.abs(step).max(axis=1) > tol * radius
        n_iter[rows[going]] = iteration
        if not going.all():
            rows, old, old_stress = rows[going], old[going], old_stress[going]
            step, newton = step[going], newton[going]
            gradient, hessian = gradient[going], hessian[going]
            dissimilarities = dissimilarities[going]
        if not len(rows):
            break
        new = old - step
        new_stress, new_gradient, new_hessian = _pass(new, dissimilarities, landmarks, softening)
        # A Guttman step is kept even if rounding raises the stress, so that no row can hang.
        accepted = (new_stress < old_stress) | ~newton
        old = np.where(accepted[:, None], new, old)
        old_stress = np.where(accepted, new_stress, old_stress)
        gradient = np.where(accepted[:, None], new_gradient, gradient)
        hessian = np.where(accepted[:, None, None], new_hessian, hessian)
        newton = accepted
        best[rows], stress[rows] = old, old_stress
    return best + center, stress, n_iter


def place_roughly(dissimilarities: Floats, landmarks: Floats) -> Floats:
    """Place each row well enough to start from: few steps from its nearest landmarks."""
    start = neighbor_start(dissimilarities, landmarks)
    return place_rows(dissimilarities, landmarks, [start], max_iter=_ROUGH_STEPS, tol=_ROUGH_TOL)[
        0
    ]


def neighbor_start(dissimilarities: Floats, landmarks: Floats) -> Floats:
    """Mean position of each row's nearest landmarks, weighted by the inverse distance."""
    n_neighbors = min(_N_NEIGHBORS, dissimilarities.shape[1])
    nearest = np.argpartition(dissimilarities, n_neighbors - 1, axis=1)[:, :n_neighbors]
    # argpartition returns them in no particular order: sum in that of the index.
    nearest.sort(axis=1)
    near = np.take_along_axis(dissimilarities, nearest, axis=1)
    floor = 1e-3 * near.max(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    weight = 1.0 / np.maximum(near, floor)
    weight /= weight.sum(axis=1, keepdims=True)
    start = np.zeros((len(near), landmarks.shape[1]))
    for k in range(n_neighbors):
        start += weight[:, k : k + 1] * landmarks[nearest[:, k]]
    return start
