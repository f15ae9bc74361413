"""Every public name says what it takes, and shows a use that runs."""

import dataclasses
import importlib
import inspect
import pkgutil
import re

import pytest

import sklearn_dpvae


def public_objects():
    """Yield (dotted name, object) of what the public modules list in `__all__`."""
    modules = [sklearn_dpvae]
    for info in pkgutil.iter_modules(sklearn_dpvae.__path__, "sklearn_dpvae."):
        if not info.name.rpartition(".")[2].startswith("_") and not info.name.endswith(".cli"):
            modules.append(importlib.import_module(info.name))
    seen = set()
    for module in modules:
        for name in getattr(module, "__all__", ()):
            obj = getattr(module, name)
            if callable(obj) and id(obj) not in seen:
                seen.add(id(obj))
                yield f"{module.__name__}.{name}", obj


def public_methods():
    """Yield (dotted name, function) of the methods that public classes define themselves."""
    for name, obj in public_objects():
        if inspect.isclass(obj):
            for method, function in vars(obj).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", function


def is_result(obj):
    """Whether users only get objects of this class from a function."""
    return inspect.isclass(obj) and (dataclasses.is_dataclass(obj) or issubclass(obj, tuple))


def sections_of(obj):
    """Split a numpydoc docstring into its sections; the text before the first is ""."""
    doc = inspect.getdoc(obj) or ""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", doc, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented(section):
    """Names of the parameters of a section, whose lines are "a, b : type"."""
    heads = re.findall(r"^(\*{0,2}\w[\w, *]*)(?: : .*)?$", section, flags=re.M)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def parameters(function):
    return {name for name in inspect.signature(function).parameters if name != "self"}


@pytest.mark.parametrize(("name", "obj"), list(public_objects()))
def test_public_name_documents_its_parameters_and_has_an_example(name, obj):
    sections = sections_of(obj)
    assert sections[""].strip(), f"{name} has no summary"
    if is_result(obj):
        return  # shown in the example of the function that returns it
    missing = parameters(obj) - documented(sections.get("Parameters", ""))
    assert not missing, f"{name} does not document {sorted(missing)}"
    example = sections.get("Examples", "")
    if twin := re.search(r"See `(\w+)`", example):
        example = sections_of(vars(inspect.getmodule(obj))[twin[1]]).get("Examples", "")
    assert ">>>" in example, f"{name} has no example"


@pytest.mark.parametrize(("name", "method"), list(public_methods()))
def test_public_method_documents_its_parameters(name, method):
    sections = sections_of(method)
    assert sections[""].strip(), f"{name} has no docstring"
    missing = parameters(method) - documented(sections.get("Parameters", "")) - {"y", "params"}
    assert not missing, f"{name} does not document {sorted(missing)}"
