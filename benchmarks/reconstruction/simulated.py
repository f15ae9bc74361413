"""Speed and scale, on simulated latents."""

import time
from functools import partial

import numpy as np
import torch
from sklearn.manifold import smacof
from sklearn.metrics import euclidean_distances

from sklearn_dpvae.reconstruction import anchored_smacof

from .._common.machine import peak_memory


def latents_of_tissue(n_samples, seed, n_latents=10, noise=0.5):
    """Positions in a rectangle, and latents that hold them together with noise."""
    rng = np.random.default_rng(seed)
    tissue = rng.uniform(size=(n_samples, 2)) * [10.0, 6.0]
    noisy = np.hstack([tissue, noise * rng.normal(size=(n_samples, n_latents - 2))])
    turn = np.linalg.qr(rng.normal(size=(n_latents, n_latents)))[0]
    return tissue, noisy @ turn


def timed(work, device):
    """Result and seconds: of the processor on one thread of it, else of the wall clock."""
    on_gpu = device is not None and torch.device(device).type == "cuda"
    clock = time.perf_counter if on_gpu or torch.get_num_threads() > 1 else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    begin = clock()
    result = work()
    if on_gpu:
        torch.cuda.synchronize()
    return result, clock() - begin


def steps_to(history, goal):
    """Number of steps to reach a stress, or None."""
    reached = np.flatnonzero(np.asarray(history) <= goal)
    return int(reached[0]) if len(reached) else None


def speed(n_samples, seed, options):
    """Time to the stress at which scikit-learn stops, from the same random start.

    scikit-learn runs with its own tolerance of 1e-6. Ours runs until its stress is not above
    scikit-learn's final one, times 1 + 1e-6; the time of finding out how many steps that takes
    is not counted. The last columns start from classical MDS instead.
    """
    _, latents = latents_of_tissue(n_samples, seed)
    start = np.random.default_rng(seed).normal(size=(n_samples, 2)) * 3.0
    distances = euclidean_distances(latents)
    (_, goal, their_steps), their_time = timed(
        partial(smacof, distances, init=start, n_init=1, eps=1e-6, return_n_iter=True), None
    )
    goal *= 1 + 1e-6
    row = {"scikit-learn, s": their_time, "scikit-learn, steps": int(their_steps)}
    inputs = {
        "latents, float64": {"latents": latents, "init": start},
        "matrix, float64": {"dissimilarities": distances, "init": start},
        "latents, float32": {
            "latents": latents.astype(np.float32),
            "init": start.astype(np.float32),
        },
        "from classical MDS": {"latents": latents},
    }
    for name, given in inputs.items():
        given |= {"device": options.device, "eps": 0.0}
        trial = anchored_smacof(**given, max_iter=300)
        steps = steps_to(trial.history, goal)
        if steps is None:
            continue
        # Passes that momentum lost cost time without being a step of the history.
        passes = steps + (trial.n_iter - len(trial.history) + 1)
        solve = partial(anchored_smacof, **given, max_iter=max(passes, 1))
        found, ours = timed(solve, options.device)
        if found.stress > goal:
            raise AssertionError(f"{name} ended at a stress of {found.stress}, above {goal}.")
        row |= {
            f"{name}: steps": int(found.n_iter),
            f"{name}: s": ours,
            f"{name}: ratio": their_time / ours,
        }
    return row


def scale(n_samples, seed, options):
    """Time, memory and error of the sampling method against the number of rows.

    The error is the mean distance to the true position, in units of the tissue's diagonal; up
    to 10,000 rows the exact method stands beside it, with the ratio of the full stresses.
    """
    diagonal = np.hypot(10.0, 6.0)
    tissue, latents = latents_of_tissue(n_samples, seed)
    known = np.random.default_rng(seed).permutation(n_samples)[: options.anchors]
    given = {
        "latents": latents,
        "anchors": (known, tissue[known]),
        "device": options.device,
        "random_state": seed,
    }
    solve = partial(anchored_smacof, **given)
    sampled, seconds = timed(partial(solve, method="stochastic"), options.device)
    row = {
        "s": seconds,
        "us a row": 1e6 * seconds / n_samples,
        "peak, GB": peak_memory() / 2**10,
        "error": mean_distance(sampled.embedding, tissue) / diagonal,
    }
    if n_samples <= 10_000 and seed == 0:
        exact, seconds = timed(partial(solve, method="exact"), options.device)
        again = solve(method="exact", init=sampled.embedding, max_iter=1, eps=0.0)
        row |= {
            "exact: s": seconds,
            "exact: steps": int(exact.n_iter),
            "exact: error": mean_distance(exact.embedding, tissue) / diagonal,
            "stress over the exact one's": float(again.history[0] / exact.stress),
        }
    return row


def mean_distance(points, truth):
    return float(np.linalg.norm(points - truth, axis=1).mean())
