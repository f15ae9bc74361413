"""Methods: ours at its defaults, the paper's recipe, and what scikit-learn offers in a few lines.

All but the paper's recipe see the same genes, those of `make_spatial_pipeline()` at its defaults.
A baseline with "+ours" in its name sees the z-scores of our pipeline, one with "+components" what
our network sees, the others z-scores of scanpy's kind.
"""

import time

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.svm import SVR

from sklearn_dpvae.metrics import ProcrustesScorer
from sklearn_dpvae.pipeline import make_paper_pipeline, make_spatial_pipeline

from .prepared import MAX_COMPONENTS, default_steps
from .published import installed
from .report import ENDINGS, OURS


class Baseline:
    """A scikit-learn regressor from z-scores, or principal components of them, to positions."""

    def __init__(self, make, *, n_components=None, deterministic=True, sees="standard"):
        self.make = make
        self.n_components = n_components
        self.deterministic = deterministic
        self.sees = sees

    def config(self):
        steps = default_steps() if self.sees == "components" else default_steps()[:3]
        return self.sees, self.n_components, self.make(0), *steps

    def run(self, prepared, seed):
        reference, query, *seconds = prepared.seen_by(self)
        targets = prepared.targets
        model = self.make(seed)
        start = time.process_time()
        model.fit(reference, targets)
        middle = time.process_time()
        placed = np.asarray(model.predict(query)).reshape(len(query), -1)
        end = time.process_time()
        return (
            prepared.in_tissue_units(placed),
            seconds[0] + middle - start,
            seconds[1] + end - middle,
        )


class GaussianProcess(GaussianProcessRegressor):
    """scikit-learn's, with a kernel chosen on some of the cells, which spares minutes."""

    n_chosen_on = 500

    def __init__(self, kernel=None, optimizer="fmin_l_bfgs_b"):
        super().__init__(kernel=kernel, optimizer=optimizer)

    def fit(self, X, y):
        rows = np.random.RandomState(0).permutation(len(X))[: self.n_chosen_on]
        kernel = ConstantKernel() * RBF(0.5, (0.05, 50)) + WhiteKernel(0.3)
        chosen = GaussianProcessRegressor(kernel).fit(X[rows], y[rows]).kernel_
        self.kernel, self.optimizer = chosen, None
        return super().fit(X, y)


class Package:
    """make_spatial_pipeline with some parameters, from counts to positions."""

    deterministic = False
    sees = "counts"

    def __init__(self, **params):
        self.params = params

    def config(self):
        return (make_spatial_pipeline(**self.params),)

    def run(self, prepared, seed):
        split = prepared.split
        model = make_spatial_pipeline(random_state=seed, device="cpu", **self.params)
        start = time.process_time()
        model.fit(split.X, split.coords, sections=split.sections)
        middle = time.process_time()
        # A section that the reference does not have has no frame there.
        sections = None if split.new_section else split.query_sections
        placed = model.predict(split.query_X, sections=sections)
        return placed, middle - start, time.process_time() - middle


class Paper:
    """make_paper_pipeline, its lambda chosen on a fifth of the reference that is held out."""

    deterministic = False
    sees = "counts"

    def __init__(self, *weights):
        self.weights = weights

    def config(self):
        return make_paper_pipeline(distance_weight=0.0), self.weights

    def run(self, prepared, seed):
        split = prepared.split
        model = GridSearchCV(
            make_paper_pipeline(random_state=seed, device="cpu"),
            {"dpvae__distance_weight": self.weights},
            scoring=ProcrustesScorer(),
            cv=ShuffleSplit(1, test_size=0.2, random_state=seed),
        )
        if len(self.weights) == 1:
            # There is nothing to choose.
            model = model.estimator.set_params(dpvae__distance_weight=self.weights[0])
        start = time.process_time()
        model.fit(split.X, split.coords, sections=split.sections)
        middle = time.process_time()
        placed = getattr(model, "best_estimator_", model).predict(
            split.query_X, sections=None if split.new_section else split.query_sections
        )
        return placed, middle - start, time.process_time() - middle


def _baselines():
    """Arguments of `Baseline` by name."""
    plain = {"mean": {"make": lambda _: DummyRegressor()}}
    for n_components in (30, MAX_COMPONENTS):
        for k in (15, 30):
            plain[f"knn{k}_pc{n_components}"] = {
                "make": lambda _, k=k: KNeighborsRegressor(k),
                "n_components": n_components,
            }
        for C in (1, 10):
            plain[f"svr{C}_pc{n_components}"] = {
                "make": lambda _, C=C: MultiOutputRegressor(SVR(C=C)),
                "n_components": n_components,
            }
    plain["ridge"] = {"make": lambda _: RidgeCV(np.logspace(1, 6, 11).tolist())}
    for k in (4, 8):
        plain[f"pls{k}"] = {"make": lambda _, k=k: PLSRegression(k)}
    plain["mlp"] = {
        "make": lambda seed: MLPRegressor(random_state=seed),
        "deterministic": False,
    }
    # A third of the genes at each split, for speed.
    plain["extra_trees"] = {
        "make": lambda seed: ExtraTreesRegressor(200, max_features=0.3, random_state=seed),
        "deterministic": False,
    }
    return plain


def _on_components():
    """Arguments of `Baseline` by name, for what the network of our pipeline sees."""
    regressors = {f"knn{k}": (lambda _, k=k: KNeighborsRegressor(k)) for k in (15, 30)}
    for C in (1, 10):
        regressors[f"svr{C}"] = lambda _, C=C: MultiOutputRegressor(SVR(C=C))
    regressors["ridge"] = lambda _: RidgeCV(np.logspace(-3, 3, 13).tolist())
    regressors["gp"] = lambda _: GaussianProcess()
    baselines = {name: {"make": make} for name, make in regressors.items()}
    baselines["extra_trees"] = {
        "make": lambda seed: ExtraTreesRegressor(200, max_features=0.3, random_state=seed),
        "deterministic": False,
    }
    return baselines


def all_methods():
    """Every method that can run here, by name."""
    methods = {
        OURS: Package(),
        "dpvae_paper": Paper(10.0, 100.0, 1000.0, 10_000.0),
        "dpvae_vanilla": Paper(0.0),
    }
    plain = _baselines()
    methods |= {name: Baseline(**arguments) for name, arguments in plain.items()}
    methods |= {
        name + ENDINGS["ours"]: Baseline(**arguments, sees="ours")
        for name, arguments in plain.items()
        # The mean does not see it, trees hardly do, and these cost most.
        if name not in ("mean", "extra_trees", "mlp", "ridge")
    }
    methods |= {
        name + ENDINGS["components"]: Baseline(**arguments, sees="components")
        for name, arguments in _on_components().items()
    }
    return methods | installed()


def choose_methods(names):
    """Methods by names or groups; None for all."""
    methods = all_methods()
    if names is None:
        return methods
    groups = {
        "baselines": [n for n in methods if n != OURS],
        "plain": [n for n, m in methods.items() if isinstance(m, Baseline)],
        **{
            sees: [n for n, m in methods.items() if isinstance(m, Baseline) and m.sees == sees]
            for sees in ENDINGS
        },
    }
    chosen = [n for name in names for n in groups.get(name, [name])]
    unknown = sorted(set(chosen) - methods.keys())
    if unknown:
        raise ValueError(
            f"no method {', '.join(unknown)}; there are {', '.join(methods)} and the groups "
            f"{', '.join(groups)}."
        )
    return {name: methods[name] for name in chosen}
