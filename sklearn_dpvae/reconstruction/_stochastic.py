r"""Scaling of many points: landmarks first, then sampled pairs. Cost is linear in the rows.

1. A sample of the rows, anchors among them, is solved exactly.
2. Every other row is placed by its dissimilarities to that sample.
3. All rows are refined on sampled pairs. The rows are shuffled and cut into batches; within a
   batch every pair is visited, and with r_ij = delta_ij / d_ij each row i moves by

   .. math:: y_i \leftarrow y_i + \gamma_e \, \frac{1}{b} \sum_j (r_{ij} - 1) (y_i - y_j),

   the Guttman step of row i on an unbiased sample of its pairs. The steps shrink from epoch to
   epoch, so that the noise of the sample averages out.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ._majorize import Solution, majorize
from ._multilateration import place_roughly
from ._pairs import BlockPairs, LatentDissimilarities
from ._problem import ScalingProblem
from ._starts import solve_from_starts

_N_LANDMARKS = 1000
_MAX_LANDMARK_ANCHORS = 1000
_BATCH = 1000
# Rows placed at once: their dissimilarities to the landmarks stay in the L2 cache.
_PLACING_ROWS = 128
N_EPOCHS = 15


def solve_by_sampling(
    problem: ScalingProblem,
    init: str | NDArray[np.floating],
    rng: np.random.RandomState,
    *,
    n_init: int,
    max_iter: int,
    eps: float,
    accelerate: bool,
    verbose: bool,
) -> Solution:
    """Solve a problem of latents with unit weights.

    Parameters are those of `anchored_smacof`.

    Returns
    -------
    Solution
        Its history is estimated from the pairs of each epoch, the last one at the answer. Its
        `n_iter` is the number of epochs.
    """
    dissimilarities = problem.latent_dissimilarities()
    if isinstance(init, str):
        points = _landmark_start(
            problem, dissimilarities, init, rng, n_init, eps, accelerate, verbose
        )
    else:
        points = problem.tensor(problem.arrange(init))
    points = torch.cat([points, problem.fixed])
    n_epochs = min(max_iter, N_EPOCHS)
    history = []
    for epoch in tqdm(range(n_epochs + 1), "SMACOF", unit="epoch", disable=not verbose):
        rate = 2.0 / (epoch + 2.0) if epoch < n_epochs else 0.0
        history.append(_epoch(problem, dissimilarities, points, rate, rng))
    return Solution(points[: problem.n_moving], history, n_epochs)


def _landmark_start(
    problem: ScalingProblem,
    dissimilarities: LatentDissimilarities,
    init: str,
    rng: np.random.RandomState,
    n_init: int,
    eps: float,
    accelerate: bool,
    verbose: bool,
) -> Tensor:
    """Solve a sample of the rows exactly and place the others by it."""
    n_free = problem.n_free
    free = np.sort(rng.choice(n_free, min(_N_LANDMARKS, n_free), replace=False))
    anchors = np.arange(n_free, problem.n_samples)
    if len(anchors) > _MAX_LANDMARK_ANCHORS:
        anchors = np.sort(rng.choice(anchors, _MAX_LANDMARK_ANCHORS, replace=False))
    # In the order of the problem: free rows, then anchors.
    chosen = np.concatenate([free, anchors])
    small = problem.take(chosen)
    majorizer = small.majorizer()

    def solve(start: Tensor) -> Solution:
        return majorize(majorizer, start, eps=eps, accelerate=accelerate, verbose=verbose)

    found = solve_from_starts(small, majorizer, init, rng, n_init=n_init, solve=solve).points
    landmarks = torch.cat([found, small.fixed]) + problem.tensor(small.shift - problem.shift)

    points = landmarks.new_empty((problem.n_moving, problem.n_dims))
    columns = torch.from_numpy(chosen).to(problem.device)
    known = landmarks.double().cpu().numpy()
    for first in range(0, problem.n_moving, _PLACING_ROWS):
        rows = slice(first, min(first + _PLACING_ROWS, problem.n_moving))
        block = dissimilarities.block(rows, columns).double().cpu().numpy()
        points[rows] = problem.tensor(place_roughly(block, known))
    moving = columns < problem.n_moving
    points[columns[moving]] = landmarks[moving]
    return points


def _epoch(
    problem: ScalingProblem,
    dissimilarities: LatentDissimilarities,
    points: Tensor,
    rate: float,
    rng: np.random.RandomState,
) -> float:
    """Move all rows once by their pairs within random batches; estimate the stress before."""
    n_samples, mu = problem.n_samples, problem.penalty or 0.0
    n_batches = max(1, n_samples // _BATCH)
    stress, n_pairs = 0.0, 0
    for batch in np.array_split(rng.permutation(n_samples), n_batches):
        rows = torch.from_numpy(batch).to(problem.device)
        here = points[rows]
        squared, product = BlockPairs(dissimilarities.take(rows), len(rows)).evaluate(here)
        stress += squared
        n_pairs += len(rows) * (len(rows) - 1) // 2
        if rate == 0.0:
            continue
        target = here.mean(0) + product / len(rows)
        if problem.targets is not None:
            pulled = rows >= problem.n_free
            pull = problem.targets[rows[pulled] - problem.n_free]
            target[pulled] = (n_samples * target[pulled] + mu * pull) / (n_samples + mu)
        moving = rows < problem.n_moving
        points[rows[moving]] += rate * (target - here)[moving]
    estimate = stress * (n_samples * (n_samples - 1) / 2) / max(n_pairs, 1)
    if problem.targets is not None:
        away = points[-len(problem.targets) :] - problem.targets
        estimate += mu * float(away.square().sum())
    return estimate
