"""What all methods see of a split: the same genes, as z-scores or components of them.

Baselines see one of three inputs: "standard", the z-scores of log(1 + x) at the median depth, as
scanpy makes them; "ours", the z-scores of our pipeline, with its pseudocount and its limit; and
"components", what our network sees.
"""

import time
from functools import cached_property

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA

from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.feature_selection import SpatiallyVariableGenes
from sklearn_dpvae.pipeline import make_spatial_pipeline
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

MAX_COMPONENTS = 50


def default_steps():
    """Normalizer, gene selector, scaler and components of the default pipeline, not fitted."""
    kinds = LogNormalizer, SpatiallyVariableGenes, SectionScaler, SpatialPCA
    return tuple(default_step(kind) for kind in kinds)


def default_step(kind):
    """The step of the default pipeline that is of a class, not fitted."""
    steps = make_spatial_pipeline().named_steps.values()
    step = clone(next(step for step in steps if isinstance(step, kind)))
    # Baselines are told what a query is: only a whole section goes by its own statistics.
    return step.set_params(query="same_section") if kind is SectionScaler else step


class Prepared:
    """A split with its genes chosen and scaled, computed when a method first asks for it."""

    def __init__(self, split):
        self.split = split
        self.normalizer, self._selector, self.scaler, _ = default_steps()
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
    def standard(self):
        """z-scores of reference and query without a limit, and the seconds for each."""
        return self._scores(LogNormalizer(), clip=None)

    @cached_property
    def ours(self):
        """z-scores as our pipeline makes them."""
        return self._scores(self.normalizer, clip=self.scaler.clip)

    @cached_property
    def components(self):
        """What the network of our pipeline sees."""
        split = self.split
        reference, query, *seconds = self.ours
        step = default_step(SpatialPCA).set_params(random_state=0)
        start = time.process_time()
        step.fit(reference, split.coords, sections=split.sections)
        reference = step.transform(reference)
        middle = time.process_time()
        query = step.transform(query)
        end = time.process_time()
        return reference, query, seconds[0] + middle - start, seconds[1] + end - middle

    def _scores(self, normalizer, clip):
        split = self.split
        moved = split.new_section and not split.part
        scaler = clone(self.scaler).set_params(
            clip=clip, query="new_section" if moved else "same_section"
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

    def seen_by(self, method):
        """What a baseline sees: its input, or some principal components of it.

        Components are computed once for all methods and numbers of them; their seconds count
        for each method.
        """
        key = method.sees, bool(method.n_components)
        if key not in self._seen:
            reference, query, *seconds = getattr(self, method.sees)
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
