"""Fitting: check what the caller gave, train on it, and learn how latents become positions.

`ReferenceFitter` is the part of the regressor that does so. Assembles the net, the frames and the
error model.
"""

import copy
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from .._network.dpvae import DPVAE, StandardizedCounts
from .._network.likelihoods import LIKELIHOODS
from .._network.losses import log_scale_init
from .._training.batches import Batches, Cells
from .._training.net import Objective, build_net, train
from .._training.pairs import GroupMask, build_mask
from .._utils.validation import check_coords, check_sections, find_labels
from ..metrics import procrustes_align
from .counts import check_counts, log_normalize, median_library_size, standardization
from .encoding import average, encode_members, in_common_pose
from .ensemble import balanced_subsets, out_of_bag, take_out_poses
from .frames import SectionFrames
from .uncertainty import ErrorModel

# What max_epochs="auto" stands for, in steps of the optimizer and in passes over the cells.
_AUTO_STEPS = 600
_AUTO_STEPS_FINE_TUNING = 100
_AUTO_MIN_EPOCHS = 10

# Fine-tuning on a few cells forgets the reference at the full learning rate.
_FINE_TUNING_LR = 0.1

# Cells of a section that poses and frames are fitted on; a similarity needs no more.
_CELLS_PER_SECTION = 20_000

# Cells that the error model keeps, and with it a persisted model. Their inputs are compared with
# those of every cell that is asked about, which needs few columns: components, not genes.
_CELLS_FOR_ERRORS = 2000
_COMPONENTS = 64

# Cells that the first value of c is measured on.
_CELLS_FOR_SCALE = 1000


class ReferenceFitter:
    """Mixin of the estimator: from X, y and their labels to the fitted attributes."""

    def _fit(self, X, y, sections, batch, counts, *, resume, fine_tune=False):
        with unchanged_on_error(self):
            checked = self._validate_fit(X, y, sections, batch, counts, resume)
            return self._fit_validated(*checked, resume=resume, fine_tune=fine_tune)

    def _validate_fit(self, X, y, sections, batch, counts, resume):
        """Check all that the caller gave before any of it is used."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float32, np.float64],
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=2,
            reset=not resume,
        )
        codes, labels = check_sections(sections, X.shape[0])
        coords = check_coords(y, codes, labels, name="y")
        self._check_hidden_layer_sizes()
        device = pick_device(self.device)
        levels = self._check_n_components(coords.shape[1], resume)
        counts = self._check_counts(counts, X, resume)
        batch, batches = self._check_batch(batch, X.shape[0], resume)
        seen = log_normalize(X) if counts is X else X
        mask = build_mask(self.mask, seen, coords, codes, labels)
        # Positions are centered and scaled later.
        cells = Cells(X, coords, codes, counts, batch, mask)
        return cells, labels, batches, levels, device, np.ndim(y) == 1

    def _check_counts(self, counts, X, resume):
        """What a likelihood of counts explains: X itself unless it is given. Else None."""
        if counts is not None:
            counts = check_counts(counts, X.shape[0])
        likelihood = self.module_.likelihood if resume else LIKELIHOODS[self.likelihood]
        if not likelihood.counts:
            return None
        if resume and isinstance(self.module_.inputs, StandardizedCounts) != (counts is None):
            given, asked = ("out", "") if counts is not None else ("", "out")
            raise ValueError(
                f"the model was fitted with{given} counts=, so that it cannot go on with{asked}. "
                "Pass the same kind of data as in the first fit."
            )
        if counts is None:
            return check_counts(X, X.shape[0], name=type(self).__name__)
        if resume and counts.shape[1] != self._n_explained:
            raise ValueError(
                f"counts has {counts.shape[1]} columns but the model was fitted on "
                f"{self._n_explained}. Pass the same genes."
            )
        return counts

    def _check_batch(self, batch, n_samples, resume):
        """Batch codes, -1 for labels that a resumed model does not know, and the labels."""
        if resume:
            batches = self.batches_
            if batch is not None and batches is None:
                raise ValueError(
                    "batch was passed but the model was fitted without batches. Leave it out or "
                    "fit anew."
                )
            return batch_codes(batch, batches, n_samples), batches
        if batch is None:
            return None, None
        return check_sections(batch, n_samples, name="batch")

    def _fit_validated(self, cells, labels, batches, levels, device, flat_y, *, resume, fine_tune):
        X, coords, codes = cells.X, cells.s, cells.codes
        centers = np.stack([coords[codes == k].mean(axis=0) for k in range(len(labels))])
        positions = coords - centers[codes]
        # One isotropic unit: a scale for each axis would distort the distances.
        unit = self._unit if resume else float(np.sqrt(np.mean(positions**2)))
        positions /= unit
        cells = replace(cells, s=positions, codes=codes if len(labels) > 1 else None)

        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        rng = np.random.RandomState(seed)
        rows, held_out = self._hold_out(codes, rng)
        subsets = [
            rows[subset]
            for subset in balanced_subsets(codes[rows], self.n_estimators, self.max_samples, rng)
        ]
        with own_torch_seed(seed, device):
            if resume:
                module = copy.deepcopy(self.module_)
            else:
                n_batches = 0 if batches is None else len(batches)
                module = self._build_module(cells, levels, n_batches)
            net = self._train(module, cells, subsets, held_out, seed, device, fine_tune)
        latents, spread, rows = self._reference_latents(module, X, codes, subsets, rng)
        frames = SectionFrames(
            latents, coords[rows], codes[rows], labels, n_landmarks=self.n_landmarks, rng=rng
        )
        errors = np.linalg.norm(
            frames.place_by_similarity(latents, labels[codes[rows]]) - coords[rows], axis=1
        )
        scale = float((module.scale.detach() * module.pose.scale.flatten()).mean()) / unit

        counts = cells.counts
        self.net_ = net
        self.n_components_ = levels[-1]
        self.batches_ = batches
        self.library_size_ = None if counts is None else median_library_size(counts)
        self._n_explained = X.shape[1] if counts is None else counts.shape[1]
        self._levels = levels
        self.scale_ = scale
        self.history_ = [
            {k: v for k, v in row.items() if k not in ("batches", "train_loss")}
            for row in net.history
        ]
        self.n_iter_ = len(self.history_)
        self.sections_ = labels
        self.frames_ = frames
        self.error_model_ = self._error_model(
            cells, rows, coords[rows], codes[rows], latents, spread, errors, 1.0 / scale, rng
        )
        self._unit = unit
        self._seed = seed
        self._flat_y = flat_y
        return self

    def _reference_latents(self, module, X, codes, subsets, rng):
        """Bring the members into one pose; latents of the reference as if it were a query.

        A net knows the cells that it was trained on too well. Frames are fitted on what those
        members say of a cell that have not seen it, if every cell was left out by some.
        """
        cells = np.sort(
            np.concatenate(
                [
                    rng.permutation(np.flatnonzero(codes == code))[:_CELLS_PER_SECTION]
                    for code in range(codes.max() + 1)
                ]
            )
        )
        own = encode_members(module, X, cells)
        take_out_poses(module, own)
        latents, spread = average(in_common_pose(module, own))
        left_out = np.stack([~np.isin(cells, subset) for subset in subsets])
        if left_out.any(axis=0).all():
            latents, _ = out_of_bag(in_common_pose(module, own), left_out)
        return latents, spread, cells

    def _error_model(self, cells, rows, coords, codes, latents, spread, errors, unit, rng):
        """What errors of the reference's `rows` say about those of other cells."""
        X = cells.X
        some = np.sort(rng.permutation(len(rows))[:_CELLS_FOR_ERRORS])
        known = latents[some], spread[some], errors[some], unit
        if sp.issparse(X) or cells.counts is X or X.shape[1] > _COMPONENTS:
            return ErrorModel.fit(*known)
        places = np.empty_like(latents)
        for code in np.unique(codes):
            own = codes == code
            places[own] = procrustes_align(coords[own], latents[own]).transform(coords[own])
        inputs = X[rows[some]].astype(np.float64)
        return ErrorModel.fit(*known, inputs, places[some])

    def _check_n_components(self, n_dims, resume):
        if resume and n_dims != self.frames_.n_dims:
            raise ValueError(
                f"y has {n_dims} dimension(s) but the model was fitted on {self.frames_.n_dims}. "
                "Pass positions of the same dimension."
            )
        levels = self.n_components
        if levels is None:
            levels = n_dims
        levels = (levels,) if isinstance(levels, Integral) else tuple(levels)
        if not levels or any(not isinstance(k, Integral) or k < 1 for k in levels):
            raise ValueError(
                "n_components must be the size of the latent, or one size of 1 or more for each "
                f"level of a hierarchy, the map last; got {self.n_components!r}."
            )
        levels = tuple(int(k) for k in levels)
        if levels[-1] < n_dims:
            raise ValueError(
                f"n_components={self.n_components} is smaller than the {n_dims} dimensions of y: "
                f"latent distances cannot match. Pass n_components={n_dims} or more."
            )
        if resume and levels != self._levels:
            have, ask = (k[0] if len(k) == 1 else k for k in (self._levels, levels))
            raise ValueError(
                f"the fitted model has n_components={have}, and {ask} is asked for now. "
                "Fit anew with warm_start=False to change it."
            )
        return levels

    def _check_hidden_layer_sizes(self):
        sizes = self.hidden_layer_sizes
        if not len(sizes) or any(not isinstance(k, Integral) or k < 1 for k in sizes):
            raise ValueError(
                f"hidden_layer_sizes must hold one width of 1 or more for each hidden layer, "
                f"got {sizes!r}."
            )

    def _build_module(self, cells, levels, n_batches):
        X, counts = cells.X, cells.counts
        module = DPVAE(
            X.shape[1],
            levels,
            n_members=self.n_estimators,
            hidden_layer_sizes=tuple(self.hidden_layer_sizes),
            likelihood=self.likelihood,
            n_outputs=None if counts is None else counts.shape[1],
            n_batches=n_batches,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            input_noise=self.input_noise,
            activation=self.activation,
            layer_norm=self.layer_norm,
            inputs=standardization(X) if counts is X else None,
        )
        if counts is not None:
            totals = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
            module.likelihood.start_at(torch.from_numpy(totals / totals.sum()))
        # The net starts with latents of the size of its random weights; a c that fits them
        # saves the epochs that it would take to grow or shrink.
        some = slice(0, _CELLS_FOR_SCALE)
        with torch.no_grad():
            latents = torch.from_numpy(encode_members(module, X[some]))
            tissue = torch.from_numpy(cells.s[some]).expand(len(latents), -1, -1)
            module.log_scale.copy_(log_scale_init(latents, tissue))
        return module

    def _train(self, module, cells, subsets, held_out, seed, device, fine_tune):
        data = Batches(cells, subsets, self.batch_size, seed, device)
        per_gene = 1.0 / (cells.X if cells.counts is None else cells.counts).shape[1]
        objective = Objective(
            elbo_weight=per_gene if self.elbo_weight == "per_gene" else self.elbo_weight,
            kl_weight=self.kl_weight,
            distance_weight=self.distance_weight,
            alignment_weight=self.alignment_weight,
            distance_loss=self.distance_loss,
            n_sections=1 if cells.codes is None else int(cells.codes.max()) + 1,
            pairs_between_groups=isinstance(cells.mask, GroupMask) and cells.mask.between,
        )
        net = build_net(
            module,
            objective,
            max_epochs=self._n_epochs(data.n_batches, fine_tune),
            lr=self.lr * (_FINE_TUNING_LR if fine_tune else 1.0),
            lr_schedule=self.lr_schedule,
            weight_decay=self.weight_decay,
            n_batches=data.n_batches,
            device=device,
            verbose=int(self.verbose),
            precision=self.precision,
            callbacks=self.callbacks or (),
            held_out=held_out if self.early_stopping else None,
            patience=self.patience,
        )
        train(net, data)
        return net

    def _n_epochs(self, n_batches, fine_tune):
        """What training needs is a number of steps: a small section passes through more often."""
        if self.max_epochs != "auto":
            return self.max_epochs
        n_steps = _AUTO_STEPS_FINE_TUNING if fine_tune else _AUTO_STEPS
        return max(n_steps // n_batches, _AUTO_MIN_EPOCHS)

    def _hold_out(self, codes, rng):
        """Rows to train on and rows to hold out, the same share of every section."""
        held_out = np.zeros(len(codes), dtype=bool)
        for code in range(codes.max() + 1) if self.early_stopping else ():
            rows = np.flatnonzero(codes == code)
            n_held_out = round(self.validation_fraction * len(rows))
            if n_held_out < 3 or len(rows) - n_held_out < 3:
                raise ValueError(
                    f"early_stopping with validation_fraction={self.validation_fraction} would "
                    f"hold out {n_held_out} of the {len(rows)} cells of a section; 3 are needed "
                    "on each side. Change validation_fraction or pass early_stopping=False."
                )
            held_out[rng.choice(rows, n_held_out, replace=False)] = True
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def batch_codes(batch, batches, n_samples):
    """Index of each row's label among known ones, -1 for others; None without any labels."""
    if batch is None:
        # A model that knows batches answers for the mean of them.
        return None if batches is None else np.full(n_samples, -1)
    codes, labels = check_sections(batch, n_samples, name="batch")
    known = np.array([]) if batches is None else batches
    return find_labels(labels, known)[codes]


@contextmanager
def own_torch_seed(seed, device):
    """Seed torch for a block and give the caller's generators back untouched.

    Those of GPUs only if one is used: asking for their state starts CUDA, which takes time and is
    refused in a process that was forked from one that uses it.
    """
    on_cpu = torch.device(device).type == "cpu"
    devices = [] if on_cpu else range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        (torch.default_generator.manual_seed if on_cpu else torch.manual_seed)(seed)
        yield


@contextmanager
def unchanged_on_error(estimator):
    """Give an estimator its attributes back if a block fails: nothing is half fitted."""
    before = estimator.__dict__.copy()
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise


def pick_device(device):
    """Resolve "auto": CUDA, then Apple's MPS, then the CPU."""
    if device != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"device={device!r} cannot be used here ({reason}). Pass "
                "device='auto' to take the best that this machine has."
            ) from error
        return device
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"
