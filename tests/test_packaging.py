"""What setup.cfg, pyproject.toml, constraints.txt and CITATION.cff say of the package agrees."""

import ast
import configparser
import re
import shutil
import subprocess
import sys
import tarfile
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


def test_core_dependencies_are_few():
    """tqdm comes with skorch, and is declared because it is imported."""
    names = {req.name for req in requirements(setup_cfg()["options"]["install_requires"])}
    assert names == {"joblib", "numpy", "scikit-learn", "scipy", "skorch", "torch", "tqdm"}


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
    imported -= sys.stdlib_module_names | {"sklearn_dpvae"}
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


def test_the_source_distribution_has_what_its_tests_need(tmp_path):
    """Files that tests read must be in it, and nothing that is generated."""
    pytest.importorskip("setuptools.build_meta")
    copy = tmp_path / "copy"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not a clone of the repository")
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    script = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=copy, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        found = {name.partition("/")[2] for name in file.getnames()}
    assert {
        "tests/conftest.py",
        "tests/read_only.py",
        "constraints.txt",
        "constraints-users.txt",
        "CHANGELOG.md",
        "CITATION.cff",
        "docs/conf.py",
        ".ci/run",
        "benchmarks/__init__.py",
    } <= found
    in_clone = {name for name in tracked.stdout.split("\0") if name.startswith("tests/")}
    assert in_clone <= found


def test_users_are_held_to_one_version_only():
    """The small file keeps nobody from squidpy and spatialdata, and agrees with the full one."""
    lines = (ROOT / "constraints-users.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin.partition("==")[0] for pin in pins] == ["torch"]
    assert pins[0] in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_recipe_of_conda_asks_for_what_setup_cfg_does():
    recipe = (ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe.partition("  run:\n")[2].partition("\ntest:")[0]
    found = dict(re.findall(r"- ([\w-]+) >=([\d.]+)", run))
    assert found.pop("python") == setup_cfg()["options"]["python_requires"].removeprefix(">=")
    found["torch"] = found.pop("pytorch")
    declared = requirements(setup_cfg()["options"]["install_requires"])
    assert found == {req.name: str(req.specifier).removeprefix(">=") for req in declared}


def test_every_picture_has_alternative_text():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"!\[\s*\]\(", text), page
        for figure in re.findall(r"^(?:```|:::)\{(?:figure|image)\} .+\n((?::.+\n)*)", text, re.M):
            assert re.search(r"^:alt: .{20}", figure, re.M), page


def test_promises_of_the_docs_name_tests_that_exist():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)::(test_\w+)`", page)
    assert len(named) > 40
    for file, name in named:
        code = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
        assert f"\ndef {name}(" in code, f"{file}::{name}"
