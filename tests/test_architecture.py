"""Imports run downward only, and optional packages are imported inside functions."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sklearn_dpvae"

# The rooms of the package, from formulas to front ends. A module imports from its own room and
# from those above it in this list, never from its neighbors on the same line. A module that stands
# in no line fails: decide where it belongs.
LAYERS = [
    {"_utils"},
    {
        "_network",
        "datasets",
        "decomposition",
        "feature_selection",
        "masks",
        "metrics",
        "model_selection",
        "places",
        "preprocessing",
    },
    {"reconstruction"},
    {"_training"},
    {"_fitted"},
    {"_regressor"},
    {"pipeline"},
    {"_spatial_model"},
    {"mapping"},
    {"_persistence", "anndata", "inspection"},
    {"plotting"},
    {"cli", "paper"},
    {"__main__"},
]
# What a module may import at its head: the dependencies.
CORE = {"joblib", "numpy", "scipy", "sklearn", "skorch", "torch", "tqdm"}


def modules():
    """Yield (top-level module name, file) of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield parts[0], path


def resolve(node, path):
    """Return the absolute dotted names that an import statement brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = []
    if node.level:
        package = ("sklearn_dpvae", *path.relative_to(PACKAGE).parts[:-1])
        base = list(package[: len(package) - node.level + 1])
    base += node.module.split(".") if node.module else []
    return [".".join([*base, alias.name]) for alias in node.names]


def imports(path, *, toplevel_only=False):
    """Return the absolute dotted names that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    names = []
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += resolve(node, path)
        if toplevel_only and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(node)
        ):
            continue
        pending += ast.iter_child_nodes(node)
    return names


def is_type_checking(node):
    """Whether a node is `if TYPE_CHECKING:`, whose imports never run."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def local_targets(path):
    """Return the top-level modules of the package that a file imports."""
    names = [name.split(".") for name in imports(path) if name.startswith("sklearn_dpvae.")]
    return {parts[1] for parts in names} & {module for module, _ in modules()}


def layer_of(module):
    for depth, layer in enumerate(LAYERS):
        if module in layer:
            return depth
    pytest.fail(f"sklearn_dpvae/{module} is in no layer of tests/test_architecture.py")


@pytest.mark.parametrize(
    ("module", "path"), [pytest.param(m, p, id=str(p.relative_to(PACKAGE))) for m, p in modules()]
)
def test_imports_run_downward(module, path):
    if module == "__init__":
        return
    depth = layer_of(module)
    for target in local_targets(path) - {module}:
        assert layer_of(target) < depth, f"{path.name} imports {target}, which is not below it"


def test_every_layer_names_modules_that_exist():
    named = set().union(*LAYERS)
    assert named == {module for module, _ in modules()} - {"__init__"}


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=str(p.relative_to(PACKAGE))) for _, p in modules()]
)
def test_only_core_dependencies_are_imported_at_module_level(path):
    allowed = CORE | {"sklearn_dpvae"} | sys.stdlib_module_names
    found = {name.split(".")[0] for name in imports(path, toplevel_only=True)}
    assert found <= allowed, f"import {sorted(found - allowed)} inside the function that needs it"


def test_only_training_says_skorch():
    users = {
        module
        for module, path in modules()
        if any(name.split(".")[0] == "skorch" for name in imports(path))
    }
    assert users == {"_training"}
