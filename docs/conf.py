"""How Sphinx turns these pages, and the docstrings, into HTML: ``make docs``.

The source is the whole project, so that pages may link to benchmarks, bundles and configurations. The table of contents is
read from the links of ``index.md``; the reference is written from the package before anything is read.
"""

from __future__ import annotations

import re
import sys
from argparse import HelpFormatter
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from monai_difom import __version__  # noqa: E402
from monai_difom.__main__ import VERBS, make_parser  # noqa: E402

project = "monai_difom"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/reference/*.rst",
    "benchmarks/*.md",
    "bundles/*/docs/*.md",
]
exclude_patterns = [".*", "build", "runs", "tests", "monai_difom", "**/__pycache__"]
html_theme = "furo"
html_title = f"monai_difom {__version__}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
highlight_language = "text"
python_maximum_signature_line_length = 100
myst_heading_anchors = 3
autodoc_member_order = "groupwise"
autodoc_typehints_format = "short"
# a name in backticks becomes a link where there is such a thing; where it is an argument it stays what it is
default_role = "any"
suppress_warnings = ["ref.any"]

# in the order in which a reader meets them
MODULES = (
    *("losses", "targets", "networks.nets", "networks.teachers", "networks.taps", "networks.encoders"),
    *("networks.lora", "data", "transforms", "engines", "handlers", "metrics", "apps", "zoo", "utils"),
)


def heading(text: str, line: str = "=") -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{line * len(text)}\n\n"


def literal(text: str) -> str:
    """Return a block that is shown as it is."""
    return "::\n\n" + "".join(f"   {line}\n" for line in text.splitlines()) + "\n"


def module_page(name: str) -> str:
    """Return the page of a module: all that is in its ``__all__``, from docstrings and, of constants, comments."""
    full = f"monai_difom.{name}"
    page = f"{heading(full)}.. highlight:: python\n\n.. automodule:: {full}\n   :members:\n   :show-inheritance:\n\n"
    module = import_module(full)
    for constant in getattr(module, "__all__", ()):
        value = getattr(module, constant)
        if not callable(value) and not isinstance(value, ModuleType):
            # Sphinx reads the comment (#:) in the file that the constant is from, perhaps of another module
            root = Path(str(module.__file__)).parent
            files = (file for folder in (root, root.parent) for file in sorted(folder.rglob("*.py")))
            home = next(f for f in files if re.search(rf"^{constant}\b.*=", f.read_text(), re.MULTILINE))
            place = ".".join(home.relative_to(root.parents[1]).with_suffix("").parts)
            options = "" if len(repr(value)) < 200 else "   :no-value:\n"
            options += "" if home.is_relative_to(root) else "   :no-index:\n"
            page += f".. autodata:: {place}.{constant}\n{options}\n"
    return page


def commands_page() -> str:
    """Return the page of ``python -m monai_difom``: what every verb says to ``--help``."""
    (verbs,) = (action for action in make_parser()._actions if action.dest == "verb")
    parts = []
    for verb, child in (verbs.choices or {}).items():
        child.formatter_class = partial(HelpFormatter, width=88)  # the same lines whatever the terminal
        parts.append(heading(f"{verb}: {VERBS[verb][0]}", "-") + literal(child.format_help()))
    return heading("python -m monai_difom") + "".join(parts)


def configurations_page() -> str:
    """Return the page of all configurations: path, and the comment that each opens with."""
    files = [*sorted(ROOT.glob("bundles/*/configs/*.yaml")), *sorted((ROOT / "configs").rglob("*.yaml"))]
    parts = []
    for file in files:
        head = re.match(r"(#.*\n)+", file.read_text(encoding="utf-8"))
        text = re.sub(r"^# ?", "", head[0] if head else "", flags=re.MULTILINE)
        parts.append(heading(file.relative_to(ROOT).as_posix(), "-") + literal(text))
    return heading("Configurations") + "".join(parts)


def write_reference(_app: Sphinx) -> None:
    """Write the pages of the reference beside this file; one that is as it was keeps its time, and is not built again."""
    pages = {name: module_page(name) for name in MODULES}
    pages |= {"commands": commands_page(), "configurations": configurations_page()}
    folder = ROOT / "docs" / "reference"
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        file = folder / f"{name}.rst"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for file in folder.glob("*.rst"):
        if file.stem not in pages:
            file.unlink()


def add_contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """Give the first page a table of contents, of the pages that it links to, with its own headings."""
    if name != root_doc:
        return
    pages = ["reference/commands", "reference/configurations", *(f"reference/{name}" for name in MODULES)]
    tables = []
    for section in source[0].split("\n## ")[1:]:
        found = [link.removesuffix(".md") for link in re.findall(r"\]\(([^)#:]+\.md)\)", section)]
        tables.append(
            (section.partition("\n")[0], [page for page in found if (ROOT / "docs" / f"{page}.md").is_file()])
        )
    for caption, entries in (*tables, ("Commands and classes", pages)):
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(entries) + "\n```\n"


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", add_contents)
    app.connect("env-get-outdated", lambda *_: [root_doc])  # a page may have come or gone
