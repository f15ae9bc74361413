"""
Fine-tune on a few located cells of a new section
=================================================

A fitted model is a good starting point for another section. If some cells of that section are
located, ``partial_fit`` continues training on them.
"""

# %%
# A reference, and a section that differs from it
# -----------------------------------------------
# In the second section, a third of the genes behave like another gene of the first. That much may
# change between species, or between technologies that measure different transcripts.

import copy

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import vstack
from sklearn.base import clone

from sklearn_dpvae import make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

rng = np.random.default_rng(0)
tissue = make_tissue(n_cells=800, n_genes=200, n_sections=2, random_state=6)
first, second = (np.flatnonzero(tissue.sections == label) for label in ["section_1", "section_2"])
changed = rng.choice(200, 66, replace=False)
genes = np.arange(200)
genes[changed] = rng.permutation(changed)

X, coords = tissue.X[first], tissue.coords[first]
X_new, coords_new = tissue.X[second][:, genes], tissue.coords[second]
order = rng.permutation(len(X_new.indptr) - 1)
held_out, pool = order[:150], order[150:]

# The network sees genes, not the components that the pipeline computes by default. Only the
# network is tuned, so the components would stay those of the reference.
pretrained = make_spatial_pipeline(
    n_top_genes=100,
    n_spatial_components=None,
    n_estimators=1,
    hidden_layer_sizes=(64, 64),
    max_epochs=100,
    random_state=1,
)
pretrained.fit(X, coords)
zero_shot = 1 - pretrained.score(X_new[held_out], coords_new[held_out])
print(f"without any located cell: disparity {zero_shot:.3f}")

# %%
# With few and with many located cells
# ------------------------------------
# For comparison, one model is trained from scratch on the same located cells, and one on both
# sections together, each in its own frame.


def fine_tuned(rows):
    # All cells of the section are passed, as together they tell how it is z-scored. Those without
    # a position are not trained on.
    known = np.full_like(coords_new, np.nan)
    known[rows] = coords_new[rows]
    return copy.deepcopy(pretrained).partial_fit(X_new, known)


def from_scratch(rows):
    return clone(pretrained).fit(X_new[rows], coords_new[rows])


def together(rows):
    return clone(pretrained).fit(
        vstack([X, X_new[rows]]),
        np.concatenate([coords, coords_new[rows]]),
        sections=np.repeat(["first", "second"], [len(coords), len(rows)]),
    )


numbers = [25, 250]
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for name, train, style in [
    ("from scratch", from_scratch, "s--"),
    ("fine-tuned", fine_tuned, "o-"),
    ("both sections together", together, "^-"),
]:
    errors = [1 - train(pool[:n]).score(X_new[held_out], coords_new[held_out]) for n in numbers]
    ax.plot(numbers, errors, style, label=name)
ax.axhline(zero_shot, color="0.5", linestyle=":", label="no located cell")
ax.set(
    xlabel="located cells of the new section",
    ylabel="Procrustes disparity, held out",
    ylim=(0, None),
)
ax.set_xticks(numbers)
ax.legend()

# %%
# With few located cells, the reference helps a little. With many, the new section needs no
# reference, and fine-tuning, which changes the network slowly, falls behind. But it takes a
# fraction of the time of a fit, and does not need the reference's data.
#
# When a single network learns two sections that differ as much as these, it may give each its own
# pose, one mirrored against the other (with ``random_state=0`` it does). Cells that it has not
# seen are then placed by a mixture of both poses.
