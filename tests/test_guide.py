"""Code of README and of every page of the docs runs as it stands, on files of the names it uses.

.ci/run runs these beside the fast tests.
Networks are trained for two epochs: whether the code runs does not depend on how long.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.utils import Bunch

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

anndata = pytest.importorskip("anndata")
pandas = pytest.importorskip("pandas")
matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("scanpy")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

# Pages with code, by their path. README stands for what it shows on its own.
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in DOCS.rglob("*.md"))]
# What needs a cluster, or several machines.
ELSEWHERE = ("scheduler.example.org", "SLURMCluster")
# Workers of a pool import the program, which must be a file.
PROGRAMS = ("ProcessPoolExecutor",)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DOCS.is_dir(), reason="runs in a clone of the repository"),
    # Packages beside this one warn of their own futures.
    pytest.mark.filterwarnings("ignore"),
]

SHORT = {"max_epochs": 2, "n_estimators": 1}


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


def part(tissue, rows):
    """Some cells, as an object of X, coords and genes."""
    return Bunch(X=tissue.X[rows], coords=tissue.coords[rows], genes=tissue.genes)


def taken_for_granted(page):
    """What the text around the code of a page speaks of, without making it."""
    tissue = make_tissue(n_cells=120, n_genes=60, n_sections=2, random_state=1)
    names = {
        "__name__": "__main__",
        "make_spatial_pipeline": make_spatial_pipeline,
        "make_tissue": make_tissue,
        "np": np,
        "tissue": tissue,
        "X": tissue.X,
        "counts": tissue.X,
        "coords": tissue.coords,
        "names": tissue.genes,
        "sections": tissue.sections,
        "donors": np.arange(120) % 2,
        "first": part(tissue, slice(0, 60)),
        "second": part(tissue, slice(60, 120)),
        "located": np.arange(10),
        "reference": slice(0, 60),
        "query": slice(60, 100),
        "spare": slice(100, 120),
    }
    if page.endswith("gene_selection.md"):
        names |= {"reference": part(tissue, slice(0, 60)), "query": part(tissue, slice(60, 120))}
    names["model"] = make_spatial_pipeline(random_state=0).fit(tissue.X, tissue.coords)
    return names


def run_program(code, names):
    """Run a block as a file, with the model and the parts of a query that it speaks of."""
    sklearn_dpvae.save(names["model"], "model.dpvae")
    joblib.dump([names["X"][:30], names["X"][30:]], "parts.joblib")
    more = 'import joblib\nparts = joblib.load("parts.joblib")\n'
    shown = "    assert [len(p) for p in positions] == [30, 90]\n"
    Path("program.py").write_text(more + code + shown, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    subprocess.run([sys.executable, "program.py"], check=True, env=env)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(ROOT / page)])
def test_page(page, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    for name, value in SHORT.items():
        monkeypatch.setitem(DPVAESpatialRegressor.__init__.__kwdefaults__, name, value)
    names = taken_for_granted(page)
    # In threads, which train as shortly.
    with joblib.parallel_config("threading"):
        for code in blocks(ROOT / page):
            if any(text in code for text in ELSEWHERE):
                continue
            if any(text in code for text in PROGRAMS):
                run_program(code, names)
            else:
                exec(compile(code, page, "exec"), names)
    assert os.getcwd() == str(tmp_path)
    assert not sklearn.get_config()["enable_metadata_routing"]
    matplotlib.pyplot.close("all")
    warnings.resetwarnings()


def test_hardly_anything_is_left_out():
    codes = [code for page in PAGES for code in blocks(ROOT / page)]
    left_out = [code for code in codes if any(text in code for text in ELSEWHERE)]
    assert len(left_out) == len(ELSEWHERE) < 0.05 * len(codes)
