"""Methods: ours at its defaults, the paper's recipe, and what scikit-learn offers in a few lines.

All see the same genes, those of `make_spatial_pipeline()` at its defaults. The z-scores that
baselines see are those of log(1 + x) at the median depth, as scanpy makes them; with "+ours" in
the name, those of our pipeline, with its pseudocount and its limit.
"""

import hashlib
import importlib.util
import io
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from functools import cached_property

import numpy as np
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.svm import SVR

from sklearn_dpvae.pipeline import PAPER_SETTINGS, make_spatial_pipeline
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

ON_OURS = "+ours"
MAX_COMPONENTS = 50


def default_steps():
    """Normalizer, gene selector and scaler of the default pipeline, not fitted."""
    steps = list(make_spatial_pipeline().named_steps.values())
    normalizer = next(s for s in steps if isinstance(s, LogNormalizer))
    scaler = next(s for s in steps if isinstance(s, SectionScaler))
    genes = next(s for s in steps if hasattr(s, "n_top_genes"))
    return clone(normalizer), clone(genes), clone(scaler)


class Prepared:
    """A split with its genes chosen and scaled, computed when a method first asks for it."""

    def __init__(self, split):
        self.split = split
        self.normalizer, self._selector, self.scaler = default_steps()
        self._seen = {}

    @cached_property
    def genes(self):
        """The selector, fitted on the reference."""
        start = time.process_time()
        logs = self.normalizer.fit_transform(self.split.X)
        self._selector.fit(logs, self.split.coords, sections=self.split.sections)
        self.gene_seconds = time.process_time() - start
        return self._selector

    @cached_property
    def counts(self):
        """Counts of the chosen genes, of reference and query."""
        split, chosen = self.split, self.genes
        return chosen.transform(split.X), chosen.transform(split.query_X)

    @cached_property
    def scores(self):
        """z-scores of reference and query without a limit, and the seconds for each."""
        return self._scores(LogNormalizer(), clip=None)

    @cached_property
    def our_scores(self):
        """z-scores as our pipeline makes them."""
        return self._scores(self.normalizer, clip=self.scaler.clip)

    def _scores(self, normalizer, clip):
        split = self.split
        scaler = clone(self.scaler).set_params(
            clip=clip, query="new_section" if split.new_section else "same_section"
        )
        genes = self.genes
        start = time.process_time()
        # Library sizes are those of all genes.
        logs = genes.transform(normalizer.fit_transform(split.X))
        reference = scaler.fit_transform(logs, sections=split.sections)
        middle = time.process_time()
        query = genes.transform(normalizer.transform(split.query_X))
        query = scaler.transform(query, sections=split.query_sections)
        fit_seconds = self.gene_seconds + middle - start
        return reference, query, fit_seconds, time.process_time() - middle

    def scores_of(self, method):
        """What a baseline sees: z-scores of either kind, all or some components of them.

        Components are computed once for all methods and numbers of them; their seconds count
        for each method.
        """
        key = method.on_ours, bool(method.n_components)
        if key not in self._seen:
            reference, query, *seconds = self.our_scores if method.on_ours else self.scores
            if method.n_components:
                pca = PCA(min(MAX_COMPONENTS, *reference.shape), random_state=0)
                start = time.process_time()
                reference = pca.fit_transform(reference)
                middle = time.process_time()
                query = pca.transform(query)
                seconds[0] += middle - start
                seconds[1] += time.process_time() - middle
            self._seen[key] = reference, query, *seconds
        reference, query, *seconds = self._seen[key]
        if method.n_components:
            reference, query = reference[:, : method.n_components], query[:, : method.n_components]
        return reference, query, *seconds

    @cached_property
    def targets(self):
        """Positions of the reference, each section centered and in an isotropic unit."""
        split = self.split
        targets = np.empty_like(split.coords)
        self.frames = {}
        for section in np.unique(split.sections):
            rows = split.sections == section
            center = split.coords[rows].mean(axis=0)
            unit = np.sqrt(np.mean((split.coords[rows] - center) ** 2))
            targets[rows] = (split.coords[rows] - center) / unit
            self.frames[section] = center, unit
        return targets

    def in_tissue_units(self, placed):
        """Undo `targets` for query cells, by a section's own frame or else the first one."""
        first = next(iter(self.frames.values()))
        frames = [self.frames.get(s, first) for s in self.split.query_sections]
        centers = np.array([center for center, _ in frames])
        units = np.array([unit for _, unit in frames])
        return placed * units[:, None] + centers


class Baseline:
    """A scikit-learn regressor from z-scores, or principal components of them, to positions."""

    is_baseline = True

    def __init__(self, make, *, n_components=None, deterministic=True, on_ours=False):
        self.make = make
        self.n_components = n_components
        self.deterministic = deterministic
        self.on_ours = on_ours

    def config(self):
        return repr((default_steps(), self.on_ours, self.n_components, self.make(0)))

    def run(self, prepared, seed):
        reference, query, *seconds = prepared.scores_of(self)
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


class Package:
    """make_spatial_pipeline with some parameters, from counts to positions."""

    deterministic = False
    on_ours = False

    def __init__(self, *, is_baseline, **params):
        self.params = params
        self.is_baseline = is_baseline

    def config(self):
        pipeline = make_spatial_pipeline(**self.params)
        return repr(sorted((k, repr(v)) for k, v in pipeline.get_params().items()))

    def run(self, prepared, seed):
        split = prepared.split
        model = make_spatial_pipeline(
            query="new_section" if split.new_section else "same_section",
            random_state=seed,
            device="cpu",
            **self.params,
        )
        start = time.process_time()
        model.fit(split.X, split.coords, sections=split.sections)
        middle = time.process_time()
        # A section that the reference does not have has no frame there.
        sections = None if split.new_section else split.query_sections
        placed = model.predict(split.query_X, sections=sections)
        return placed, middle - start, time.process_time() - middle


class ScviNeighbors:
    """scVI latents of reference and query together, sections as batches, and kNN on them."""

    deterministic = False
    on_ours = False
    is_baseline = True

    def config(self):
        return repr((default_steps()[:2], "scVI defaults, kNN 15"))

    def run(self, prepared, seed):
        import anndata
        import scvi
        from scipy.sparse import vstack

        split = prepared.split
        scvi.settings.seed = seed
        start = time.process_time()
        adata = anndata.AnnData(vstack(prepared.counts).tocsr().astype(np.float32))
        adata.obs["section"] = np.r_[split.sections, split.query_sections]
        scvi.model.SCVI.setup_anndata(adata, batch_key="section")
        model = scvi.model.SCVI(adata)
        model.train(accelerator="cpu", enable_progress_bar=False, logger=None)
        latents = model.get_latent_representation()
        n_reference = len(split.coords)
        knn = KNeighborsRegressor(15).fit(latents[:n_reference], prepared.targets)
        middle = time.process_time()
        placed = prepared.in_tissue_units(knn.predict(latents[n_reference:]))
        return placed, middle - start, time.process_time() - middle


class Celery:
    """CeLEry's regression of coordinates, at its defaults, on the z-scores."""

    deterministic = False
    on_ours = False
    is_baseline = True

    def config(self):
        return repr((default_steps(), "CeLEry Fit_cord"))

    def run(self, prepared, seed):
        import anndata
        import CeLEry
        import pandas as pd

        reference, query, *seconds = prepared.scores
        targets = prepared.targets
        # It maps each axis, widened by 1 on both sides, to the range of its sigmoid, and says
        # where in that range a cell lies. The tissue is to be wide against 1.
        grid = 100 * (targets - targets.min(axis=0)) / np.ptp(targets, axis=0).max()
        location = pd.DataFrame(grid, columns=["x", "y"])
        # It prints a line and draws a bar for every epoch.
        quiet = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_stdout(quiet),
            redirect_stderr(quiet),
        ):
            start = time.process_time()
            CeLEry.Fit_cord(
                anndata.AnnData(reference),
                location,
                path=folder,
                filename="model",
                num_workers=0,
                seednum=seed,
            )
            middle = time.process_time()
            placed = CeLEry.Predict_cord(anndata.AnnData(query), folder, "model")
            end = time.process_time()
        placed = placed * (grid.max(axis=0) + 2) - 1
        placed = placed * np.ptp(targets, axis=0).max() / 100 + targets.min(axis=0)
        placed = prepared.in_tissue_units(placed)
        return placed, seconds[0] + middle - start, seconds[1] + end - middle


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


def all_methods():
    """Every method that can run here, by name."""
    vanilla = {"distance_weight": 0.0, "alignment_weight": 0.0, "n_estimators": 1}
    methods = {
        "dpvae": Package(is_baseline=False),
        "dpvae_paper": Package(is_baseline=True, n_spatial_components=None, **PAPER_SETTINGS),
        "dpvae_vanilla": Package(is_baseline=True, n_spatial_components=None, **vanilla),
    }
    plain = _baselines()
    methods |= {name: Baseline(**arguments) for name, arguments in plain.items()}
    methods |= {
        name + ON_OURS: Baseline(**arguments, on_ours=True)
        for name, arguments in plain.items()
        # The mean does not see it, trees hardly do, and these cost most.
        if name not in ("mean", "extra_trees", "mlp", "ridge")
    }
    if importlib.util.find_spec("scvi"):
        methods["scvi_knn15"] = ScviNeighbors()
    if importlib.util.find_spec("CeLEry"):
        methods["celery"] = Celery()
    return methods


def choose_methods(names):
    """Methods by names or groups; None for all."""
    methods = all_methods()
    if names is None:
        return methods
    groups = {
        "baselines": [n for n, m in methods.items() if m.is_baseline and not m.on_ours],
        "plain": [n for n, m in methods.items() if isinstance(m, Baseline) and not m.on_ours],
        "on_ours": [n for n, m in methods.items() if m.on_ours],
    }
    chosen = [n for name in names for n in groups.get(name, [name])]
    unknown = sorted(set(chosen) - methods.keys())
    if unknown:
        raise ValueError(
            f"no method {', '.join(unknown)}; there are {', '.join(methods)} and the groups "
            f"{', '.join(groups)}."
        )
    return {name: methods[name] for name in chosen}


def fingerprint(method):
    """Short hash of a method's parameters, by which results of older ones are recognized."""
    return hashlib.sha1(method.config().encode()).hexdigest()[:10]
