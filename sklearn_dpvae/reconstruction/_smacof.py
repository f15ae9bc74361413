"""Anchored SMACOF: equations (6) and (7) of Zhou & Du (2024) as pure functions."""

import numbers
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from .._utils.arrays import check_array
from .._utils.validation import checks_arguments
from ._anchors import Anchors
from ._checks import check_init
from ._majorize import Solution, majorize, majorize_twice
from ._problem import ScalingProblem
from ._starts import solve_from_starts
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
    "verbose": ["verbose"],
}


@dataclass(frozen=True)
class SmacofResult:
    """What `anchored_smacof` found.

    Attributes
    ----------
    embedding : ndarray of shape (n_samples, n_components)
        Positions in tissue units; anchors as given, bit for bit, unless there is a penalty.
    stress : float
        ``sum_{i<j} w_ij (||s_i - s_j|| - delta_ij)^2`` over all pairs, in squared tissue units,
        plus the penalty term if there is a penalty. Estimated from sampled pairs by the
        stochastic method.
    n_iter : int
        Passes over the pairs after the first, of the best start.
    scale : float
        c: dissimilarity units per tissue unit, as given or estimated from the anchors.
    history : ndarray of shape (n_steps + 1,)
        Stress at the start and after every step. It never rises, except where the stochastic
        method estimates it.
    """

    embedding: NDArray[np.floating]
    stress: float
    n_iter: int
    scale: float
    history: NDArray[np.float64] = field(repr=False)


def guttman_transform(
    points: ArrayLike,
    dissimilarities: ArrayLike,
    *,
    weights: Any = None,
    anchors: Anchors = None,
    penalty: float | None = None,
) -> NDArray[np.floating]:
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

    Raises
    ------
    ValueError
        If shapes disagree, dissimilarities or weights are not symmetric or are negative, or
        anchors are malformed.

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
    current = check_array(points, dtype=[np.float64, np.float32], input_name="points")
    problem = ScalingProblem(
        dissimilarities,
        n_dims=current.shape[1],
        anchors=anchors,
        scale=1.0,
        weights=weights,
        penalty=penalty,
    )
    if len(current) != problem.n_samples:
        raise ValueError(
            f"points has {len(current)} rows but dissimilarities has {problem.n_samples}. Pass "
            "one row per point."
        )
    if problem.n_moving == 0:
        return problem.restore(current[:0])
    majorizer = problem.majorizer()
    moving = problem.tensor(problem.arrange(current))
    _, product = majorizer.evaluate(moving)
    return problem.restore(majorizer.step(moving, product).numpy())


@checks_arguments(
    {
        "dissimilarities": ["array-like", None],
        "latents": ["array-like", None],
        "weights": ["array-like", "sparse matrix", None],
        **PARAMETER_CONSTRAINTS,
    }
)
def anchored_smacof(
    dissimilarities: ArrayLike | None = None,
    *,
    latents: ArrayLike | None = None,
    n_components: int = 2,
    anchors: Anchors = None,
    scale: float | None = None,
    weights: Any = None,
    penalty: float | None = None,
    underdetermined: str = "error",
    init: str | ArrayLike = "auto",
    n_init: int = 1,
    max_iter: int = 300,
    eps: float = 1e-5,
    accelerate: bool = True,
    method: str = "auto",
    device: str | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> SmacofResult:
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
        the regression ``d^2 = delta^2 / c^2 + t``, where t >= 0 is what the latents do not know
        (t = 0 with fewer than ``2 * (n_components + 1)`` anchors). Without anchors None means 1.
    weights : array-like or sparse matrix of shape (n_samples, n_samples), default=None
        Symmetric pair weights w >= 0, the mask M of equation (5). None means 1 for every pair.
        A sparse matrix makes time and memory follow its stored entries. Steps are then solved
        by conjugate gradients.
    penalty : float or None, default=None
        mu, in units of a pair weight (compare it with `n_samples`). None holds anchors exactly.
    underdetermined : {"error", "allow"}, default="error"
        What to do when the anchors leave the pose open: fewer than ``n_components + 1``, or all in
        one line or plane. That is checked for each part of the data that `weights` connect.
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
        steps in float32 if there are many float64 latents. False takes plain SMACOF steps, those
        of `sklearn.manifold.smacof`.
    method : {"auto", "exact", "stochastic"}, default="auto"
        ``"exact"`` visits all pairs at every step. ``"stochastic"`` solves for landmarks, places
        the other rows by them, and refines all rows on sampled pairs; its cost is linear in
        `n_samples`, and it needs `latents` and no `weights`. ``"auto"`` is exact up to 10,000
        rows.
    device : str or None, default=None
        Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ..., or ``"auto"`` for CUDA if
        there is any and the CPU otherwise. None is the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of random starts and samples.
    verbose : int, default=0
        1 shows the passes over the pairs and the stress on a progress bar, for each start.

    Returns
    -------
    result : SmacofResult
        The positions, their stress, and how they were found.

    Raises
    ------
    ValueError
        If both or neither of `dissimilarities` and `latents` are given, if one is malformed, or
        if anchors contradict each other or leave the pose open.

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
    problem = ScalingProblem(
        dissimilarities,
        latents=latents,
        n_dims=n_components,
        anchors=anchors,
        scale=scale,
        weights=weights,
        penalty=penalty,
        device=device,
    )
    if underdetermined == "error" and anchors is not None:
        problem.check_determined()
    given = _check_start(init, problem)
    rng = check_random_state(random_state)
    if method == "stochastic" and (latents is None or weights is not None):
        raise ValueError(
            'method="stochastic" samples pairs of latents with equal weights. Pass latents and '
            'no weights, or method="exact".'
        )
    if problem.n_moving == 0:
        stress = problem.fixed_stress(problem.majorizer())
        return _result(problem, Solution(problem.fixed[:0], [stress], 0))

    if method == "stochastic" or (method == "auto" and problem.is_large(MAX_EXACT)):
        solution = solve_by_sampling(
            problem,
            given,
            rng,
            n_init=n_init,
            max_iter=max_iter,
            eps=eps,
            accelerate=accelerate,
            verbose=bool(verbose),
        )
        return _result(problem, solution)

    majorizer = problem.majorizer()
    rough = problem.rough_majorizer() if accelerate else None

    def solve(start: Tensor) -> Solution:
        limits: dict[str, Any] = {"max_iter": max_iter, "eps": eps, "verbose": bool(verbose)}
        if rough is not None:
            return majorize_twice(rough, majorizer, start, **limits)
        return majorize(majorizer, start, accelerate=accelerate, **limits)

    solution = solve_from_starts(problem, majorizer, given, rng, n_init=n_init, solve=solve)
    return _result(problem, solution, constant=problem.fixed_stress(majorizer))


def _result(problem: ScalingProblem, solution: Solution, *, constant: float = 0.0) -> SmacofResult:
    history = np.array(solution.history) + constant
    return SmacofResult(
        embedding=problem.restore(solution.points.cpu().numpy()),
        stress=float(history[-1]),
        n_iter=solution.n_iter,
        scale=problem.scale,
        history=history,
    )


def _check_start(init: str | ArrayLike, problem: ScalingProblem) -> str | NDArray[np.floating]:
    if isinstance(init, str):
        if init == "anchors" and len(problem.indices) == 0:
            raise ValueError('init="anchors" needs anchors. Pass some, or init="classical".')
        return init
    shape = (problem.n_samples, problem.n_dims)
    return check_init(init, shape, dtype=[np.float64, np.float32])
