"""Make model_v2.dpvae, and model_v2.npz with a query and what the model says of it.

Both were made once, before the first release, and are kept: every later version must load the
file and predict the same. Run it by hand: ``python tests/data/make_model_v2.py``.
"""

from pathlib import Path

import numpy as np

from sklearn_dpvae import SpatialModel, make_spatial_pipeline, save
from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.masks import KNNMask

N_GENES = 12


def make(folder):
    """Write both files to a folder."""
    tissue = make_tissue(90, N_GENES, n_sections=2, random_state=0)
    pipeline = make_spatial_pipeline(
        n_spatial_components=4,
        n_components=(3, 2),
        n_estimators=2,
        hidden_layer_sizes=(6,),
        likelihood="nb",
        mask=KNNMask(5),
        n_landmarks=12,
        max_epochs=5,
        random_state=0,
    )
    batch = np.where(tissue.sections == tissue.sections[0], "first", "second")
    pipeline.fit(tissue.X, tissue.coords, sections=tissue.sections, batch=batch)
    model = SpatialModel.of(
        pipeline,
        tissue.X,
        [f"gene{i}" for i in range(N_GENES)],
        gene_ids=[f"ID{i:04}" for i in range(N_GENES)],
        unit="µm",
        layer="counts",
        spatial_key="spatial",
        section_key="section",
    )
    save(model, folder / "model_v2.dpvae")
    X, sections = tissue.X[::6], tissue.sections[::6]
    found = model.answers(X, genes=model.genes, sections=sections)
    np.savez_compressed(
        folder / "model_v2.npz",
        X=X.toarray(),
        sections=sections,
        coords=found.coords,
        std=found.std,
        latents=found.latents,
        expression=pipeline[-1].inverse_transform(found.latents),
        median_depth=model.median_depth,
    )


if __name__ == "__main__":
    make(Path(__file__).parent)
