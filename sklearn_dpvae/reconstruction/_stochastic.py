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

from ._majorize import majorize
from ._pairs import BlockPairs, softening

_N_LANDMARKS = 1000
_MAX_LANDMARK_ANCHORS = 1000
_BATCH = 1000
_PLACING_ROWS = 128
_PLACING_STEPS = 12
# Steps beyond the majorizer's minimum, up to twice as long, do not raise the stress either.
_RELAXATION = 1.7
_N_NEIGHBORS = 10
N_EPOCHS = 15


def solve_by_sampling(task, init, rng, *, n_init, max_iter, eps, accelerate):
    """Solve a `Task` of latents with unit weights.

    Returns
    -------
    points : tensor of shape (n_moving, n_dims)
    history : list of float
        Stress estimated from the pairs of each epoch, the last one at the answer.
    n_iter : int
        Epochs.
    """
    dissimilarities = task.dissimilarities()
    if isinstance(init, str):
        points = _landmark_start(task, dissimilarities, init, rng, n_init, eps, accelerate)
    else:
        points = task.tensor(task.arrange(init))
    points = torch.cat([points, task.fixed])
    n_epochs = min(max_iter, N_EPOCHS)
    history = []
    for epoch in range(n_epochs + 1):
        rate = 2.0 / (epoch + 2.0) if epoch < n_epochs else 0.0
        history.append(_epoch(task, dissimilarities, points, rate, rng))
    return points[: task.n_moving], history, n_epochs


def _landmark_start(task, dissimilarities, init, rng, n_init, eps, accelerate):
    """Solve a sample of the rows exactly and place the others by it."""
    n_free = task.n_samples - len(task.indices)
    free = np.sort(rng.choice(n_free, min(_N_LANDMARKS, n_free), replace=False))
    anchors = np.arange(n_free, task.n_samples)
    if len(anchors) > _MAX_LANDMARK_ANCHORS:
        anchors = np.sort(rng.choice(anchors, _MAX_LANDMARK_ANCHORS, replace=False))
    # In the order of the task: free rows, then anchors.
    chosen = np.concatenate([free, anchors])
    small = task.take(chosen)
    problem = small.problem()
    best = None
    for number in range(n_init):
        start = small.start(init if number == 0 else "random", problem, rng)
        found = majorize(problem, start, eps=eps, accelerate=accelerate)
        if best is None or found[1][-1] < best[1][-1]:
            best = found
    landmarks = torch.cat([best[0], small.fixed]) + task.tensor(small.shift - task.shift)

    points = landmarks.new_empty((task.n_moving, task.n_dims))
    columns = torch.from_numpy(chosen).to(task.device)
    rows_at_once = _PLACING_ROWS if task.device.type == "cpu" else 1 << 14
    for first in range(0, task.n_moving, rows_at_once):
        rows = slice(first, min(first + rows_at_once, task.n_moving))
        points[rows] = _place(dissimilarities.block(rows, columns), landmarks)
    moving = columns < task.n_moving
    points[columns[moving]] = landmarks[moving]
    return points


def _place(dissimilarities, landmarks):
    """Relaxed Guttman steps of single rows against landmarks, from their nearest landmarks."""
    n_neighbors = min(_N_NEIGHBORS, len(landmarks))
    near, nearest = dissimilarities.topk(n_neighbors, largest=False)
    weight = 1.0 / (near + 1e-3 * near[:, -1:] + torch.finfo(near.dtype).tiny)
    weight /= weight.sum(1, keepdim=True)
    points = (weight[:, :, None] * landmarks[nearest]).sum(1)
    eps2 = softening(landmarks) ** 2
    mean = landmarks.mean(0)
    ratio, scratch = torch.empty_like(dissimilarities), torch.empty_like(dissimilarities)
    for _ in range(_PLACING_STEPS):
        ratio.fill_(eps2)
        for k in range(landmarks.shape[1]):
            torch.sub(points[:, k, None], landmarks[None, :, k], out=scratch)
            ratio.addcmul_(scratch, scratch)
        torch.div(dissimilarities, ratio.sqrt_(), out=ratio)
        target = mean + (ratio.sum(1, keepdim=True) * points - ratio @ landmarks) / len(landmarks)
        points = points + _RELAXATION * (target - points)
    return points


def _epoch(task, dissimilarities, points, rate, rng):
    """Move all rows once by their pairs within random batches; estimate the stress before."""
    n_samples = task.n_samples
    n_batches = max(1, n_samples // _BATCH)
    stress, n_pairs = 0.0, 0
    for batch in np.array_split(rng.permutation(n_samples), n_batches):
        rows = torch.from_numpy(batch).to(task.device)
        here = points[rows]
        squared, product = BlockPairs(dissimilarities.take(rows), len(rows)).evaluate(here)
        stress += squared
        n_pairs += len(rows) * (len(rows) - 1) // 2
        if rate == 0.0:
            continue
        target = here.mean(0) + product / len(rows)
        if task.targets is not None:
            pulled = rows >= n_samples - len(task.targets)
            pull = task.targets[rows[pulled] - (n_samples - len(task.targets))]
            target[pulled] = (n_samples * target[pulled] + task.penalty * pull) / (
                n_samples + task.penalty
            )
        moving = rows < task.n_moving
        points[rows[moving]] += rate * (target - here)[moving]
    estimate = stress * (n_samples * (n_samples - 1) / 2) / n_pairs
    if task.targets is not None:
        away = points[-len(task.targets) :] - task.targets
        estimate += task.penalty * float(away.square().sum())
    return estimate
