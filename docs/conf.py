"""Settings of the documentation site: ``sphinx-build -W docs OUT``."""

from __future__ import annotations

from importlib.metadata import version as installed

project = "activeselect"
author = "The activeselect authors"
html_show_copyright = False
version = release = installed("activeselect")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "activeselect"

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes, units and types are in the text
napoleon_use_rtype = False
