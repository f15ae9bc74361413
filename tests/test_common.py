"""scikit-learn's own checks, over every public estimator, none of them expected to fail."""

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

import sklearn_dpvae
from sklearn_dpvae import DPVAESpatialRegressor
from sklearn_dpvae.decomposition import SpatialPCA
from sklearn_dpvae.feature_selection import HighlyVariableGenes, SpatiallyVariableGenes
from sklearn_dpvae.preprocessing import LogNormalizer, SectionScaler
from sklearn_dpvae.reconstruction import AnchoredMDS

# Every estimator, and settings that take other paths through its code; checked nowhere else.
# What the checks ask for is there after a few steps as after many.
SMALL = {"n_estimators": 2, "hidden_layer_sizes": (16,), "max_epochs": 5}
ESTIMATORS = [
    DPVAESpatialRegressor(**SMALL),
    DPVAESpatialRegressor(**SMALL, reconstruction="reference", n_components=6),
    LogNormalizer(),
    LogNormalizer(target_sum=1e4),
    SectionScaler(),
    SectionScaler(clip=None),
    SectionScaler(query="new_section"),
    HighlyVariableGenes(),
    HighlyVariableGenes(flavor="cell_ranger"),
    HighlyVariableGenes(flavor="seurat_v3"),
    SpatiallyVariableGenes(),
    SpatiallyVariableGenes(n_top_genes=None, n_neighbors=2),
    SpatialPCA(),
    SpatialPCA(smoothing=0.0, autocorrelation_power=0.0, component_power=0.0, unit_rows=False),
    AnchoredMDS(),
    AnchoredMDS(n_components=1, accelerate=False),
]
FIRST_OF_EACH = list({type(estimator): estimator for estimator in reversed(ESTIMATORS)}.values())


@pytest.mark.filterwarnings("ignore:flavor='seurat_v3' expects raw counts")
@pytest.mark.filterwarnings("ignore:X holds fractions, and LogNormalizer takes counts")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_every_public_estimator_is_checked():
    modules = ["", "decomposition", "feature_selection", "preprocessing", "reconstruction"]
    public = set()
    for name in modules:
        module = __import__(f"sklearn_dpvae.{name}".rstrip("."), fromlist=["_"])
        public |= {
            value
            for key, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, BaseEstimator)
            and value.__module__.startswith("sklearn_dpvae")
            and not key.startswith("_")
        }
    public -= {sklearn_dpvae.SpatialPipeline}  # a Pipeline: its steps are checked
    assert public == {type(estimator) for estimator in ESTIMATORS}


@pytest.mark.parametrize("estimator", FIRST_OF_EACH, ids=lambda e: type(e).__name__)
def test_bad_parameters_are_named(estimator):
    """A check that scikit-learn's own test suite makes and `parametrize_with_checks` does not."""
    check_param_validation(type(estimator).__name__, estimator)
