"""Real sections: a fitted pipeline, and the cells that it places."""

from dataclasses import dataclass

import numpy as np

from sklearn_dpvae import make_spatial_pipeline

# Name: file, reference, query (None: a random half of the reference, by the other half).
PROBLEMS = {
    "bulb": ("mouse_olfactory_bulb_st2k", "MOB1", None),
    "bulb, next section": ("mouse_olfactory_bulb_st2k", "MOB1", "MOB2"),
    "brain": ("mouse_brain_st2k", "Hippo1", None),
    "brain, next section": ("mouse_brain_st2k", "Hippo1", "Hippo2"),
    "synovium, next section": ("human_synovium_st", "RA4_1", "RA4_2"),
    "cortex": ("mouse_cortex_seqfishplus", None, None),
    "embryo": ("mouse_embryo_visium", None, None),
}


@dataclass(frozen=True)
class Placed:
    """A model of the reference, and the query as its steps before the net see it."""

    model: object  # the regressor
    features: np.ndarray
    truth: np.ndarray
    reference_features: np.ndarray
    reference_coords: np.ndarray


def fitted(folder, name, **params):
    """Fit the pipeline on the reference of a problem."""
    file, reference, query = PROBLEMS[name]
    data = folder.load(
        [(file, section) for section in dict.fromkeys([reference, query or reference])]
    )
    if query is None:
        order = np.random.default_rng(0).permutation(len(data.coords))
        known, unknown = np.array_split(order, 2)
        word = "same_section"
    else:
        in_query = data.sections == f"{file}:{query}"
        known, unknown = np.flatnonzero(~in_query), np.flatnonzero(in_query)
        word = "new_section"
    pipe = make_spatial_pipeline(query=word, n_calibration_folds=None, random_state=0, **params)
    pipe.fit(data.X[known], data.coords[known])
    return Placed(
        model=pipe[-1],
        features=_encoded(pipe, data.X[unknown]),
        truth=data.coords[unknown],
        reference_features=_encoded(pipe, data.X[known]),
        reference_coords=data.coords[known],
    )


def _encoded(pipe, X):
    for _, step in pipe.steps[:-1]:
        X = step.transform(X)
    return X


def relative_error(points, truth, free):
    """Mean squared distance over that of the mean position, of the rows without an anchor."""
    spread = ((truth[free] - truth[free].mean(axis=0)) ** 2).sum()
    return float(((points[free] - truth[free]) ** 2).sum() / spread)
