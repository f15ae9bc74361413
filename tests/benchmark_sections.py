"""A folder of sections that the benchmarks are tested on."""

import numpy as np
import pytest

from sklearn_dpvae.datasets import make_tissue


def write_sections(path):
    """Write one file of two sections, and one of a single section without labels."""
    anndata = pytest.importorskip("anndata")
    tissue = make_tissue(450, 60, n_sections=3, random_state=0)
    for name, labels in {"pair": ("section_1", "section_2"), "single": ("section_3",)}.items():
        rows = np.isin(tissue.sections, labels)
        adata = anndata.AnnData(tissue.X[rows], obsm={"spatial": tissue.coords[rows]})
        adata.var_names = tissue.genes
        adata.obs["kind"] = tissue.cell_types[rows]
        if len(labels) > 1:
            adata.obs["section"] = tissue.sections[rows]
        adata.write_h5ad(path / f"{name}.h5ad")
    return path
