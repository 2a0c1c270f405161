"""Settings of the documentation: `make docs` builds it without a network, warnings are errors."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "potnet"
author = "The potnet developers"
copyright = "2026, the potnet developers"
version = release = installed_version("potnet")

extensions = [
    "formulas",
    "offline",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_katex", "sg_execution_times.rst", "gallery/sg_execution_times.rst"]
# A script of the gallery runs again when it has changed; -D plot_gallery=0 leaves pictures out.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1e6,  # seconds: how long this machine took is of no interest
}
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # reStructuredText would take "numpy.str_" for a link
# Pydantic's own methods are not what a reader of the settings looks for.
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = f"potnet {release}"
html_math_renderer = "katex"
html_static_path = ["_katex/static", "_static"]
html_css_files = ["katex.min.css", "potnet.css"]
html_copy_source = False  # nothing of the built pages is TeX
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
