"""Sphinx configuration. Build: ``sphinx-build -W -b html docs docs/_build`` after ``pip install '.[docs]'``."""

import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path

# the build imports AiiDA: it must not find or make the reader's own configuration
os.environ["AIIDA_PATH"] = tempfile.mkdtemp(prefix="aiida-docs-")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "aiida-aceal"
author = "The aiida-aceal developers"
copyright = author
release = metadata.version("aiida-aceal")
version = release

extensions = ["myst_parser", "sphinx_copybutton", "aceal_mathml", "aceal_reference"]
html_math_renderer = "mathml"
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
exclude_patterns = ["_build", "_ext", "README.md", "reference/generated/deck.md", "tutorial/demo_output.md"]
html_theme = "furo"
html_title = f"aiida-aceal {release}"
html_static_path = ["_static"]
html_css_files = ["aceal.css"]
html_show_sourcelink = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
nitpicky = True
