"""Anchored SMACOF: equations (6) and (7) of Zhou & Du (2024) as pure functions."""

import numbers
from dataclasses import dataclass, field

import numpy as np
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ._majorize import majorize, majorize_twice
from ._problem import Task
from ._stochastic import solve_by_sampling

# Above this many rows of latents, ``method="auto"`` samples pairs.
MAX_EXACT = 10_000

PARAMETER_CONSTRAINTS = {
    "n_components": [Interval(numbers.Integral, 1, None, closed="left")],
    "scale": [Interval(numbers.Real, 0, None, closed="neither"), None],
    "penalty": [Interval(numbers.Real, 0, None, closed="neither"), None],
    "underdetermined": [StrOptions({"error", "allow"})],
    "init": [StrOptions({"auto", "classical", "anchors", "random"}), "array-like"],
    "n_init": [Interval(numbers.Integral, 1, None, closed="left")],
    "max_iter": [Interval(numbers.Integral, 1, None, closed="left")],
    "eps": [Interval(numbers.Real, 0, None, closed="left")],
    "accelerate": ["boolean"],
    "method": [StrOptions({"auto", "exact", "stochastic"})],
    "device": [str, None],
    "random_state": ["random_state"],
}


@dataclass(frozen=True)
class SmacofResult:
    """What `anchored_smacof` found.

    Attributes
    ----------
    embedding : ndarray of shape (n_samples, n_components)
        Positions in tissue units; anchors as given, bit for bit.
    stress : float
        ``sum_{i<j} w_ij (||s_i - s_j|| - delta_ij)^2`` over all pairs, in squared tissue units,
        plus the penalty term where a penalty was given.
    n_iter : int
        Passes over the pairs that the best start took after its first.
    scale : float
        c: dissimilarity units per tissue unit, as given or estimated from the anchors.
    history : ndarray of shape (n_steps + 1,)
        Stress at the start and after every step. It never rises.
    """

    embedding: np.ndarray
    stress: float
    n_iter: int
    scale: float
    history: np.ndarray = field(repr=False)


def guttman_transform(points, dissimilarities, *, weights=None, anchors=None, penalty=None):
    r"""One step of SMACOF: the minimizer of the stress's majorizer at `points`.

    Parameters
    ----------
    points : array-like of shape (n_samples, n_dims)
        Current configuration.
    dissimilarities : array-like of shape (n_samples, n_samples)
        Symmetric, in the units of `points`.
    weights : array-like or sparse matrix of shape (n_samples, n_samples), default=None
        Pair weights; None means 1 for every pair.
    anchors : tuple (indices, coords), or array-like with NaN rows, default=None
        Known positions, see `anchored_smacof`.
    penalty : float, default=None
        Weight of ``sum_A ||s_i - s_i*||^2``. None holds the anchors exactly.

    Returns
    -------
    points : ndarray of shape (n_samples, n_dims)
        The transformed configuration; its stress is not higher.

    References
    ----------
    Borg, I. & Groenen, P. J. F. (2005). Modern Multidimensional Scaling, equation (8.25).

    de Leeuw, J. & Heiser, W. J. (1980). Multidimensional scaling with restrictions on the
    configuration.

    Examples
    --------
    >>> from sklearn_dpvae.reconstruction import guttman_transform
    >>> line = [[0.0], [1.0], [3.0]]
    >>> dissimilarities = [[0, 2, 3], [2, 0, 2], [3, 2, 0]]
    >>> guttman_transform(line, dissimilarities) + 2.0
    array([[0.33333333],
           [2.        ],
           [3.66666667]])
    """
    points = check_array(points, dtype=[np.float64, np.float32], input_name="points")
    task = Task(dissimilarities, None, points.shape[1], anchors, 1.0, weights, penalty, None)
    if len(points) != task.n_samples:
        raise ValueError(
            f"points has {len(points)} rows but dissimilarities has {task.n_samples}. Pass one "
            "row per point."
        )
    if task.n_moving == 0:
        return task.restore(points[:0])
    problem = task.problem()
    moving = task.tensor(task.arrange(points))
    _, product = problem.evaluate(moving)
    return task.restore(problem.step(moving, product).numpy())


@validate_params(
    {
        "dissimilarities": ["array-like", None],
        "latents": ["array-like", None],
        "weights": ["array-like", "sparse matrix", None],
        **PARAMETER_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def anchored_smacof(
    dissimilarities=None,
    *,
    latents=None,
    n_components=2,
    anchors=None,
    scale=None,
    weights=None,
    penalty=None,
    underdetermined="error",
    init="auto",
    n_init=1,
    max_iter=300,
    eps=1e-5,
    accelerate=True,
    method="auto",
    device=None,
    random_state=None,
):
    r"""Metric multidimensional scaling in which some positions may be known.

    Minimizes equation (6) of Zhou & Du (2024), in tissue units and with weights,

    .. math:: \sigma(S) = \sum_{i<j} w_{ij}
              \Bigl( \|s_i - s_j\| - \frac{\|z_i - z_j\|}{c} \Bigr)^2,

    subject to equation (7), ``s_i = s_i*`` for the anchors i in A, by SMACOF: each step solves
    the majorizer of the stress exactly, so that the stress never rises. With ``penalty=mu`` the
    constraint becomes the term ``mu * sum_A ||s_i - s_i*||^2``; its limit for large mu is the
    constrained answer.

    Give either `dissimilarities` or `latents`. From latents, distances are made block by block
    and memory is O(n_samples).

    Parameters
    ----------
    dissimilarities : array-like of shape (n_samples, n_samples), default=None
        Symmetric, non-negative, zero on the diagonal.
    latents : array-like of shape (n_samples, n_latents), default=None
        Points whose Euclidean distances are the dissimilarities.
    n_components : int, default=2
        Number of coordinates of a position.
    anchors : tuple (indices, coords) or array-like (n_samples, n_components), default=None
        Known positions in tissue units: a tuple of row indices and coordinates, or one row per
        sample with NaN in all columns where the position is unknown.
    scale : float or None, default=None
        c: dissimilarity units per tissue unit. None estimates it from the pairs of anchors, by
        the regression ``d^2 = delta^2 / c^2 + t`` with t >= 0 for what the latents do not know
        (t = 0 with fewer than ``2 * (n_components + 1)`` anchors). Without anchors None means 1.
    weights : array-like or sparse matrix of shape (n_samples, n_samples), default=None
        Symmetric pair weights w >= 0, the mask M of equation (5). None means 1 for every pair.
        A sparse matrix makes time and memory follow its stored entries. Steps are then solved
        by conjugate gradients.
    penalty : float or None, default=None
        mu, in units of a pair weight (compare it with `n_samples`). None holds anchors exactly.
    underdetermined : {"error", "allow"}, default="error"
        What to do when the anchors leave a pose open: fewer than ``n_components + 1``, or all in
        one line or plane (within every part of the data that `weights` connect).
        ``"allow"`` returns one of the equally good answers.
    init : {"auto", "classical", "anchors", "random"} or array-like, default="auto"
        Where to start. ``"classical"``: classical MDS (the leading principal components of
        `latents`), moved onto the anchors by a similarity. ``"anchors"``: every row placed by
        its dissimilarities to the anchors. ``"auto"``: the better of the two. An array of shape
        (n_samples, n_components) starts there, once.
    n_init : int, default=1
        Number of starts; those after the first are random. The lowest stress wins.
    max_iter : int, default=300
        Most passes over the pairs, per start.
    eps : float, default=1e-5
        Stop when the stress falls by less than this fraction of itself (twice in a row when
        accelerated).
    accelerate : bool, default=True
        Add Nesterov's momentum to the steps where that lowers the stress, and take the first
        steps on many float64 latents in float32. False takes plain SMACOF steps, those of
        `sklearn.manifold.smacof`.
    method : {"auto", "exact", "stochastic"}, default="auto"
        ``"exact"`` visits all pairs at every step. ``"stochastic"`` solves for landmarks, places
        the other rows by them, and refines all rows on sampled pairs; its cost is linear in
        `n_samples`, and it needs `latents` and no `weights`. ``"auto"`` is exact up to 10,000
        rows.
    device : str or None, default=None
        Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ..., or ``"auto"`` for CUDA where
        there is any. None is the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of random starts and samples.

    Returns
    -------
    result : SmacofResult
        With `embedding`, `stress`, `n_iter`, `scale` and `history`.

    Raises
    ------
    ValueError
        If both or none of `dissimilarities` and `latents` are given, one is malformed, anchors
        are contradictory, or they leave the pose open.

    References
    ----------
    Zhou, W. & Du, J.-H. (2024). Distance-Preserving Spatial Representations in Genomic Data.
    arXiv:2408.00911, equations (6) and (7).

    de Leeuw, J. & Heiser, W. J. (1980). Multidimensional scaling with restrictions on the
    configuration. Multivariate Analysis V, 501-522.

    O'Donoghue, B. & Candes, E. (2015). Adaptive restart for accelerated gradient schemes.
    Foundations of Computational Mathematics 15, 715-732.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.reconstruction import anchored_smacof
    >>> square = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.25]])
    >>> turned = square @ [[0.0, 3.0], [-3.0, 0.0]]
    >>> known = ([0, 1, 2], square[:3])
    >>> result = anchored_smacof(latents=turned, anchors=known)
    >>> result.embedding.round(4)
    array([[0.  , 0.  ],
           [0.  , 1.  ],
           [1.  , 0.  ],
           [1.  , 1.  ],
           [0.5 , 0.25]])
    >>> round(result.scale, 6)
    3.0
    """
    task = Task(dissimilarities, latents, n_components, anchors, scale, weights, penalty, device)
    if underdetermined == "error" and anchors is not None:
        task.check_determined()
    init = _check_init(init, task)
    rng = check_random_state(random_state)
    if method == "stochastic" and (task.latents is None or weights is not None):
        raise ValueError(
            'method="stochastic" samples pairs of latents with equal weights. Pass latents and '
            'no weights, or method="exact".'
        )
    if task.n_moving == 0:
        stress = task.fixed_stress(task.problem())
        return SmacofResult(
            task.restore(task.coords[:0]), stress, 0, task.scale, np.array([stress])
        )

    if method == "stochastic" or (method == "auto" and task.is_large(MAX_EXACT)):
        points, history, n_iter = solve_by_sampling(
            task, init, rng, n_init=n_init, max_iter=max_iter, eps=eps, accelerate=accelerate
        )
        return _result(task, points, history, n_iter)

    problem = task.problem()
    constant = task.fixed_stress(problem)
    rough = task.rough_problem() if accelerate else None
    best = None
    for number in range(1 if isinstance(init, np.ndarray) else n_init):
        start = task.start(init if number == 0 else "random", problem, rng)
        options = {"max_iter": max_iter, "eps": eps}
        if rough is not None:
            found = majorize_twice(rough, problem, start, **options)
        else:
            found = majorize(problem, start, accelerate=accelerate, **options)
        if best is None or found[1][-1] < best[1][-1]:
            best = found
    points, history, n_iter = best
    return _result(task, points, np.array(history) + constant, n_iter)


def _result(task, points, history, n_iter):
    return SmacofResult(
        embedding=task.restore(points.cpu().numpy()),
        stress=float(history[-1]),
        n_iter=n_iter,
        scale=task.scale,
        history=np.asarray(history),
    )


def _check_init(init, task):
    if isinstance(init, str):
        if init == "anchors" and len(task.indices) == 0:
            raise ValueError('init="anchors" needs anchors. Pass some, or init="classical".')
        return init
    init = check_array(init, dtype=[np.float64, np.float32], input_name="init")
    if init.shape != (task.n_samples, task.n_dims):
        raise ValueError(
            f"init has shape {init.shape}, but (n_samples, n_components) = "
            f"{(task.n_samples, task.n_dims)} was expected."
        )
    return init
