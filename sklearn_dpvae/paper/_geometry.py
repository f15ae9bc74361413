"""Experiments that need no fit: distances in expression and tissue, masks, and anchors.

Imports the study, metrics, masks, MDS and figures.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from ..feature_selection import HighlyVariableGenes
from ..masks import ClusterMask, KNNMask, RadiusMask
from ..metrics import mantel
from ..plotting._common import PALETTE, get_axes
from ..preprocessing import LogNormalizer
from ..reconstruction import anchored_smacof
from ._sections import Section
from ._study import Finding, Job, Study

_SIGNIFICANT = 0.05


def _logs(section: Section) -> Any:
    """Log-normalized expression of the genes that vary most, as in the paper's recipe."""
    logs = LogNormalizer().fit_transform(section.X)
    n_top_genes = min(1000, logs.shape[1])
    return HighlyVariableGenes(n_top_genes=n_top_genes).fit_transform(logs)


def correlate_distances(section: Section, n_permutations: int) -> dict[str, Any]:
    """Mantel's test of a section's distances in expression and in the tissue."""
    start = time.process_time()
    found = mantel(_logs(section), section.coords, n_permutations=n_permutations, max_samples=500)
    return {
        "correlation": float(found.r),
        "p": float(found.pvalue),
        "seconds": time.process_time() - start,
    }


def expression_and_tissue(study: Study) -> Finding:
    """Figure 2: are cells that are alike near each other?"""
    jobs = [
        Job(f"Mantel, {s.name}", correlate_distances, (s, study.settings.n_permutations))
        for s in study.sections
    ]
    tests = dict(zip([s.name for s in study.sections], study.run(jobs), strict=True))
    positive = [
        name
        for name, test in tests.items()
        if test["correlation"] > 0 and test["p"] < _SIGNIFICANT
    ]
    (ax,) = get_axes(None, 1, n_columns=1, size=(6.5, 0.24 * len(tests) + 1.2))
    names = sorted(tests, key=lambda name: tests[name]["correlation"])
    colors = [PALETTE[0] if name in positive else "0.7" for name in names]
    ax.barh(names, [tests[name]["correlation"] for name in names], color=colors)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(xlabel=f"Mantel's r (blue: positive, p < {_SIGNIFICANT})")
    return Finding(
        key="mantel",
        title="Expression and tissue distances correlate",
        shown_in="Figure 2",
        claim="Mantel's test is positive and significant in 23 of 27 sections.",
        found=[
            f"Positive and significant (p < {_SIGNIFICANT}) in {len(positive)} of {len(tests)} "
            "sections."
        ],
        numbers={
            "n_sections": len(tests),
            "n_positive_and_significant": len(positive),
            "sections": {
                name: {"r": test["correlation"], "p": test["p"]} for name, test in tests.items()
            },
        },
        tables=[
            (
                "Mantel's r and its p-value",
                ["section", "r", "p"],
                [[name, f"{t['correlation']:.3f}", f"{t['p']:.3g}"] for name, t in tests.items()],
            )
        ],
        figures={"mantel": ax.figure},
    )


def masks(study: Study) -> Finding:
    """Figure 3: which pairs a mask leaves."""
    section = study.sections[0]
    coords = section.coords
    # Cells in the order of the longer side, so that the matrices have a structure to be seen.
    order = np.argsort(coords[:, np.argmax(np.ptp(coords, axis=0))])
    coords, X = coords[order], _logs(section)[order]
    groups = ClusterMask()(X, coords)
    matrices = {
        "no mask": np.ones((len(coords), len(coords))),
        "nearest neighbors": KNNMask()(X, coords).toarray(),
        "radius": RadiusMask()(X, coords).toarray(),
        "clusters": groups[:, None] == groups[None, :],
    }
    axes = get_axes(None, len(matrices), n_columns=4, size=(2.8, 3.0))
    shares = {}
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        shares[name] = float(np.mean(matrix > 0))
        ax.imshow(matrix > 0, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        ax.set(xticks=[], yticks=[], title=f"{name}\n{shares[name]:.0%} of pairs")
    return Finding(
        key="masks",
        title="Masks of pairs",
        shown_in="Figure 3, eq. (5)",
        claim="A mask M restricts the distance term to chosen pairs.",
        found=[f"Drawn for the {len(coords)} cells of {section.name}, ordered along the tissue."],
        numbers={"section": section.name, "share_of_pairs": shares},
        figures={"masks": axes[0].figure},
    )


def solve_with_anchors(
    coords: NDArray[np.float64], n_anchors: int, n_starts: int
) -> dict[str, Any]:
    """Errors of MDS from exact distances, some positions known, from several random starts.

    Returns
    -------
    dict
        "errors", the root-mean-square distance to the truth of each solution, without alignment.
    """
    start = time.process_time()
    dissimilarities = squareform(pdist(coords))
    anchors = (np.arange(n_anchors), coords[:n_anchors]) if n_anchors else None
    errors = []
    for seed in range(n_starts):
        found = anchored_smacof(
            dissimilarities,
            n_components=coords.shape[1],
            anchors=anchors,
            scale=1.0,
            underdetermined="allow",
            init="random",
            # Which of several solutions is found is what is asked, not whether one is found.
            n_init=8,
            max_iter=1000,
            eps=1e-9,
            random_state=seed,
        )
        errors.append(float(np.sqrt(np.mean((found.embedding - coords) ** 2))))
    return {"errors": errors, "seconds": time.process_time() - start}


def uniqueness(study: Study) -> Finding:
    """Figure 4: how many known positions make the reconstruction unique?"""
    coords = np.random.RandomState(0).uniform(-1, 1, size=(40, 2))
    numbers = list(range(7))
    jobs = [
        Job(f"{m} anchors", solve_with_anchors, (coords, m, study.settings.n_starts))
        for m in numbers
    ]
    errors = np.array([result["errors"] for result in study.run(jobs)])
    unique = [m for m, of_m in zip(numbers, errors, strict=True) if (of_m < 0.01).all()]
    enough = min(unique) if unique else None
    (ax,) = get_axes(None, 1, n_columns=1, size=(5.0, 3.4))
    ax.plot(numbers, np.maximum(errors, 1e-6), "o", color=PALETTE[0], alpha=0.5)
    ax.set(
        yscale="log",
        xlabel="known positions",
        ylabel="error of each start\n(the tissue is 2 wide)",
    )
    return Finding(
        key="uniqueness",
        title="Uniqueness of the reconstruction",
        shown_in="Figure 4, eq. (6) and (7)",
        claim="The solution is unique up to a similarity without anchors, and unique with "
        "dim(s) + 1 anchors in general position: three in the plane.",
        found=[
            f"All {study.settings.n_starts} starts end at the truth from {enough} known positions "
            "on."
        ],
        numbers={
            "n_anchors": numbers,
            "rms_error_of_each_start": errors.tolist(),
            "enough": enough,
        },
        figures={"uniqueness": ax.figure},
    )
