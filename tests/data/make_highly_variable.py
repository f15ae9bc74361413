"""Write highly_variable.npz: what scanpy scores and picks on make-believe counts.

Run ``python tests/data/make_highly_variable.py`` with scanpy and scikit-misc installed. The counts
are stored with the results, so the tests do not lean on a random stream staying the same.
"""

from pathlib import Path

import anndata
import numpy as np
import scanpy

N_TOP = 40
SCORES = {
    "seurat": "dispersions_norm",
    "cell_ranger": "dispersions_norm",
    "seurat_v3": "variances_norm",
}


def make_counts(n_cells=160, n_genes=240, seed=0):
    """Negative binomial counts: varied means and overdispersions, two cell types, two batches."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(0.0, 1.2, n_genes)
    overdispersion = rng.gamma(2.0, 0.3, n_genes)
    batch = np.repeat(["a", "b"], n_cells // 2)
    cell_type = rng.integers(2, size=n_cells)
    fold = np.exp(rng.normal(0, 1.0, n_genes) * (rng.random(n_genes) < 0.2))
    depth = rng.lognormal(0.0, 0.3, n_cells)
    expected = depth[:, None] * mean * np.where(cell_type[:, None] == 1, fold, 1.0)
    expected[batch == "b"] *= rng.lognormal(0.0, 0.3, n_genes)
    counts = rng.poisson(expected * rng.gamma(1 / overdispersion, overdispersion, expected.shape))
    counts[:, 0] = 0
    counts[batch == "b", 1] = 0
    return counts.astype(np.int16), batch


def main():
    counts, batch = make_counts()
    results = {"counts": counts, "batch": batch, "n_top": N_TOP}
    for flavor, score in SCORES.items():
        for sections in (False, True):
            data = anndata.AnnData(counts.astype(np.float64))
            data.obs["batch"] = batch
            data.obs["batch"] = data.obs["batch"].astype("category")
            if flavor != "seurat_v3":
                scanpy.pp.normalize_total(data, target_sum=1000)
                scanpy.pp.log1p(data)
            found = scanpy.pp.highly_variable_genes(
                data,
                flavor=flavor,
                n_top_genes=N_TOP,
                batch_key="batch" if sections else None,
                inplace=False,
            )
            # Batches come back in the order of the gene names sorted as text.
            found = found.loc[data.var_names]
            name = f"{flavor}_sections" if sections else flavor
            results[f"{name}_picks"] = found["highly_variable"].to_numpy()
            results[f"{name}_scores"] = found[score].to_numpy()
    np.savez_compressed(Path(__file__).with_name("highly_variable.npz"), **results)


if __name__ == "__main__":
    main()
