"""Fitting: from reference data and settings to a fitted model. A pure function.

Imports the training, the ensemble, the frames and the error model.
"""

import copy
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from .._network.dpvae import DPVAE
from .._network.losses import log_scale_init
from .._network.objective import make_objective
from .._network.random import own_generators
from .._training.batches import Batches
from .._training.checkpoint import CheckpointFile, fingerprint
from .._training.distributed import accelerator_for
from .._training.loop import build_net, train
from .._training.pairs import GroupMask
from .._training.reference import ReferenceData
from .._utils.matrix import MOST_COMPONENTS
from .._utils.warn import warn
from ..metrics import procrustes_align, spot_spacing
from .counts import median_library_size, standardize_like
from .encoding import (
    average_in_common_pose,
    encode_members,
    encoder_of,
    in_common_pose,
    in_float64,
)
from .ensemble import balanced_subsets, out_of_bag, take_out_poses
from .frames import SectionFrames, check_latents
from .model import FittedModel
from .place_model import PlaceModel
from .settings import FitSettings
from .uncertainty import ErrorModel

# Cells of a section that poses and frames are fitted on; a similarity needs no more.
_CELLS_PER_SECTION = 20_000

# Cells that the error model keeps, and with it a persisted model. Their inputs are compared with
# those of every cell that is asked about, if these are components.
_CELLS_FOR_ERRORS = 2000

# Cells of a section that some members were not trained on: so many say enough of new ones.
_LEFT_OUT_PER_SECTION = 20

# Cells that the first value of c is measured on.
_CELLS_FOR_SCALE = 1000

# Sections of one tissue and technology differ by less in size and in the spacing of their cells.
_DIFFERENT_UNITS = 5.0


@torch.inference_mode(False)
@torch.enable_grad()
def fit_reference(
    data: ReferenceData, settings: FitSettings, resume: FittedModel | None = None
) -> FittedModel:
    """Train on a reference, and learn how latents become positions.

    Parameters
    ----------
    data : ReferenceData
        In tissue units.
    settings : FitSettings
    resume : FittedModel, optional
        Go on from its weights. It is not changed.

    Returns
    -------
    FittedModel

    Raises
    ------
    ValueError
        If early stopping would hold out too few cells of a section, or the checkpoint belongs to
        another fit.
    FloatingPointError
        If the training diverges.
    """
    objective = settings.objective
    if objective.distance_weight and not objective.alignment_weight:
        _warn_of_different_units(data)
    file = _checkpoint_file(data, settings, resume)
    if file is not None and file.seed is not None:
        settings = replace(settings, seed=file.seed)
    scaled, unit = _scaled(data, None if resume is None else resume.unit)
    rng = np.random.RandomState(settings.seed)
    rows, held_out = _hold_out(data.codes, settings, rng)
    n_members = settings.network.n_estimators
    subsets = [
        rows[subset]
        for subset in balanced_subsets(data.codes[rows], n_members, settings.max_samples, rng)
    ]
    with own_generators(settings.seed, settings.training.device):
        module = copy.deepcopy(resume.module) if resume else _new_module(scaled, settings)
        history = _train(module, scaled, subsets, held_out, settings, file)

    latents, disagreement, rows, left_out = _as_a_query(module, data, subsets, rng)
    coords, codes = data.coords[rows], data.codes[rows]
    frames = SectionFrames.fit(
        latents, coords, codes, data.labels, n_landmarks=settings.n_landmarks, rng=rng
    )
    scale = float((module.scale.detach() * module.pose.scale.flatten()).mean()) / unit
    placed = np.empty_like(coords)
    for code, frame in enumerate(frames.frames):
        own = codes == code
        placed[own] = frame.similarity.transform(latents[own])
    error_model, places = _uncertainty(data, rows, latents, disagreement, placed, 1.0 / scale, rng)
    error_model = replace(error_model, calibrated_on="left_out" if left_out else "training")
    fitted = FittedModel(
        module=module,
        history=history,
        frames=frames,
        error_model=error_model,
        places=places,
        scale=scale,
        unit=unit,
        labels=data.labels,
        batches=data.batches,
        library_size=None if data.counts is None else median_library_size(data.counts),
        seed=settings.seed,
        one_dimensional=data.one_dimensional,
    )
    if file is not None:
        file.close()
    return fitted


def _checkpoint_file(
    data: ReferenceData, settings: FitSettings, resume: FittedModel | None
) -> CheckpointFile | None:
    """Where the training is kept, and what is there already; None without such a file."""
    training = settings.training
    if training.checkpoint is None:
        return None
    if accelerator_for(training.device) is not None:
        raise ValueError(
            f"checkpoint={str(training.checkpoint)!r}, but several processes train this net "
            "together, each with random numbers of its own. Pass checkpoint=None."
        )
    # What changes neither weights nor their random numbers may differ.
    plain = replace(
        training,
        checkpoint=None,
        checkpoint_interval=0.0,
        on_interrupt="raise",
        callbacks=None,
        verbose=0,
    )
    given = fingerprint(
        data,
        replace(settings, training=plain, seed=0),
        None if resume is None else list(resume.module.state_dict().values()),
        torch.__version__,
    )
    seed = settings.seed if settings.repeatable else None
    file = CheckpointFile(training.checkpoint, training.checkpoint_interval, given, seed)
    file.seed = settings.seed if file.seed is None else file.seed
    return file


def _scaled(data: ReferenceData, unit: float | None) -> tuple[ReferenceData, float]:
    """Positions centered within sections, in one unit, and that unit."""
    centers = np.stack([data.coords[data.codes == k].mean(axis=0) for k in range(data.n_sections)])
    positions = data.coords - centers[data.codes]
    # One isotropic unit: a scale for each axis would distort the distances.
    if unit is None:
        unit = float(np.sqrt(np.mean(positions**2)))
    positions /= unit
    return replace(data, coords=positions), unit


def _warn_of_different_units(data: ReferenceData) -> None:
    """Sections that are far larger than others, and whose cells are as much farther apart."""
    sizes = []
    for code in range(data.n_sections):
        coords = data.coords[data.codes == code]
        radius = np.sqrt(np.mean((coords - coords.mean(axis=0)) ** 2))
        sizes.append((radius, spot_spacing(coords)))
    order = np.argsort([radius for radius, _ in sizes])
    small, large = sizes[order[0]], sizes[order[-1]]
    ratio = min(b / a for a, b in zip(small, large, strict=True))
    if ratio > _DIFFERENT_UNITS:
        names = [repr(data.labels[k].item()) for k in (order[-1], order[0])]
        warn(
            f"the positions of sections {names[0]} and {names[1]} look as if they were in "
            f"different units: one is {ratio:.0f} times as large and as sparse as the other. The "
            "distance term has one scale c for all sections, and alignment_weight=0 leaves "
            "nothing else. Bring all positions to one unit."
        )


def _hold_out(
    codes: NDArray[np.int64], settings: FitSettings, rng: np.random.RandomState
) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
    """Rows to train on and rows to hold out, the same share of every section."""
    if not settings.training.early_stopping:
        return np.arange(len(codes)), None
    fraction = settings.training.validation_fraction
    held_out = np.zeros(len(codes), dtype=bool)
    for code in range(codes.max() + 1):
        rows = np.flatnonzero(codes == code)
        n_held_out = round(fraction * len(rows))
        if n_held_out < 3 or len(rows) - n_held_out < 3:
            raise ValueError(
                f"early_stopping with validation_fraction={fraction} would hold out {n_held_out} "
                f"of the {len(rows)} cells of a section; 3 are needed on each side. Change "
                "validation_fraction or pass early_stopping=False."
            )
        held_out[rng.choice(rows, n_held_out, replace=False)] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _new_module(data: ReferenceData, settings: FitSettings) -> DPVAE:
    """Networks with random weights, and what is better started at the data."""
    network = settings.network
    module = DPVAE(
        data.X.shape[1],
        settings.levels,
        n_members=network.n_estimators,
        hidden_layer_sizes=network.hidden_layer_sizes,
        likelihood=network.likelihood,
        n_outputs=data.explained.shape[1],
        n_batches=0 if data.batches is None else len(data.batches),
        dropout=network.dropout,
        input_dropout=network.input_dropout,
        input_noise=network.input_noise,
        activation=network.activation,
        layer_norm=network.layer_norm,
        counts_as_input=data.counts_as_input,
        hierarchy=network.hierarchy,
        encode_batch=network.encode_batch,
        infer_library=network.library == "inferred",
    )
    if data.counts_as_input:
        standardize_like(module.inputs, data.counts)
    if data.counts is not None:
        totals = np.asarray(data.counts.sum(axis=0, dtype=np.float64)).ravel()
        module.likelihood.start_at(torch.from_numpy(totals / totals.sum()))
    if module.library is not None:
        sizes = np.asarray(data.explained.sum(axis=1), dtype=np.float64).ravel()
        logs = np.log(sizes[sizes > 0])
        module.library.start_at(logs.mean(), logs.var())
    # The net starts with latents of the size of its random weights; a c that fits them
    # saves the epochs that it would take to grow or shrink.
    some = slice(0, _CELLS_FOR_SCALE)
    with torch.no_grad():
        latents = torch.from_numpy(encode_members(encoder_of(module), data.X[some]))
        tissue = torch.from_numpy(data.coords[some]).expand(len(latents), -1, -1)
        module.log_scale.copy_(log_scale_init(latents, tissue))
    return module


def _train(
    module: DPVAE,
    data: ReferenceData,
    subsets: list[NDArray[np.intp]],
    held_out: NDArray[np.intp] | None,
    settings: FitSettings,
    file: CheckpointFile | None,
) -> list[dict]:
    training = settings.training
    batches = Batches(
        data,
        subsets,
        training.batch_size,
        settings.seed,
        training.device,
        give_counts=module.library is not None,
    )
    objective = make_objective(
        settings.objective,
        n_explained=data.explained.shape[1],
        n_sections=data.n_sections,
        between_groups=isinstance(data.mask, GroupMask) and data.mask.between,
        precision=training.precision,
    )
    net = build_net(
        module,
        objective,
        training,
        n_epochs=settings.n_epochs(batches.n_batches, data.X.shape[1]),
        n_batches=batches.n_batches,
        held_out=held_out,
    )
    return train(net, batches, training, file)


def _as_a_query(
    module: DPVAE,
    data: ReferenceData,
    subsets: list[NDArray[np.intp]],
    rng: np.random.RandomState,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], bool]:
    """Bring the members into one pose; latents of the reference as if it were a query.

    A net knows the cells that it was trained on too well. Frames and errors are those of what
    members say of cells that they have not seen, if there are enough of these in each section.

    Returns
    -------
    latents : ndarray of shape (n_rows, n_components)
    disagreement : ndarray of shape (n_rows,)
    rows : ndarray of shape (n_rows,)
        Of the reference.
    left_out : bool
        Whether latents come from members that were not trained on the cells.
    """
    rows = np.sort(
        np.concatenate(
            [
                rng.permutation(np.flatnonzero(data.codes == code))[:_CELLS_PER_SECTION]
                for code in range(data.n_sections)
            ]
        )
    )
    own = encode_members(encoder_of(module), data.X, rows)
    check_latents(own[0])
    take_out_poses(module, own)
    pose = in_float64(module.pose)
    latents, disagreement = average_in_common_pose(pose, own)
    left_out = np.stack([~np.isin(rows, subset) for subset in subsets])
    n_left_out = np.bincount(data.codes[rows[left_out.any(axis=0)]], minlength=data.n_sections)
    n_cells = np.bincount(data.codes[rows], minlength=data.n_sections)
    if (n_left_out < np.minimum(_LEFT_OUT_PER_SECTION, n_cells)).any():
        return latents, disagreement, rows, False
    latents, cells = out_of_bag(in_common_pose(pose, own), left_out)
    return latents, disagreement[cells], rows[cells], True


def _uncertainty(
    data: ReferenceData,
    rows: NDArray[np.intp],
    latents: NDArray[np.float64],
    disagreement: NDArray[np.float64],
    placed: NDArray[np.float64],
    unit: float,
    rng: np.random.RandomState,
) -> tuple[ErrorModel, PlaceModel]:
    """What the reference's `rows`, and where they would be placed, say about other cells."""
    X, coords, codes = data.X, data.coords[rows], data.codes[rows]
    errors = np.linalg.norm(placed - coords, axis=1)
    some = np.sort(rng.permutation(len(rows))[:_CELLS_FOR_ERRORS])
    known = rows[some], latents[some], disagreement[some], errors[some], unit
    if sp.issparse(X) or data.counts_as_input or X.shape[1] > MOST_COMPONENTS:
        error_model = ErrorModel.fit(*known)
    else:
        places = np.empty_like(latents)
        for code in np.unique(codes):
            own = codes == code
            places[own] = procrustes_align(coords[own], latents[own]).transform(coords[own])
        inputs = X[rows[some]].astype(np.float64)
        error_model = ErrorModel.fit(*known, inputs, places[some])
    from_inputs = error_model.inputs is not None
    return error_model, PlaceModel(
        features=error_model.inputs if error_model.inputs is not None else error_model.latents,
        coords=coords[some],
        codes=codes[some],
        from_inputs=from_inputs,
        placed=placed[some],
        scores=error_model.score(latents[some], disagreement[some], None),
    )
