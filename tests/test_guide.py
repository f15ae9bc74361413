"""Code of README and guide runs as it stands, page by page, on files of the names it uses."""

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn

from sklearn_dpvae.datasets import make_tissue

anndata = pytest.importorskip("anndata")
pandas = pytest.importorskip("pandas")
matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("scanpy")

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "user_guide"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GUIDE.is_dir(), reason="runs in a clone of the repository"),
    # Packages beside this one warn of their own futures.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that the pages name."""
    from test_datasets_readers import write_h5, write_visium

    folder = tmp_path_factory.mktemp("guide")
    tissue = make_tissue(n_cells=200, n_genes=60, random_state=0)
    adata = anndata.AnnData(
        tissue.X.astype(np.float32),
        obs=pandas.DataFrame(
            {"section": "a", "cell_type": pandas.Categorical(tissue.cell_types)},
            index=tissue.obs_names,
        ),
        var=pandas.DataFrame(index=tissue.genes),
        obsm={"spatial": tissue.coords},
    )
    (folder / "sections").mkdir()
    for name in ("reference", "query", "slide", "cells", "a", "b", "sections/a", "sections/b"):
        adata.write_h5ad(folder / f"{name}.h5ad")
    write_visium(folder / "visium" / "outs", tissue)
    factors = folder / "visium" / "outs" / "spatial" / "scalefactors_json.json"
    factors.write_text(json.dumps({"spot_diameter_fullres": 89.4}))
    write_h5(
        folder / "cells" / "filtered_feature_bc_matrix.h5",
        tissue.X, tissue.genes, tissue.obs_names,
    )  # fmt: skip
    return folder


def blocks(page):
    """The blocks of Python of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize(
    "page",
    [
        "README",
        "formats",
        "visium_and_single_cells",
        "recipes",
        "first_steps",
        "anndata",
        "mapping",
    ],
)
def test_page(page, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    # What the surrounding text calls X and names.
    tissue = make_tissue(n_cells=50, n_genes=60, random_state=1)
    names = {"X": tissue.X, "names": tissue.genes}
    folder = ROOT if page == "README" else GUIDE
    for code in blocks(folder / f"{page}.md"):
        exec(compile(code, f"{page}.md", "exec"), names)
    assert os.getcwd() == str(tmp_path)
    assert not sklearn.get_config()["enable_metadata_routing"]
    matplotlib.pyplot.close("all")
    warnings.resetwarnings()
