"""Settings of the documentation: `make docs` builds it without a network, warnings are errors."""

from importlib.metadata import version as installed_version

project = "potnet"
author = "The potnet developers"
copyright = "2026, the potnet developers"
version = release = installed_version("potnet")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
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
# Formulas are drawn by MathJax where there is a network, and stay readable TeX where there is none.
html_theme_options = {"navigation_with_keys": True}
