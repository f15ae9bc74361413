"""A synthetic tissue: an asymmetric shape, layers, gradients, cell types and counts.

May import `_utils`.
"""

from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, Options

from .._utils.validation import checks_arguments

# The tissue is drawn about one unit across and reported in micrometers.
EXTENT = 1000.0

# Counts are dense for one block of cells at a time. This many entries take about 30 MB.
BLOCK_ENTRIES = 1_000_000


@checks_arguments(
    {
        "n_cells": [Interval(Integral, 1, None, closed="left")],
        "n_genes": [Interval(Integral, 1, None, closed="left")],
        "n_sections": [Interval(Integral, 1, None, closed="left")],
        "n_dims": [Options(Integral, {2, 3})],
        "n_cell_types": [Interval(Integral, 1, None, closed="left")],
        "informative": [Interval(Real, 0, 1, closed="both")],
        "signal": [Interval(Real, 0, None, closed="left")],
        "library_size": [Interval(Real, 0, None, closed="neither")],
        "dispersion": [Interval(Real, 0, None, closed="left")],
        "batch_effect": [Interval(Real, 0, None, closed="left")],
        "jitter": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
)
def make_tissue(
    n_cells: int = 1000,
    n_genes: int = 300,
    *,
    n_sections: int = 1,
    n_dims: int = 2,
    n_cell_types: int = 6,
    informative: float = 0.5,
    signal: float = 1.0,
    library_size: float = 2000.0,
    dispersion: float = 0.3,
    batch_effect: float = 0.3,
    jitter: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Generate counts and positions of cells in a layered, asymmetric tissue.

    Cells fill an outline without any mirror symmetry. Curved bands (layers) cross it. The type
    of a cell is drawn by its depth in the bands, with some mixing at the borders and one type
    that lives everywhere. Informative genes mark a type or follow smooth gradients. The others do
    not depend on the place. Counts are negative binomial, and each cell has its own library size.
    Sections are independent samples of cells of the same tissue. Each has its own coordinate
    frame and gene-wise batch effects.

    Parameters
    ----------
    n_cells : int, default=1000
        Number of cells in all sections together, divided among them as evenly as possible.
    n_genes : int, default=300
        Number of genes.
    n_sections : int, default=1
        Number of sections. The first is in the tissue's frame. The others are rotated and
        shifted, and every second section is mirrored. The scale is always the same.
    n_dims : {2, 3}, default=2
        Number of dimensions of the positions.
    n_cell_types : int, default=6
        Number of cell types. All but the last are arranged in bands. If there are several, the
        last is everywhere.
    informative : float in [0, 1], default=0.5
        Share of the genes that depend on the place or the cell type.
    signal : float >= 0, default=1.0
        Amplitude of the spatial pattern in the logarithm of the expected counts. 0 means no
        pattern.
    library_size : float > 0, default=2000.0
        Median of the expected total counts of a cell. Cells vary around it log-normally, with a
        standard deviation of 0.35 in the logarithm.
    dispersion : float >= 0, default=0.3
        Overdispersion of the counts: their variance is ``mean + dispersion * mean**2``.
        0 gives Poisson counts.
    batch_effect : float >= 0, default=0.3
        Standard deviation of the gene-wise effect of a section on the logarithm of the
        expected counts.
    jitter : float >= 0, default=0.0
        Standard deviation of the error of the recorded positions, in micrometers.
    random_state : int, RandomState instance or None, default=None
        Seed. The same seed gives the same tissue (outline, genes) for any number of cells.

    Returns
    -------
    tissue : :class:`~sklearn.utils.Bunch`
        With the attributes

        X : csr_matrix of shape (n_cells, n_genes), dtype int32
            Counts.
        coords : ndarray of shape (n_cells, n_dims), dtype float64
            Recorded positions in micrometers, in the frame of each cell's section.
        true_coords : ndarray of shape (n_cells, n_dims), dtype float64
            Positions in micrometers in the frame of the tissue, without error.
        sections : ndarray of shape (n_cells,), dtype str
            ``"section_1"``, ``"section_2"``, ...
        genes : ndarray of shape (n_genes,), dtype str
            ``"gene_0001"``, ``"gene_0002"``, ...
        obs_names : ndarray of shape (n_cells,), dtype str
            ``"cell_00001"``, ``"cell_00002"``, ...
        cell_types : ndarray of shape (n_cells,), dtype str
            ``"type_1"``, ``"type_2"``, ...
        layers : ndarray of shape (n_cells,), dtype int64
            The band of each cell, counted from 0.
        spatial_genes : ndarray of shape (n_genes,), dtype bool
            Which genes are informative.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or there are fewer cells than sections.

    See Also
    --------
    sklearn_dpvae.datasets.read_sections : Read real sections.

    Examples
    --------
    >>> from sklearn_dpvae.datasets import make_tissue
    >>> tissue = make_tissue(n_cells=200, n_genes=50, n_sections=2, random_state=0)
    >>> tissue.X.shape, tissue.coords.shape
    ((200, 50), (200, 2))
    >>> sorted(set(tissue.sections.tolist()))
    ['section_1', 'section_2']
    """
    if n_cells < n_sections:
        raise ValueError(
            f"n_cells={n_cells} is less than n_sections={n_sections}. Ask for at least one cell "
            "per section."
        )
    seeds = np.random.SeedSequence(check_random_state(random_state).randint(2**31 - 1, size=4))
    # Genes and cells have their own streams: genes do not change with the number of cells.
    gene_seed, cell_seed = seeds.spawn(2)
    programs, spatial_genes = _gene_programs(
        n_genes, n_cell_types, n_dims, informative, signal, np.random.default_rng(gene_seed)
    )

    per_section = [len(part) for part in np.array_split(np.arange(n_cells), n_sections)]
    parts = []
    for number, (size, seed) in enumerate(
        zip(per_section, cell_seed.spawn(n_sections), strict=True)
    ):
        # Effects are drawn first, so that they do not depend on the number of cells, either.
        rng = np.random.default_rng(seed)
        batch = batch_effect * rng.standard_normal(n_genes)
        rotation, shift = _frame(number, n_dims, rng)

        positions = _sample_positions(size, n_dims, rng)
        depth = _depth(positions)
        types = _sample_types(depth, n_cell_types, rng)
        counts = _sample_counts(
            _features(positions, types, n_cell_types),
            programs,
            batch,
            library_size,
            dispersion,
            rng,
        )
        true_coords = EXTENT * positions
        recorded = true_coords + jitter * rng.standard_normal(true_coords.shape)
        parts.append((counts, recorded @ rotation + shift, true_coords, types, depth))

    X, *columns = zip(*parts, strict=True)
    coords, true_coords, types, depth = map(np.concatenate, columns)
    n_layers = max(n_cell_types - 1, 1)
    return Bunch(
        X=sparse.vstack(X, format="csr"),
        coords=coords,
        true_coords=true_coords,
        sections=np.repeat(_names("section", n_sections, 1), per_section),
        genes=_names("gene", n_genes, 4),
        obs_names=_names("cell", n_cells, 5),
        cell_types=_names("type", n_cell_types, 1)[types],
        layers=np.clip((depth * n_layers).astype(np.int64), 0, n_layers - 1),
        spatial_genes=spatial_genes,
    )


def _names(word: str, n: int, width: int) -> NDArray[np.str_]:
    """``word_0001``, ``word_0002``, ... with at least `width` digits."""
    return np.array([f"{word}_{i:0{width}d}" for i in range(1, n + 1)])


def _sample_positions(n: int, n_dims: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform positions within the outline, by rejection from the box around it.

    The radius of the outline is a trigonometric polynomial whose phases share no axis of
    symmetry. In three dimensions the tissue is a slab with a flat floor and a sloping roof.
    """
    low, high = np.array([-0.65, -0.65, 0.0])[:n_dims], np.array([0.65, 0.65, 0.55])[:n_dims]
    kept, n_kept = [], 0
    while n_kept < n:
        points = rng.uniform(low, high, size=(int(1.8 * (n - n_kept)) + 16, n_dims))
        x, y = points[:, 0], points[:, 1]
        angle = np.arctan2(y, x)
        radius = 0.42 * (
            1.0 + 0.15 * np.cos(angle + 1.0) + 0.20 * np.sin(2 * angle) + 0.15 * np.cos(3 * angle)
        )
        inside = x**2 + y**2 <= radius**2
        if n_dims == 3:
            inside &= points[:, 2] <= 0.35 + 0.25 * x - 0.15 * y
        kept.append(points[inside])
        n_kept += len(kept[-1])
    return np.concatenate(kept)[:n]


def _depth(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth across the curved bands, about 0 at one border of the tissue and 1 at the other."""
    x, y = positions[:, 0], positions[:, 1]
    depth = 0.58 + 0.9 * (y + 0.45 * x) - 0.6 * (x - 0.1) ** 2
    if positions.shape[1] == 3:
        depth += 0.4 * (positions[:, 2] - 0.2)
    return np.clip(depth, 0.0, 1.0)


def _sample_types(
    depth: NDArray[np.float64], n_cell_types: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a cell type for each depth: the type of the band, of a neighboring one, or the last."""
    if n_cell_types == 1:
        return np.zeros(len(depth), dtype=np.int64)
    n_banded = n_cell_types - 1
    centers = (np.arange(n_banded) + 0.5) / n_banded
    weights = np.empty((len(depth), n_cell_types))
    weights[:, :-1] = np.exp(-0.5 * ((depth[:, None] - centers) / (0.45 / n_banded)) ** 2)
    # One cell in seven has the type that is everywhere.
    weights[:, -1] = weights[:, :-1].sum(axis=1) / 6
    cumulated = np.cumsum(weights, axis=1)
    drawn = rng.uniform(size=(len(depth), 1)) * cumulated[:, -1:]
    return np.minimum((drawn > cumulated).sum(axis=1), n_cell_types - 1)


def _fields(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth functions of the place, of about unit size, that gradient genes combine."""
    x, y = positions[:, 0], positions[:, 1]
    fields = [
        3.0 * x,
        3.0 * y,
        2.0 * np.exp(-((x - 0.25) ** 2 + (y - 0.10) ** 2) / 0.05) - 0.5,
        2.0 * np.exp(-((x + 0.15) ** 2 + (y + 0.20) ** 2) / 0.03) - 0.4,
        np.sin(7.0 * (x - 0.4 * y) + 0.5),
        np.cos(6.0 * (y + 0.6 * x) - 0.8),
    ]
    if positions.shape[1] == 3:
        z = positions[:, 2]
        fields += [5.0 * (z - 0.2), np.sin(9.0 * z + 2.0 * x)]
    return np.stack(fields, axis=1)


def _features(
    positions: NDArray[np.float64], types: NDArray[np.int64], n_cell_types: int
) -> NDArray[np.float64]:
    """Features that log-means are linear in: the indicator of the type, then the fields."""
    return np.concatenate([np.eye(n_cell_types)[types], _fields(positions)], axis=1)


def _gene_programs(
    n_genes: int,
    n_cell_types: int,
    n_dims: int,
    informative: float,
    signal: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw each gene's coefficients of the features, and which genes are informative.

    Returns
    -------
    programs : ndarray of shape (1 + n_features, n_genes)
        The first row is the intercept: genes differ in abundance by orders of magnitude.
    spatial : ndarray of shape (n_genes,), dtype bool
    """
    n_fields = _fields(np.zeros((1, n_dims))).shape[1]
    programs = np.zeros((1 + n_cell_types + n_fields, n_genes))
    programs[0] = 0.9 * rng.standard_normal(n_genes)
    spatial = np.zeros(n_genes, dtype=bool)
    spatial[rng.permutation(n_genes)[: round(informative * n_genes)]] = True

    # Two in five informative genes mark a type. The others combine two of the fields.
    chosen = np.flatnonzero(spatial)
    marks_type = rng.uniform(size=len(chosen)) < 0.4
    markers, gradients = chosen[marks_type], chosen[~marks_type]
    programs[1 + rng.integers(n_cell_types, size=len(markers)), markers] = signal * rng.uniform(
        0.8, 2.0, size=len(markers)
    )
    strength = 0.5 * signal * rng.standard_normal((2, len(gradients)))
    mixed = np.argsort(rng.uniform(size=(n_fields, len(gradients))), axis=0)[:2]
    programs[1 + n_cell_types + mixed, gradients] = strength
    return programs, spatial


def _frame(
    number: int, n_dims: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation (mirrored for odd numbers) and shift of a section. The first stays in place."""
    rotation, triangle = np.linalg.qr(rng.standard_normal((n_dims, n_dims)))
    rotation *= np.sign(np.diag(triangle))
    shift = EXTENT * rng.uniform(-2.0, 2.0, size=n_dims)
    if number == 0:
        return np.eye(n_dims), np.zeros(n_dims)
    mirrored = number % 2 == 1
    if (np.linalg.det(rotation) < 0) != mirrored:
        rotation[:, 0] *= -1
    return rotation, shift


def _sample_counts(
    features: NDArray[np.float64],
    programs: NDArray[np.float64],
    batch: NDArray[np.float64],
    library_size: float,
    dispersion: float,
    rng: np.random.Generator,
) -> sparse.csr_matrix:
    """Negative binomial counts as a gamma mixture of Poissons, a block of cells at a time."""
    n_cells, n_genes = len(features), programs.shape[1]
    library = library_size * np.exp(0.35 * rng.standard_normal(n_cells))
    step = max(BLOCK_ENTRIES // n_genes, 1)
    blocks = []
    for start in range(0, n_cells, step):
        rows = slice(start, start + step)
        means = np.exp(programs[0] + batch + features[rows] @ programs[1:])
        means *= (library[rows] / means.sum(axis=1))[:, None]
        if dispersion > 0:
            means *= rng.standard_gamma(1 / dispersion, size=means.shape) * dispersion
        blocks.append(sparse.csr_matrix(rng.poisson(means).astype(np.int32)))
    return sparse.vstack(blocks, format="csr")
