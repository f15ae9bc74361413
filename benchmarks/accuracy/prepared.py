"""What all methods see of a split: the same genes, as z-scores or components of them.

The z-scores that baselines see are those of log(1 + x) at the median depth, as scanpy makes them;
`our_scores` are those of our pipeline, with its pseudocount and its limit.
"""

import time
from functools import cached_property

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA

from sklearn_dpvae.pipeline import make_spatial_pipeline
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

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
