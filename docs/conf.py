"""Sphinx configuration. Build with: python -m sphinx -W -b html docs docs/_build/html"""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

# The gallery runs two examples at a time, so one torch thread for each is enough on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sklearn_dpvae

sys.path.insert(0, str(Path(__file__).parent))

project = "sklearn_dpvae"
author = "The sklearn_dpvae developers"
copyright = f"2026, {author}"
version = release = sklearn_dpvae.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
# Links into the documentation of other projects need inventories from the network.
if os.environ.get("DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
    }

templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
nitpicky = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# MathJax typesets the formulas. With this package, which the extra "docs" brings, it stands beside
# the pages, so that they can be read offline; without it, browsers fetch it from the network.
if find_spec("sphinx-mathjax-offline"):
    extensions.append("sphinx-mathjax-offline")

# `name` in a docstring is code, and becomes a link if there is something to link to.
default_role = "py:obj"
# Keep quotes straight: curly ones would turn default="auto" into invalid Python.
smartquotes_action = "De"

autosummary_generate = True
autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_dpvae"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "sklearn_dpvae"},
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
# Links to code and issues, where their address is known: REPOSITORY_URL=https://... sphinx ...
if repository := os.environ.get("REPOSITORY_URL", "").rstrip("/"):
    html_theme_options["icon_links"] = [
        {"name": "Code", "url": repository, "icon": "fa-solid fa-code"},
        {"name": "Issues", "url": f"{repository}/issues", "icon": "fa-solid fa-circle-question"},
    ]
html_sidebars = {
    "index": [],
    "installation": [],
    "benchmarks": [],
    "comparison": [],
    "changelog": [],
    "contributing": [],
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("sklearn_dpvae",),
    "reference_url": {"sklearn_dpvae": None},
    "filename_pattern": r"/plot_",
    "within_subsection_order": "gallery_order.LearningOrder",
    "abort_on_example_error": True,
    "download_all_examples": False,
    # Show diagrams of estimators, but not the reprs of axes, legends and displays.
    "capture_repr": ("_repr_html_",),
    "min_reported_time": 5,
    "parallel": 2,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "matplotlib_animations": False,
}

suppress_warnings = ["config.cache"]


def escape_underscores_of_types(app, what, name, obj, options, lines):
    """Keep "shape (n_features_in_,)" from being read as a link to "n_features_in"."""
    for i, line in enumerate(lines):
        if match := re.fullmatch(r"(\w[\w, ]* : )(.*)", line):
            plain = re.split(r"(`[^`]*`)", match[2])
            plain[::2] = [re.sub(r"(?<=\w)_(?!\w)", r"\\_", part) for part in plain[::2]]
            lines[i] = match[1] + "".join(plain)


def setup(app):
    # Run before numpydoc, which listens at the default priority of 500.
    app.connect("autodoc-process-docstring", escape_underscores_of_types, priority=400)
