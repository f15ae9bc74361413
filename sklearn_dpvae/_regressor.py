"""The estimator: parameters, then fit, predict and transform in reading order.

It checks what it is given, calls `fit_reference`, and asks the fitted model.
"""

import copy
from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.utils import check_consistent_length, check_random_state, check_X_y
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _get_feature_names, check_is_fitted, validate_data

from ._fitted.adaptation import Adaptation, TunedMap
from ._fitted.fitting import fit_reference
from ._fitted.frames import SectionFrames
from ._fitted.known_cells import KnownCells, radii_told_by
from ._fitted.model import FittedModel
from ._fitted.placement import PLACEMENTS, Placement, make_placement
from ._fitted.reference import (
    batch_codes,
    check_hidden_layer_sizes,
    check_levels,
    check_reference,
)
from ._fitted.settings import FitSettings
from ._fitted.uncertainty import ErrorModel, std_of_half
from ._network.blocks import ACTIVATIONS
from ._network.dpvae import DPVAE, HIERARCHIES
from ._network.likelihoods import COUNT_LIKELIHOODS, LIKELIHOODS
from ._network.losses import DISTANCE_LOSSES
from ._network.objective import PRECISIONS
from ._training.callbacks import check_callbacks
from ._training.devices import pick_device
from ._utils.arrays import check_array, check_container, naming
from ._utils.validation import check_coords, check_level, check_same_order, checks_parameters
from ._utils.warn import warn
from .masks import MASKS
from .metrics import procrustes_disparity
from .places import PlaceDistribution

# Of a term of the loss: what float32 holds, with room for the term.
_MAX_WEIGHT = 1e20


class DPVAESpatialRegressor(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    RegressorMixin,
    BaseEstimator,
):
    """Positions of cells from their expression, by a distance-preserving VAE.

    A variational autoencoder is trained on cells whose positions are known, with a term that
    makes distances between latents proportional to distances in the tissue (eq. 3 and 4 of
    [1]_)::

        L = alpha * ( E_q[-log p(x|z)] + beta * KL(q(z|x) || N(0, I)) )
            + lambda * E_ij | ||z_i - z_j|| - c ||s_i - s_j|| |
            + gamma * (1 - Procrustes fit of z to s)

    with c > 0 learned. Positions enter through the loss only, so that expression is enough to
    place new cells. The last term is not in the paper; it makes cells whose place is uncertain
    shrink towards the middle, which distances alone do not.

    Parameters
    ----------
    n_components : int, tuple of int or None, default=None
        Size of the latent, d; at least the dimension of the positions, which None stands for.
        A tuple stacks latents into a Markovian hierarchy, the map last: ``(32, 8, 2)``.
    hierarchy : {"consistency", "denoising"}, default="consistency"
        How the levels of a hierarchy are inferred: upward, each from the one below it; or
        downward (eq. 21), each from the one above it and the expression, which makes the
        divergences known in closed form.
    distance_weight : float, default=1.0
        lambda, the weight of the distance-preserving term.
    alignment_weight : float, default=3.0
        gamma, the weight of the alignment term; 0 in the paper.
    kl_weight : float, default=1.0
        beta, the weight of the KL divergence within the ELBO.
    elbo_weight : float or "per_gene", default="per_gene"
        alpha, the weight of the negative ELBO. "per_gene" is one over the number of features, so
        that the other weights mean the same for panels of any size.
    distance_loss : {"absolute", "squared", "huber"}, default="absolute"
        How a difference of distances counts; the paper's is absolute.
    likelihood : {"gaussian", "poisson", "nb", "zinb"}, default="gaussian"
        p(x|z). The last three explain counts: `X` itself, or `counts` of `fit`.
    library : {"observed", "inferred"}, default="observed"
        Of likelihoods of counts: whether the library size is the number of a cell's counts, or a
        latent q(l|x) with a log-normal prior, as in scVI.
    encode_batch : bool, default=False
        Whether `batch` of `fit` conditions the encoder, too, as in a CVAE. The batch of a query
        counts as not known: it is encoded by the mean of the conditions.
    mask : None, {"knn", "radius", "clusters"}, callable, array or sparse matrix, default=None
        Weights M of the pairs in the distance term (eq. 5), of shape (n_cells, n_cells) if given
        as a matrix. None takes all pairs of a section. See `sklearn_dpvae.masks`.
    n_estimators : int, default=8
        Number of networks, trained side by side and averaged after their poses are taken out.
    max_samples : float, default=0.8
        Share of the cells of each section that each network is trained on. The others tell how
        well it places cells that it has not seen.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    activation : {"relu", "gelu", "silu", "tanh"}, default="silu"
        Of the hidden layers.
    layer_norm : bool, default=True
        Whether hidden layers are normalized.
    dropout : float, default=0.3
        Share of the encoder's hidden units that is dropped in training.
    input_dropout : float, default=0.0
        Share of the inputs that is dropped in training; worth raising where genes, not
        components, are the input.
    input_noise : float, default=0.0
        Standard deviation of noise that is added to the inputs in training, in their units. A
        third of the noise that they have by themselves keeps the networks from learning that by
        heart: `make_spatial_pipeline` passes 0.08, as its components have 0.25.
    weight_decay : float, default=0.01
        Decoupled weight decay of AdamW; 0 is plain Adam.
    max_epochs : int or "auto", default="auto"
        Passes over the cells. "auto" makes 30 steps for each feature, but from 600 to
        1,500, and at least 10 passes; 100 steps in `partial_fit`.
    lr : float, default=0.005
        Learning rate, at its peak if it follows a schedule.
    lr_schedule : {"one_cycle", "constant"}, default="one_cycle"
        Course of the learning rate.
    batch_size : int or None, default=128
        Cells of a step; None takes all at once.
    reconstruction : {"auto", "latent", "reference", "mds"}, default="auto"
        From latents to positions: by the similarity of the frame ("latent"), by distances to
        landmarks of the reference ("reference", eq. 6 for one cell at a time), or jointly for
        all cells of a call ("mds", eq. 6). "auto" is "latent" where the latent has as many
        dimensions as the positions, else "reference"; and in a `SpatialPipeline` with
        `n_calibration_folds`, the median of `predict_places` around that, if it is closer to the
        true places of cells that were left out of all steps.
    n_landmarks : int, default=800
        Cells of each section that are kept as landmarks.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the fit before.
    early_stopping : bool, default=False
        Whether a part of the cells is held out and training stops when their stress no longer
        falls; the best weights are kept. In a one-cycle schedule the first half of the epochs,
        with the high learning rates, does not count.
    validation_fraction : float, default=0.1
        Share of the cells of each section that `early_stopping` holds out.
    patience : int, default=10
        Epochs without a lower stress before `early_stopping` stops.
    device : str, default="auto"
        Where to train: "cpu", "cuda", "mps" ...; "auto" takes CUDA, then MPS, then the CPU.
        The fitted model lives on the CPU and predicts there, in float64.
    precision : {"float32", "bfloat16"}, default="float32"
        Of the networks' matrix products in training. "bfloat16" keeps 8 bits of their factors,
        which GPUs and some CPUs multiply several times faster; it pays where genes are the input
        or layers are wide. Weights, losses and predictions are not rounded.
    callbacks : list of skorch callbacks or None, default=None
        Called during training.
    checkpoint : path-like or None, default=None
        File that the training is kept in, so that the same `fit` goes on from there after a crash
        and ends at the same weights, bit for bit. It is deleted when the fit is done. A fit of
        other data or parameters refuses it. `callbacks` begin anew.
    checkpoint_interval : float, default=60.0
        Seconds between two writes of `checkpoint`, between epochs; 0 writes after each.
    on_interrupt : {"raise", "keep"}, default="raise"
        What Ctrl-C does during training: nothing is fitted, or the model of the best epoch so far
        (with `early_stopping`, else of the last whole one) is kept, with a warning. In a search
        or cross-validation it is raised in any case.
    verbose : int, default=0
        1 shows a progress bar of the training, 2 a line an epoch. Either shows one of `predict`,
        too, where it solves for all cells at once.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, batches and subsets. torch's and numpy's global generators are left
        as they were.

    Attributes
    ----------
    fitted_ : FittedModel
        What the fit has learned, as one value. The following attributes are read from it.
    module_ : torch.nn.Module
        The networks, on the CPU and in evaluation mode.
    n_components_ : int
        Size of the latent that is the map.
    scale_ : float
        c of eq. (3), in latent units per tissue unit.
    sections_ : ndarray
        Labels of the sections of the last fit.
    frames_ : SectionFrames
        From latents to the positions of each section.
    placement_ : Placement
        What `reconstruction` stands for; its `pointwise` says whether each row is answered by
        itself.
    error_model_ : ErrorModel
        What `predict` with ``return_std=True`` goes by.
    batches_ : ndarray or None
        Labels of the batches that the decoder is conditioned on.
    library_size_ : float or None
        Median library size of the counts that were explained.
    history_ : list of dict
        For each epoch: loss, its terms (reconstruction, kl, distance, alignment), scale (c, in
        scaled units), dur (seconds), and with `early_stopping` valid_stress and valid_elbo, the
        ELBO of held-out cells (for the Gaussian up to its constant). A term of weight 0 is
        measured on some cells of one batch.
    n_iter_ : int
        Number of epochs.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had string names.

    See Also
    --------
    make_spatial_pipeline : The recommended chain from counts to positions.
    sklearn_dpvae.reconstruction.AnchoredMDS : Eq. (6) and (7) for any latents.

    References
    ----------
    .. [1] Zhou, W. & Du, J.-H. (2024). Distance-Preserving Spatial Representations in Genomic
       Data. arXiv:2408.00911.

    Examples
    --------
    >>> from sklearn_dpvae import DPVAESpatialRegressor
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler
    >>> tissue = make_tissue(300, 60, random_state=0)
    >>> X = SectionScaler().fit_transform(LogNormalizer().fit_transform(tissue.X))
    >>> model = DPVAESpatialRegressor(n_estimators=2, max_epochs=20, random_state=0)
    >>> model = model.fit(X[:200], tissue.coords[:200])
    >>> model.predict(X[200:]).shape
    (100, 2)
    >>> bool(model.score(X[200:], tissue.coords[200:]) > 0.3)
    True
    """

    __metadata_request__fit: ClassVar = {"sections": True, "batch": True, "counts": True}
    __metadata_request__partial_fit: ClassVar = {"sections": True, "batch": True, "counts": True}
    __metadata_request__predict: ClassVar = dict.fromkeys(
        (
            "sections",
            "anchors",
            "adapt",
            "covariates",
            "penalty",
            "return_std",
            "underdetermined",
        ),
        True,
    )
    __metadata_request__score: ClassVar = {"sections": True}

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "distance_weight": [Interval(Real, 0, _MAX_WEIGHT, closed="both")],
        "alignment_weight": [Interval(Real, 0, _MAX_WEIGHT, closed="both")],
        "kl_weight": [Interval(Real, 0, _MAX_WEIGHT, closed="both")],
        "elbo_weight": [Interval(Real, 0, _MAX_WEIGHT, closed="both"), StrOptions({"per_gene"})],
        "distance_loss": [StrOptions(set(DISTANCE_LOSSES))],
        "hierarchy": [StrOptions(set(HIERARCHIES))],
        "likelihood": [StrOptions(set(LIKELIHOODS))],
        "library": [StrOptions({"observed", "inferred"})],
        "encode_batch": ["boolean"],
        "mask": [StrOptions(set(MASKS)), callable, "array-like", "sparse matrix", None],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Real, 0, 1, closed="right")],
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "layer_norm": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "input_noise": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"one_cycle", "constant"})],
        "batch_size": [Interval(Integral, 3, None, closed="left"), None],
        "reconstruction": [StrOptions(set(PLACEMENTS))],
        "n_landmarks": [Interval(Integral, 3, None, closed="left")],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "precision": [StrOptions(set(PRECISIONS))],
        "callbacks": [list, tuple, None],
        "checkpoint": [str, PathLike, None],
        "checkpoint_interval": [Interval(Real, 0, None, closed="left")],
        "on_interrupt": [StrOptions({"raise", "keep"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | tuple[int, ...] | None = None,
        *,
        distance_weight: float = 1.0,
        alignment_weight: float = 3.0,
        kl_weight: float = 1.0,
        elbo_weight: float | Literal["per_gene"] = "per_gene",
        distance_loss: str = "absolute",
        hierarchy: str = "consistency",
        likelihood: str = "gaussian",
        library: str = "observed",
        encode_batch: bool = False,
        mask: Any = None,
        n_estimators: int = 8,
        max_samples: float = 0.8,
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        activation: str = "silu",
        layer_norm: bool = True,
        dropout: float = 0.3,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
        weight_decay: float = 0.01,
        max_epochs: int | Literal["auto"] = "auto",
        lr: float = 5e-3,
        lr_schedule: str = "one_cycle",
        batch_size: int | None = 128,
        reconstruction: str = "auto",
        n_landmarks: int = 800,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        device: str = "auto",
        precision: str = "float32",
        callbacks: list | tuple | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_interval: float = 60.0,
        on_interrupt: Literal["raise", "keep"] = "raise",
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.distance_weight = distance_weight
        self.alignment_weight = alignment_weight
        self.kl_weight = kl_weight
        self.elbo_weight = elbo_weight
        self.distance_loss = distance_loss
        self.hierarchy = hierarchy
        self.likelihood = likelihood
        self.library = library
        self.encode_batch = encode_batch
        self.mask = mask
        self.n_estimators = n_estimators
        self.max_samples = max_samples
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.layer_norm = layer_norm
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.input_noise = input_noise
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.reconstruction = reconstruction
        self.n_landmarks = n_landmarks
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.on_interrupt = on_interrupt
        self.verbose = verbose
        self.random_state = random_state

    @checks_parameters
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        batch: ArrayLike | None = None,
        counts: ArrayLike | None = None,
        views: Sequence[Any] = (),
    ) -> Self:
        """Learn from cells whose positions are known.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            What the encoder sees: components or genes, as a rule z-scored; or counts, where the
            likelihood is one of counts and `counts` is not given.
        y : array-like of shape (n_cells,) or (n_cells, n_dims)
            Positions, in tissue units.
        sections : array-like of shape (n_cells,), default=None
            Section of each row; None means one section. Pairs are formed within sections only,
            so that each may have a coordinate frame of its own.
        batch : array-like of shape (n_cells,), default=None
            Batch (donor, platform, section ...) that the decoder is conditioned on.
        counts : {array-like, sparse matrix} of shape (n_cells, n_genes), default=None
            Counts that a likelihood of counts explains, where `X` is something else.
        views : sequence of {array-like, sparse matrix} of shape (n_cells, n_features), default=()
            Other measurements of the same cells, such as shallower ones. Each batch draws one of
            them, or `X`, for each of its cells. Radii are learned on `X`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If input is NaN or infinite, lengths differ, a label is missing, a section has fewer
            than three cells or no extent, or a parameter is out of range. The estimator stays as
            it was.
        """
        resume = self.fitted_ if self.warm_start and hasattr(self, "fitted_") else None
        return self._fit(X, y, sections, batch, counts, views, resume=resume)

    @checks_parameters
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sections: ArrayLike | None = None,
        batch: ArrayLike | None = None,
        counts: ArrayLike | None = None,
    ) -> Self:
        """Fine-tune a fitted model on located cells, as a rule of another section.

        Goes on from the weights at a tenth of the learning rate, on the given cells alone; the
        frames, and so the answers of `predict`, become those of their sections. An unfitted
        model is fitted.

        Parameters
        ----------
        X, y, sections, batch, counts
            See `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As `fit`, and if features or dimensions differ from those of the fitted model.
        """
        resume = getattr(self, "fitted_", None)
        return self._fit(
            X, y, sections, batch, counts, (), resume=resume, fine_tune=resume is not None
        )

    def _fit(
        self,
        X: Any,
        y: Any,
        sections: Any,
        batch: Any,
        counts: Any,
        views: Sequence[Any],
        *,
        resume: FittedModel | None,
        fine_tune: bool = False,
    ) -> Self:
        """Check all, fit, and only then set what is learned."""
        given = X
        check_callbacks(self.callbacks)
        check_same_order(X, y)
        if self.library == "inferred" and self.likelihood not in COUNT_LIKELIHOODS:
            raise ValueError(
                f'library="inferred" needs a likelihood of counts, but likelihood is '
                f"{self.likelihood!r}. Pass one of {', '.join(sorted(COUNT_LIKELIHOODS))}."
            )
        X, y = self._check_fit(X, y, reset=resume is None)
        hidden_layer_sizes = check_hidden_layer_sizes(self.hidden_layer_sizes)
        data = check_reference(
            X,
            y,
            sections=sections,
            batch=batch,
            counts=counts,
            views=views,
            mask=self.mask,
            likelihood=self.likelihood,
            resume=resume,
            name=type(self).__name__,
        )
        settings = FitSettings.of(
            self.get_params(deep=False)
            | {
                "device": pick_device(self.device),
                "hidden_layer_sizes": hidden_layer_sizes,
                "verbose": int(self.verbose),
            },
            levels=check_levels(self.n_components, data.coords.shape[1], resume),
            repeatable=self.random_state is not None,
            seed=int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)),
        )
        if fine_tune:
            settings = settings.for_fine_tuning()
        fitted = fit_reference(data, settings, resume)
        if resume is None:
            validate_data(self, given, skip_check_array=True)
        self.fitted_ = fitted
        return self

    def _check_fit(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        """X and y, checked as scikit-learn does; no attribute is set."""
        options: dict[str, Any] = {
            "accept_sparse": "csr",
            "dtype": [np.float32, np.float64],
            "multi_output": True,
            "y_numeric": True,
            "ensure_min_samples": 2,
        }
        if y is not None:
            # Errors of its conversion, which would not say that they are about y.
            check_array(y, input_name="y", ensure_2d=False, ensure_all_finite=False)
        with naming("X"):
            check_container(X)
            if not reset:
                return validate_data(self, X, y, reset=False, **options)
            # What it raises would else come after the training.
            _get_feature_names(X)
            return check_X_y(X, y, estimator=self, **options)

    def predict(
        self,
        X: ArrayLike,
        *,
        anchors: Any = None,
        adapt: Literal["auto"] | bool = "auto",
        covariates: ArrayLike | None = None,
        penalty: float | None = None,
        sections: ArrayLike | None = None,
        return_std: bool = False,
        underdetermined: str = "error",
    ) -> Any:
        """Predict positions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            As in `fit`.
        anchors : tuple (indices, coords) or array-like of shape (n_cells, n_dims), default=None
            Known positions of some of the cells, as row indices and coordinates, or as an array
            with NaN where unknown; one-dimensional where y of `fit` was. All cells of a section
            are then placed jointly under the constraint that these stay where they are (eq. 6
            and 7), in their frame; they come back bit for bit.
        adapt : {"auto"} or bool, default="auto"
            Whether anchors teach more than the pose. "auto": from ``4 * (n_dims + 1)`` of them in
            a section on. True: the same, but fewer are an error. False: never, which is eq. (6)
            and (7) alone.
        covariates : array-like of shape (n_cells, n_covariates), default=None
            With anchors that teach: what else tells how alike cells are. `SpatialPipeline` passes
            principal components of the query's own genes.
        penalty : float, default=None
            mu > 0 of the term ``mu * sum_A ||s_i - s_i*||^2``, which then replaces the constraint
            on the anchors, in units of a pair of cells: compare it with the number of cells.
        sections : array-like of shape (n_cells,), default=None
            Section of each row. Sections of the reference are answered in their own frames, all
            other rows in that of the largest section of the reference. With `anchors`, each
            section is solved by itself.
        return_std : bool, default=False
            Whether to return a standard deviation for each cell, too.
        underdetermined : {"error", "allow"}, default="error"
            What to do when the anchors of a section are fewer than n_dims + 1 or lie on one
            line: raise, or return one of the equally good answers.

        Returns
        -------
        coords : ndarray of shape (n_cells, n_dims), or (n_cells,) if y was one-dimensional
            Positions, in tissue units.
        std : ndarray of shape (n_cells,)
            Standard deviation along each axis, in tissue units; 0 for anchors. Only if
            `return_std`. See `calibrate`.

        Raises
        ------
        ValueError
            If features differ from those of the fit, or anchors are malformed, contradictory or
            too few.

        Notes
        -----
        Without anchors each row is answered by itself, except with ``reconstruction="mds"``.

        Latents become positions as `reconstruction` says. With "auto", a `SpatialPipeline` that
        left cells out of all steps (`n_calibration_folds`) knows whether the spatial median of
        `predict_places` would have been closer to their true places, the point of the smallest
        expected distance, and answers with it if so.

        Anchors that teach (`adapt`) do so in three steps, for each section: a copy of the networks
        is fine-tuned on them, as by `partial_fit`; its map and the map of the fitted networks
        are averaged, with weights that suit the anchors; and a Gaussian process learns from
        what is left of their errors, as a function of the place, of `X` and of `covariates`.
        Errors of an anchor are those of networks that were not tuned on it. The corrected map
        then stands for the latents in eq. (6), with c = 1. The estimator stays as it was. At most
        2,000 anchors of a section enter the process.

        Else, with anchors, c of eq. (6) is not the `scale_` of the training. It is estimated from
        the anchors of the section, as `anchored_smacof` does with ``scale=None``, if there are
        ``2 * (n_dims + 1)`` or more; with fewer, in the same way, from landmarks of the
        reference section in whose frame the start is.
        """
        check_is_fitted(self)
        if not isinstance(underdetermined, str) or underdetermined not in ("error", "allow"):
            raise ValueError(
                f'underdetermined must be "error" or "allow", got {underdetermined!r}.'
            )
        _check_adapt(adapt)
        if penalty is not None and not (isinstance(penalty, Real) and 0 < penalty < np.inf):
            raise ValueError(f"penalty must be None or a number above 0, got {penalty!r}.")
        checked, fitted = self._check_query(X), self.fitted_
        coords, latents, disagreement, known = self._answer(
            checked, sections, anchors, adapt, covariates
        )
        coords = fitted.hold(
            latents,
            coords,
            known,
            penalty=penalty,
            underdetermined=underdetermined,
            verbose=bool(self.verbose),
        )
        placed = coords[:, 0] if fitted.one_dimensional else coords
        if not return_std:
            return placed
        n_dims = coords.shape[1]
        std = fitted.error_model.std(latents, disagreement, checked, n_dims)
        told = radii_told_by(known, len(coords), 0.5)
        return placed, np.where(np.isnan(told), std, std_of_half(told, n_dims))

    def _answer(
        self,
        checked: Any,
        sections: ArrayLike | None,
        anchors: Any,
        adapt: Any,
        covariates: ArrayLike | None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[KnownCells]]:
        """Positions without anchors, latents, disagreement, and what anchors teach, if any."""
        fitted = self.fitted_
        coords, latents, disagreement = fitted.answer(
            checked, self.placement_, sections, by_places=self._by_places
        )
        known = []
        if anchors is not None:
            adaptation = self._adaptation(adapt, covariates, len(coords))
            known = fitted.learn_from(checked, latents, coords, anchors, sections, adaptation)
        return coords, latents, disagreement, known

    def _adaptation(
        self, adapt: Any, covariates: ArrayLike | None, n_samples: int
    ) -> Adaptation | None:
        """How to learn from anchors, if at all: by networks like these, and what else is known."""
        if not adapt:
            return None
        others = None
        if covariates is not None:
            others = check_array(covariates, dtype=np.float64, input_name="covariates")
            if len(others) != n_samples:
                raise ValueError(
                    f"covariates has {len(others)} rows but X has {n_samples}. Pass one row for "
                    "each cell."
                )
        return Adaptation(self._tuned_map, others, required=adapt != "auto")

    def _tuned_map(
        self, X: Any, coords: NDArray[np.float64], of_all: Any, required: bool
    ) -> TunedMap | None:
        """The map of a copy of the networks that is fine-tuned on anchors.

        None where the networks explain what a query does not come with, counts or batches, and,
        unless it is `required`, where they cannot be tuned on these anchors, for instance because
        all of them have the same expression.
        """
        fitted = self.fitted_
        if self.likelihood in COUNT_LIKELIHOODS or fitted.batches is not None:
            return None
        tuned = copy.copy(self)
        # Of each pair of networks, one has not seen an anchor; that map is not overconfident.
        tuned.set_params(
            max_samples=0.5,
            mask=self.mask if isinstance(self.mask, str) else None,
            early_stopping=False,
            callbacks=None,
            checkpoint=None,
            on_interrupt="raise",
            device="cpu",
            random_state=fitted.seed,
            verbose=0,
        )
        try:
            model = tuned.partial_fit(X, coords).fitted_
        except (ValueError, FloatingPointError):
            if required:
                raise
            return None
        if model.places is None or not model.tells_left_out:
            return None
        latents, _ = model.encode(of_all)
        return TunedMap(
            model.place(latents, tuned.placement_),
            model.error_model.rows,
            model.places.placed,
        )

    def calibrate(self, X: ArrayLike, y: ArrayLike, *, sections: ArrayLike | None = None) -> Self:
        """Calibrate the uncertainty on located cells that no step was fitted on.

        Without it, the uncertainty goes by cells that a member of the ensemble was not trained
        on. That is honest for the networks, but not for steps before them that see positions,
        such as the selection of genes. `SpatialPipeline` has `n_calibration_folds` for these, and
        `make_spatial_pipeline` uses it. What remains is the query that differs from the reference:
        calibrate on a few located cells of it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        y : array-like of shape (n_cells, n_dims)
            True positions, in the frame that `predict` answers in.
        sections : array-like of shape (n_cells,), default=None
            See `predict`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `X` and `y` do not match each other or the model.
        """
        check_is_fitted(self)
        checked = self._check_query(X)
        truth = check_coords(y, name="y")
        check_consistent_length(checked, truth)
        n_dims = self.fitted_.frames.n_dims
        if truth.shape[1] != n_dims:
            raise ValueError(
                f"y has {truth.shape[1]} dimension(s) but the model was fitted on {n_dims}. Pass "
                "positions of the same dimension."
            )
        self.fitted_ = self.fitted_.calibrated(
            checked, truth, self.placement_, sections, by_places=self._by_places
        )
        return self

    def predict_radius(
        self,
        X: ArrayLike,
        *,
        level: float = 0.95,
        anchors: ArrayLike | None = None,
        adapt: Literal["auto"] | bool = "auto",
        sections: ArrayLike | None = None,
        covariates: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Distance from the predicted position that holds the true one with a probability.

        By split conformal prediction: among cells like those that the model is calibrated on
        (see `calibrate`), a share of `level` lies within. In a section whose anchors teach, the
        anchors calibrate it, each predicted without itself.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        level : float, default=0.95
            Between 0 and 1.
        anchors, adapt, sections, covariates
            What `predict` was given, if it was given anchors.

        Returns
        -------
        ndarray of shape (n_cells,)
            Radii in tissue units; 0 for anchors.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1, or anchors are not as `predict` takes them.

        Warns
        -----
        UserWarning
            If the networks were trained on all cells that it could be calibrated on, as with one
            network or ``max_samples=1``: radii are then too small.
        """
        check_is_fitted(self)
        check_level(level)
        _check_adapt(adapt)
        errors = self.fitted_.error_model
        if not errors.knows_new_cells and errors.calibrated_on == "training":
            warn(
                "the networks were trained on every cell of the reference, so that errors of new "
                "cells are not known and radii are too small. Call calibrate with located cells, "
                "or fit with max_samples below 1 and several n_estimators."
            )
        checked, fitted = self._check_query(X), self.fitted_
        if anchors is None:
            latents, disagreement = fitted.encode(checked)
            return fitted.error_model.radius(latents, disagreement, checked, level)
        coords, latents, disagreement, known = self._answer(
            checked, sections, anchors, adapt, covariates
        )
        radius = fitted.error_model.radius(latents, disagreement, checked, level)
        told = radii_told_by(known, len(coords), level)
        return np.where(np.isnan(told), radius, told)

    def predict_places(
        self,
        X: ArrayLike,
        *,
        locations: ArrayLike | None = None,
        anchors: Any = None,
        adapt: Literal["auto"] | bool = "auto",
        covariates: ArrayLike | None = None,
        sections: ArrayLike | None = None,
        tolerance: float = 0.001,
    ) -> PlaceDistribution:
        """Where each cell may be: a probability for every place.

        A position is one point. Where expression leaves several places open, it lies between
        them, and a radius around it is of the wrong shape. This is the whole answer instead.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
            As in `fit`.
        locations : array-like of shape (n_locations, n_dims), default=None
            Places to choose from, in the frame of the answers: bins, spots, a grid. None are
            those of the reference's cells in the section that a row is answered in; of 2,000
            cells at most. With `anchors`, places are in the frame of the anchors, and the anchors,
            2,000 at most of a section, are places, too.
        anchors, adapt, covariates
            As in `predict`. Anchors are cells whose places are known: each is for sure at its own,
            or at the nearest one that there is. Where they teach, they also tell how much each
            kind of evidence counts.
        sections : array-like of shape (n_cells,), default=None
            Section of each row, see `predict`.
        tolerance : float, default=0.001
            Probability that may be left out of each row, to save memory: the smallest ones go.

        Returns
        -------
        PlaceDistribution
            With `probabilities`, a CSR matrix, and `mean`, `modes`, `region`, `sample` and
            `log_density`.

        Raises
        ------
        ValueError
            If features differ from those of the fit, `locations` has another number of
            dimensions than the positions, or anchors are not as `predict` takes them.

        See Also
        --------
        sklearn_dpvae.metrics.place_log_score : How good the probabilities are.

        Notes
        -----
        Four kinds of evidence are multiplied, each to its own power: two kernel ridge
        regressions from `X` to the place, the places of the cells most like this one, and a
        normal distribution around the predicted position. The powers maximize the probability
        of the true places of cells of the reference that were left out: of the networks, or of
        the whole chain in a `SpatialPipeline` with `n_calibration_folds`. They are tempered
        where queries are other sections. If `X` has more than 64 columns, latents take its place.

        Examples
        --------
        >>> from sklearn_dpvae import make_spatial_pipeline
        >>> from sklearn_dpvae.datasets import make_tissue
        >>> tissue = make_tissue(300, 60, random_state=0)
        >>> pipe = make_spatial_pipeline(max_epochs=3, random_state=0)
        >>> pipe = pipe.fit(tissue.X[:250], tissue.coords[:250])
        >>> places = pipe.predict_places(tissue.X[250:])
        >>> places.probabilities.shape
        (50, 250)
        >>> places.mean().shape, places.area(0.8).shape
        ((50, 2), (50,))
        """
        check_is_fitted(self)
        _check_adapt(adapt)
        checked, fitted = self._check_query(X), self.fitted_
        if not isinstance(tolerance, Real) or not 0 <= tolerance < 0.5:
            raise ValueError(f"tolerance must be at least 0 and below 0.5, got {tolerance!r}.")
        where = None
        if locations is not None:
            where = check_coords(locations, name="locations")
            n_dims = fitted.frames.n_dims
            if where.shape[1] != n_dims:
                raise ValueError(
                    f"locations has {where.shape[1]} dimension(s) but positions have {n_dims}. "
                    "Pass places in the frame of the answers."
                )
        known: list[KnownCells] = []
        if anchors is not None:
            fitted.check_places()  # Before anything is learned.
            *_, known = self._answer(checked, sections, anchors, adapt, covariates)
        return fitted.distribution(
            checked, self.placement_, sections, where, float(tolerance), known
        )

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        sections: ArrayLike | None = None,
    ) -> float:
        """1 - Procrustes disparity: R^2 after the best similarity.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        y : array-like of shape (n_cells, n_dims)
            True positions, in any pose.
        sample_weight : array-like of shape (n_cells,), default=None
            Weight of each cell; a cell of weight 2 counts as two cells in the same place.
        sections : array-like of shape (n_cells,), default=None
            Each section is aligned by itself.

        Returns
        -------
        float
            1 is perfect, 0 no better than the mean.
        """
        placed, truth = self.predict(X), check_coords(y, name="y")
        with naming("X and y"):
            check_consistent_length(placed, truth)
        return 1.0 - procrustes_disparity(
            truth, placed, sample_weight=sample_weight, sections=sections
        )

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Latents: posterior means, averaged over the networks in the pose of the first.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)

        Returns
        -------
        ndarray of shape (n_cells, n_components), in the dtype of `X` if that is a float
        """
        check_is_fitted(self)
        checked = self._check_query(X)
        latents, _ = self.fitted_.encode(checked)
        return latents.astype(checked.dtype, copy=False)

    def sample_latents(
        self,
        X: ArrayLike,
        n_samples: int = 1,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[Any]:
        """Samples of q(z|x), the posterior of the latents, of which `transform` is the mean.

        Each sample is drawn from one network, which is drawn for it, and moved into the pose of
        the first: its cells belong together, as the distances of Theorem 1 do, whose bound
        `sklearn_dpvae.metrics.distortion_bounds` computes. The spread holds what the network
        leaves open about z, not how far off a position may be; see `predict_radius` for that.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_cells, n_features)
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_cells, n_components), in the dtype of `X` if that is a float

        Raises
        ------
        ValueError
            If `n_samples` is not a whole number of 1 or more.

        Examples
        --------
        >>> from sklearn_dpvae import DPVAESpatialRegressor
        >>> from sklearn_dpvae.datasets import make_tissue
        >>> from sklearn_dpvae.metrics import distortion_bounds
        >>> tissue = make_tissue(100, 20, random_state=0)
        >>> X = tissue.X.toarray()
        >>> model = DPVAESpatialRegressor(max_epochs=2, random_state=0).fit(X, tissue.coords)
        >>> samples = model.sample_latents(X, 3, random_state=0)
        >>> samples.shape
        (3, 100, 2)
        >>> lower, upper, probability = distortion_bounds(samples[0], tissue.coords)
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be a whole number of 1 or more, got {n_samples!r}.")
        checked = self._check_query(X)
        samples = self.fitted_.sample(checked, int(n_samples), check_random_state(random_state))
        return samples.astype(checked.dtype, copy=False)

    def inverse_transform(
        self,
        Z: ArrayLike,
        *,
        batch: ArrayLike | None = None,
        library_size: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Expected expression at given latents.

        Parameters
        ----------
        Z : array-like of shape (n_cells, n_components)
            As `transform` returns them.
        batch : array-like of shape (n_cells,), default=None
            Batches to decode for; None, or a label that the model does not know, is answered by
            the mean over the known ones.
        library_size : float or array-like of shape (n_cells,), default=None
            Counts of a cell, for likelihoods of counts; None is the reference's median.

        Returns
        -------
        ndarray of shape (n_cells, n_features)
            In the units of what the decoder explains: `X`, or counts.

        Raises
        ------
        ValueError
            If `Z` has another number of columns than the model has latent components, or
            values far beyond any latent.
        """
        check_is_fitted(self)
        latents = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if latents.shape[1] != self.n_components_:
            raise ValueError(
                f"Z has {latents.shape[1]} columns but the model has {self.n_components_} latent "
                "components. Pass what transform returns."
            )
        library = self._check_library_size(library_size, len(latents))
        codes = batch_codes(batch, self.batches_, len(latents))
        known = None if codes is None else torch.from_numpy(codes)
        with torch.no_grad():
            expected = self.fitted_.decoder.decode(
                torch.from_numpy(latents.astype(np.float64)), library, known
            )
        values = expected.numpy().astype(latents.dtype, copy=False)
        if not np.isfinite(values).all():
            raise ValueError(
                f"Z holds latents as large as {np.abs(latents).max():g}, for which the decoder "
                "gives infinity. Pass what transform returns."
            )
        return values

    def _check_library_size(self, library_size: Any, n_samples: int) -> torch.Tensor | None:
        """A library size for each row, as a tensor; None where the likelihood knows of none."""
        if self.library_size_ is None:
            return None
        if library_size is None:
            library_size = self.library_size_
        library = np.asarray(library_size, dtype=np.float64)
        if library.shape not in ((), (n_samples,)) or not (library >= 0).all():
            raise ValueError(
                f"library_size must be a number of counts, or one for each of the {n_samples} "
                f"rows of Z; got {library_size!r}."
            )
        return torch.from_numpy(np.broadcast_to(library, n_samples).copy())

    @property
    def module_(self) -> DPVAE:
        return self.fitted_.module

    @property
    def n_components_(self) -> int:
        return self.fitted_.module.n_components

    @property
    def scale_(self) -> float:
        return self.fitted_.scale

    @property
    def sections_(self) -> NDArray[Any]:
        return self.fitted_.labels

    @property
    def frames_(self) -> SectionFrames:
        return self.fitted_.frames

    @property
    def placement_(self) -> Placement:
        return make_placement(
            self.reconstruction,
            n_components=self.n_components_,
            n_dims=self.fitted_.frames.n_dims,
            scale=self.fitted_.scale,
            seed=self.fitted_.seed,
            verbose=bool(self.verbose),
        )

    @property
    def _by_places(self) -> bool:
        """Whether positions may be medians of where cells may be: unless another way is named."""
        return self.reconstruction == "auto"

    @property
    def error_model_(self) -> ErrorModel:
        return self.fitted_.error_model

    @property
    def batches_(self) -> NDArray[Any] | None:
        return self.fitted_.batches

    @property
    def library_size_(self) -> float | None:
        return self.fitted_.library_size

    @property
    def history_(self) -> list[dict[str, Any]]:
        return self.fitted_.history

    @property
    def n_iter_(self) -> int:
        return len(self.fitted_.history)

    def _check_query(self, X: Any) -> Any:
        with naming("X"):
            check_container(X)
            return validate_data(
                self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
            )

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = self.likelihood in COUNT_LIKELIHOODS
        tags.target_tags.multi_output = True
        # score() is 1 - disparity of a stochastic net, not the R^2 the checks have in mind.
        tags.regressor_tags.poor_score = True
        return tags


def _check_adapt(adapt: Any) -> None:
    if not (isinstance(adapt, bool | np.bool_) or (isinstance(adapt, str) and adapt == "auto")):
        raise ValueError(f'adapt must be "auto", True or False, got {adapt!r}.')
