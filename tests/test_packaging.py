"""What setup.cfg, pyproject.toml, constraints.txt and CITATION.cff say of the package agrees."""

import ast
import configparser
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sklearn_dpvae

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.cfg").is_file(), reason="runs in a clone of the repository"
)

# Where the name to import is not the name to install.
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
# Dependencies of dependencies that need no declaration: skorch brings tqdm.
INDIRECT = {"tqdm"}


def setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def requirements(text):
    return [Requirement(line) for line in text.strip().splitlines()]


def declared():
    """All requirements of the package and its extras, but for the package itself."""
    config = setup_cfg()
    found = requirements(config["options"]["install_requires"])
    for extra in config["options.extras_require"].values():
        found += [req for req in requirements(extra) if req.name != "sklearn-dpvae"]
    return found


def test_setup_cfg_is_not_silenced():
    with open(ROOT / "pyproject.toml", "rb") as file:
        assert "project" not in tomllib.load(file)


def test_core_dependencies_are_six():
    names = {req.name for req in requirements(setup_cfg()["options"]["install_requires"])}
    assert names == {"joblib", "numpy", "scikit-learn", "scipy", "skorch", "torch"}


def test_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == sklearn_dpvae.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.M)[1] == sklearn_dpvae.__version__


def test_constraints_hold_a_version_in_range_of_every_requirement():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    for req in declared():
        assert pins[canonicalize_name(req.name)] in req.specifier, str(req)


def test_every_import_is_declared():
    imported = set()
    for path in (ROOT / "sklearn_dpvae").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= sys.stdlib_module_names | INDIRECT | {"sklearn_dpvae"}
    names = {req.name for req in declared()}
    assert {DISTRIBUTIONS.get(name, name) for name in imported} <= names


def optional_imports():
    """Yield (module, extra) of every call of import_optional in the package."""
    for path in (ROOT / "sklearn_dpvae").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "import_optional":
                extra = next(kw.value for kw in node.keywords if kw.arg == "extra")
                yield node.args[0].value.split(".")[0], extra.value


def test_an_error_for_a_missing_package_names_an_extra_that_brings_it():
    extras = setup_cfg()["options.extras_require"]
    for module, extra in sorted(set(optional_imports())):
        assert module in {req.name for req in requirements(extras[extra])}, (module, extra)
