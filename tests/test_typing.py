"""A user's program is checked against the types of the package, as the classifier promises.

The programs hold right uses, whose types are asserted, and wrong ones, whose errors are expected:
mypy reports an expected error that is missing. An interface without types, where everything is
Any, would fail both ways.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).parents[1]

CONFIG = """
[mypy]
strict = True
# Errors count in the user's program only.
follow_imports = silent
ignore_missing_imports = True
# The network stays behind the interface, and torch alone would take most of the time.
[mypy-torch.*,skorch.*]
follow_imports = skip
"""

STEPS = """
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from sklearn_dpvae.datasets import make_tissue
from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.feature_selection import HighlyVariableGenes, SpatiallyVariableGenes
from sklearn_dpvae.metrics import ProcrustesScorer, procrustes_disparity
from sklearn_dpvae.model_selection import SpatialBlockKFold
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler

tissue = make_tissue(n_cells=100, n_sections=2, random_state=0)
make_tissue(n_cells="many")  # type: ignore[arg-type]

normalizer = LogNormalizer(pseudocount=4.0).fit(tissue.X)
assert_type(normalizer, LogNormalizer)
assert_type(normalizer.target_sum_, float)
LogNormalizer(target_sum="median")  # type: ignore[arg-type]
normalizer.transform(tissue.X, genes=tissue.genes)  # type: ignore[call-arg]

scaler = SectionScaler(query="new_section", clip=None).fit([[1.0], [2.0]], sections=["a", "b"])
assert_type(scaler, SectionScaler)
assert_type(scaler.pointwise, bool)
Z = scaler.transform([[1.0]], missing_genes=[False])
assert_type(Z, NDArray[np.floating[Any]])
assert_type(scaler.fit_transform(tissue.X, sections=tissue.sections), NDArray[np.floating[Any]])

for selector in (
    HighlyVariableGenes(n_top_genes=10).fit(Z),
    SpatiallyVariableGenes(n_top_genes=None).fit(Z, tissue.coords, sections=tissue.sections),
):
    assert_type(selector.support_, NDArray[np.bool_])
SpatiallyVariableGenes().fit(Z)  # type: ignore[call-arg]
HighlyVariableGenes(n_top_genes=None)  # type: ignore[arg-type]

components = SpatialPCA(n_components=5, random_state=0).fit(Z, tissue.coords)
assert_type(components, SpatialPCA)
assert_type(components.transform(Z), NDArray[np.floating[Any]])
SpatialPCA(5, 24)  # type: ignore[call-arg]

for train, test in SpatialBlockKFold(n_splits=4).split(Z, tissue.coords):
    assert_type(train, NDArray[np.intp])
assert_type(procrustes_disparity(tissue.coords, tissue.coords), float)
scorer = ProcrustesScorer("distance", sections="single")
assert_type(scorer(components, Z, tissue.coords), float)
scorer(components, Z)  # type: ignore[call-arg]
"""

MODEL = """
from typing import assert_type

from sklearn_dpvae import DPVAESpatialRegressor, SpatialPipeline, make_spatial_pipeline
from sklearn_dpvae.datasets import make_tissue

tissue = make_tissue(random_state=0)
X, coords = tissue.X.toarray(), tissue.coords

model = DPVAESpatialRegressor(max_epochs=5).fit(X, coords, sections=tissue.sections)
assert_type(model, DPVAESpatialRegressor)
assert_type(model.score(X, coords), float)
model.predict(X, return_std=True)
model.predict()  # type: ignore
DPVAESpatialRegressor(max_epochs="many")  # type: ignore[arg-type]
DPVAESpatialRegressor(epochs=5)  # type: ignore[call-arg]

pipeline = make_spatial_pipeline()
assert_type(pipeline, SpatialPipeline)
assert_type(pipeline.fit(X, coords, sections=tissue.sections), SpatialPipeline)
pipeline.predict(X)
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(STEPS, id="steps"),
        pytest.param(MODEL, id="model"),
    ],
)
def test_program_of_a_user_is_checked(program, tmp_path):
    (tmp_path / "mypy.ini").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
