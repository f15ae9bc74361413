"""Check what a caller gives to `fit`, and make reference data of it.

Imports the counts, the masks' pairs and the fitted model.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, gen_batches

from .._network.likelihoods import LIKELIHOODS
from .._training.pairs import build_mask
from .._training.reference import Matrix, ReferenceData
from .._utils.validation import check_coords, check_sections, find_labels
from .._utils.warn import warn
from .counts import check_counts, log_normalize
from .model import FittedModel

# Values of X whose squares, summed over genes, are float32 numbers.
_LARGEST = 1e15

# Below, maps of z-scored tissues that are scaled down to it were several times as wrong.
_SMALLEST_RANGE = 0.01

_ROWS_TO_COMPARE = 256


def check_reference(
    X: Matrix,
    y: ArrayLike,
    *,
    sections: ArrayLike | None,
    batch: ArrayLike | None,
    counts: Any,
    views: Sequence[Any] = (),
    mask: Any,
    likelihood: str,
    resume: FittedModel | None,
    name: str,
) -> ReferenceData:
    """Check all that a caller gave, before any of it is used.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_cells, n_features)
        Checked already.
    y, sections, batch, counts, views, mask, likelihood
        See `DPVAESpatialRegressor`.
    resume : FittedModel, optional
        What training goes on from.
    name : str
        Of the estimator, for messages.

    Raises
    ------
    ValueError
        If anything does not fit the rest, or the model to go on from.
    """
    codes, labels = check_sections(sections, X.shape[0])
    _check_values(X, codes, labels)
    coords = check_coords(y, codes, labels, name="y")
    if resume is not None and coords.shape[1] != resume.frames.n_dims:
        raise ValueError(
            f"y has {coords.shape[1]} dimension(s) but the model was fitted on "
            f"{resume.frames.n_dims}. Pass positions of the same dimension."
        )
    explained = _check_explained(counts, X, likelihood, resume, name)
    batch_codes, batches = _check_batch(batch, X.shape[0], resume)
    seen = log_normalize(X) if explained is X else X
    return ReferenceData(
        X,
        coords,
        codes,
        labels,
        explained,
        batch_codes,
        batches,
        build_mask(mask, seen, coords, codes, labels),
        _check_views(views, X, explained),
        one_dimensional=np.ndim(y) == 1,
    )


def _check_views(views: Sequence[Any], X: Matrix, explained: Matrix | None) -> tuple[Matrix, ...]:
    """Other measurements of the cells, of the kind of X."""
    if explained is X and len(views):
        raise ValueError(
            "views are other measurements of X, but this likelihood explains X itself. Pass the "
            "counts that it explains as counts, or no views."
        )
    checked = []
    for position, view in enumerate(views):
        view = check_array(
            view, accept_sparse="csr", dtype=X.dtype, input_name=f"views[{position}]"
        )
        if view.shape != X.shape or sp.issparse(view) != sp.issparse(X):
            raise ValueError(
                f"views[{position}] must be of the kind and shape of X, {X.shape}, got "
                f"{type(view).__name__} of shape {view.shape}."
            )
        checked.append(view)
    return tuple(checked)


def _check_values(X: Matrix, codes: NDArray[np.int64], labels: NDArray[Any]) -> None:
    """Raise where no network can learn from X, before one tries, and warn where it hardly can."""
    highest, lowest = (float(getattr(X, name)()) for name in ("max", "min"))
    if max(highest, -lowest) > _LARGEST:
        raise ValueError(
            f"X holds values as large as {max(highest, -lowest):g}; networks compute in float32, "
            f"in which squares of values beyond {_LARGEST:g} are infinite. Scale X, for instance "
            "by SectionScaler."
        )
    if 0 < highest - lowest < _SMALLEST_RANGE:
        warn(
            f"no two values of X differ by more than {highest - lowest:.2g}, and networks learn "
            "from values that differ by about 1. Scale X, for instance by SectionScaler."
        )
    for code, label in enumerate(labels):
        rows = np.flatnonzero(codes == code)
        if _all_the_same(X, rows):
            raise ValueError(
                f"X does not vary: all {len(rows)} cells of section {label.item()!r} have the "
                "same expression, so that nothing tells where they are. Pass other features, or "
                "leave the section out."
            )


def _all_the_same(X: Matrix, rows: NDArray[np.intp]) -> bool:
    """Whether some rows are equal; as a rule the first ones tell."""
    first = _dense(X[rows[:1]])
    return all(
        (_dense(X[rows[part]]) == first).all() for part in gen_batches(len(rows), _ROWS_TO_COMPARE)
    )


def _dense(X: Matrix) -> NDArray[Any]:
    return X.toarray() if sp.issparse(X) else X


def check_levels(n_components: Any, n_dims: int, resume: FittedModel | None) -> tuple[int, ...]:
    """Sizes of the latents, the map last.

    Parameters
    ----------
    n_components : int, tuple of int or None
    n_dims : int
        Dimensions of the positions.
    resume : FittedModel, optional
    """
    asked: Any = n_dims if n_components is None else n_components
    asked = (asked,) if isinstance(asked, Integral) else tuple(asked)
    if not asked or any(not isinstance(k, Integral) or k < 1 for k in asked):
        raise ValueError(
            "n_components must be the size of the latent, or one size of 1 or more for each "
            f"level of a hierarchy, the map last; got {n_components!r}."
        )
    levels = tuple(int(k) for k in asked)
    if levels[-1] < n_dims:
        raise ValueError(
            f"n_components={n_components} is smaller than the {n_dims} dimensions of y: "
            f"latent distances cannot match. Pass n_components={n_dims} or more."
        )
    if resume is not None and levels != resume.module.config["n_components"]:
        pair = (resume.module.config["n_components"], levels)
        have, ask = (k[0] if len(k) == 1 else k for k in pair)
        raise ValueError(
            f"the fitted model has n_components={have}, but n_components={ask} is asked for now. "
            "Fit anew with warm_start=False to change it."
        )
    return levels


def check_hidden_layer_sizes(sizes: Any) -> tuple[int, ...]:
    """Widths of the hidden layers, as a tuple."""
    if (
        not np.ndim(sizes)
        or not len(sizes)
        or any(not isinstance(k, Integral) or k < 1 for k in sizes)
    ):
        raise ValueError(
            f"hidden_layer_sizes must hold one width of 1 or more for each hidden layer, "
            f"got {sizes!r}."
        )
    return tuple(int(k) for k in sizes)


def _check_explained(
    counts: Any, X: Matrix, likelihood: str, resume: FittedModel | None, name: str
) -> Matrix | None:
    """The counts that a likelihood explains: X itself unless they are given. Else None."""
    if counts is not None:
        counts = check_counts(counts, X.shape[0])
    config = None if resume is None else resume.module.config
    if not LIKELIHOODS[likelihood if config is None else config["likelihood"]].counts:
        return None
    if config is not None and config["counts_as_input"] != (counts is None):
        given, asked = ("out", "") if counts is not None else ("", "out")
        raise ValueError(
            f"the model was fitted with{given} counts=, so that it cannot go on with{asked}. "
            "Pass the same kind of data as in the first fit."
        )
    if counts is None:
        return check_counts(X, X.shape[0], name=name)
    if config is not None and counts.shape[1] != config["n_outputs"]:
        raise ValueError(
            f"counts has {counts.shape[1]} columns but the model was fitted on "
            f"{config['n_outputs']}. Pass the same genes."
        )
    return counts


def _check_batch(
    batch: ArrayLike | None, n_samples: int, resume: FittedModel | None
) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
    """Batch codes, -1 for labels that a resumed model does not know, and the labels."""
    if resume is not None:
        if batch is not None and resume.batches is None:
            raise ValueError(
                "batch was passed but the model was fitted without batches. Leave it out or "
                "fit anew."
            )
        return batch_codes(batch, resume.batches, n_samples), resume.batches
    if batch is None:
        return None, None
    return check_sections(batch, n_samples, name="batch")


def batch_codes(
    batch: ArrayLike | None, batches: NDArray[Any] | None, n_samples: int
) -> NDArray[np.int64] | None:
    """Index of each row's label among known ones, -1 for others; None without any labels."""
    if batch is None:
        # A model that knows batches answers for the mean of them.
        return None if batches is None else np.full(n_samples, -1)
    codes, labels = check_sections(batch, n_samples, name="batch")
    known = np.array([]) if batches is None else batches
    return find_labels(labels, known)[codes]
