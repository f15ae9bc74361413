"""AnchoredMDS: the estimator around `anchored_smacof`."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import validate_data

from .._utils.arrays import check_array
from .._utils.validation import check_unit, checks_parameters
from ._anchors import Anchors
from ._smacof import PARAMETER_CONSTRAINTS, anchored_smacof


class AnchoredMDS(ClassNamePrefixFeaturesOutMixin, BaseEstimator):
    r"""Metric multidimensional scaling in which some positions may be known.

    Finds positions s_i whose distances fit those of the latents z_i, equation (6) of Zhou & Du
    (2024), in tissue units and with weights,

    .. math:: \min_S \sum_{i<j} w_{ij}
              \Bigl( \|s_i - s_j\| - \frac{\|z_i - z_j\|}{c} \Bigr)^2,

    subject to the known positions, equation (7),

    .. math:: s_i = s_i^*, \quad i \in A .

    Without anchors this is what `sklearn.manifold.MDS` solves, and the answer is unique up to a
    rigid motion. ``n_components + 1`` anchors in general position settle that motion, too.
    SMACOF solves it: every step minimizes a majorizer of the stress exactly, which for unit
    weights has a closed form with anchors, too.

    Parameters
    ----------
    n_components : int, default=2
        Number of coordinates of a position.
    dissimilarity : {"euclidean", "precomputed"}, default="euclidean"
        ``"euclidean"``: `fit` gets points and works on their distances, which are made block by
        block, so that memory is O(n_samples). ``"precomputed"``: `fit` gets the square matrix.
    scale : float or None, default=None
        c: dissimilarity units per tissue unit. None estimates it from the pairs of anchors, by
        the regression ``d^2 = delta^2 / c^2 + t``, where t >= 0 is what the latents do not know
        (t = 0 with fewer than ``2 * (n_components + 1)`` anchors). Without anchors None means 1.
    penalty : float or None, default=None
        mu of the term ``mu * sum_A ||s_i - s_i*||^2``, which then replaces the constraint, in
        units of a pair weight (compare it with `n_samples`). None holds the anchors exactly.
    underdetermined : {"error", "allow"}, default="error"
        What to do when the anchors leave the pose open: fewer than ``n_components + 1``, or all
        in one line or plane. ``"allow"`` returns one of the equally good answers.
    init : {"auto", "classical", "anchors", "random"} or array-like, default="auto"
        Where to start. ``"classical"``: classical MDS, moved onto the anchors. ``"anchors"``:
        every row placed by its dissimilarities to the anchors. ``"auto"``: the better of the
        two. An array of shape (n_samples, n_components) starts there, once.
    n_init : int, default=1
        Number of starts; those after the first are random. The lowest stress wins.
    max_iter : int, default=300
        Most passes over the pairs, per start.
    eps : float, default=1e-5
        Stop when the stress falls by less than this fraction of itself (twice in a row when
        accelerated).
    accelerate : bool, default=True
        Add Nesterov's momentum to the steps where that lowers the stress. False takes the plain
        steps of `sklearn.manifold.smacof`.
    method : {"auto", "exact", "stochastic"}, default="auto"
        ``"exact"`` visits all pairs at every step. ``"stochastic"`` solves for landmarks, places
        the other rows by them, and refines all rows on sampled pairs; its cost is linear in
        `n_samples`, and it needs ``dissimilarity="euclidean"`` and no weights. ``"auto"`` is
        exact up to 10,000 rows.
    device : str or None, default=None
        Where to compute: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ..., or ``"auto"`` for CUDA if
        there is any and the CPU otherwise. None is the CPU.
    random_state : int, RandomState instance or None, default=None
        Seed of random starts and samples.
    verbose : int, default=0
        1 shows the passes over the pairs and the stress on a progress bar, for each start.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        Positions in tissue units; anchors as given, bit for bit, unless there is a `penalty`.
    stress_ : float
        Weighted sum of squared differences over all pairs, in squared tissue units, plus the
        penalty term where there is one. Estimated from sampled pairs by the stochastic method.
    n_iter_ : int
        Passes over the pairs after the first, of the best start; epochs of the stochastic
        method.
    scale_ : float
        c as given or estimated.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all names that `fit` saw are strings.

    See Also
    --------
    sklearn.manifold.MDS : Has no known positions, but a non-metric variant.

    References
    ----------
    Zhou, W. & Du, J.-H. (2024). Distance-Preserving Spatial Representations in Genomic Data.
    arXiv:2408.00911.

    de Leeuw, J. & Heiser, W. J. (1980). Multidimensional scaling with restrictions on the
    configuration. Multivariate Analysis V, 501-522.

    Borg, I. & Groenen, P. J. F. (2005). Modern Multidimensional Scaling. Springer.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_dpvae.reconstruction import AnchoredMDS
    >>> rng = np.random.default_rng(0)
    >>> tissue = rng.uniform(size=(50, 2))
    >>> latents = 7.0 * tissue @ np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0]])
    >>> known = np.arange(4)
    >>> mds = AnchoredMDS(n_components=2).fit(latents, anchors=(known, tissue[known]))
    >>> bool(np.allclose(mds.embedding_, tissue))
    True
    >>> round(mds.scale_, 6)
    7.0
    """

    __metadata_request__fit: ClassVar = {"anchors": True, "weights": True}

    _parameter_constraints: ClassVar[dict] = {
        **PARAMETER_CONSTRAINTS,
        "dissimilarity": [StrOptions({"euclidean", "precomputed"})],
    }

    def __init__(
        self,
        n_components: int = 2,
        *,
        dissimilarity: str = "euclidean",
        scale: float | None = None,
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
    ) -> None:
        self.n_components = n_components
        self.dissimilarity = dissimilarity
        self.scale = scale
        self.penalty = penalty
        self.underdetermined = underdetermined
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.eps = eps
        self.accelerate = accelerate
        self.method = method
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: ArrayLike, y: Any = None, *, anchors: Anchors = None, weights: Any = None
    ) -> "AnchoredMDS":
        """Find the positions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Latents, or dissimilarities with ``dissimilarity="precomputed"``.
        y : Ignored
            Accepted so that pipelines can pass it.
        anchors : tuple (indices, coords) or array-like (n_samples, n_components), default=None
            Known positions in tissue units: a tuple of row indices and coordinates, or one row
            per sample with NaN in all columns where the position is unknown.
        weights : array-like or sparse matrix of shape (n_samples, n_samples), default=None
            Symmetric pair weights w >= 0, the mask M of equation (5); None means 1 for every
            pair.

        Returns
        -------
        self : AnchoredMDS
            The fitted estimator.

        Raises
        ------
        ValueError
            If an anchor is out of range, given twice or known only in part; if the anchors
            leave the pose open; or if dissimilarities or weights are not symmetric.
        """
        self.fit_transform(X, y, anchors=anchors, weights=weights)
        return self

    @checks_parameters
    def fit_transform(
        self, X: ArrayLike, y: Any = None, *, anchors: Anchors = None, weights: Any = None
    ) -> NDArray[np.floating]:
        """Find the positions and return them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Latents, or dissimilarities with ``dissimilarity="precomputed"``.
        y : Ignored
            Accepted so that pipelines can pass it.
        anchors : tuple (indices, coords) or array-like (n_samples, n_components), default=None
            Known positions, as in `fit`.
        weights : array-like or sparse matrix of shape (n_samples, n_samples), default=None
            Symmetric pair weights, as in `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_components)
            Positions in tissue units.
        """
        checked = check_array(
            X, dtype=[np.float64, np.float32], ensure_min_samples=2, estimator=self, input_name="X"
        )
        check_unit("X spans", checked, "X")
        precomputed = self.dissimilarity == "precomputed"
        result = anchored_smacof(
            checked if precomputed else None,
            latents=None if precomputed else checked,
            n_components=self.n_components,
            anchors=anchors,
            scale=self.scale,
            weights=weights,
            penalty=self.penalty,
            underdetermined=self.underdetermined,
            init=self.init,
            n_init=self.n_init,
            max_iter=self.max_iter,
            eps=self.eps,
            accelerate=self.accelerate,
            method=self.method,
            device=self.device,
            random_state=self.random_state,
            verbose=self.verbose,
        )
        # Last, so that a call that raises leaves no learned attribute behind.
        validate_data(self, X, skip_check_array=True)
        self.embedding_ = result.embedding
        self.stress_ = result.stress
        self.n_iter_ = result.n_iter
        self.scale_ = result.scale
        return self.embedding_

    @property
    def _n_features_out(self) -> int:
        return self.embedding_.shape[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.dissimilarity == "precomputed"
        return tags
