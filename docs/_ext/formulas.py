"""Formulas as HTML, made while the documentation is built: no script and no network to read them.

KaTeX (``docs/_katex``, version 0.19.1 as published on npm; its style sheet names the woff2 fonts
alone) runs in a small JavaScript engine of its own. A formula that it does not know is a warning,
which the build takes for an error.
"""

from __future__ import annotations

import html
import json
import re
from functools import cache
from pathlib import Path

import quickjs
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

KATEX = Path(__file__).resolve().parents[1] / "_katex"
TAG = re.compile(r"\\tag\{(\w+)\}")
log = logging.getLogger(__name__)


@cache
def _engine() -> quickjs.Context:
    engine = quickjs.Context()
    engine.eval((KATEX / "katex.min.js").read_text(encoding="utf-8"))
    return engine


@cache
def render(tex: str, display: bool) -> str:
    """Return a formula as HTML for the eye with MathML for screen readers, without its TeX."""
    options = {"displayMode": display, "strict": "error", "output": "htmlAndMathml"}
    call = f"katex.renderToString({json.dumps(tex)}, {json.dumps(options)})"
    made = json.loads(_engine().eval(f"JSON.stringify({call})"))
    return re.sub(r"<annotation .*?</annotation>", "", made, flags=re.S)


def _checked(self: HTML5Translator, node: nodes.Element, display: bool) -> str:
    try:
        return render(node.astext().strip(), display)
    except quickjs.JSException as error:
        log.warning("formula: %s", error, location=node)
        return html.escape(node.astext())


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_checked(self, node, display=False))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    tag = TAG.search(node.astext())
    place = f' id="eq-{tag[1]}"' if tag else ""
    self.body.append(f'<div class="formula"{place}>{_checked(self, node, display=True)}</div>\n')
    raise nodes.SkipNode


def link_equations(app: Sphinx, tree: nodes.document, name: str) -> None:
    """Make ``(19)`` in the prose of a page with an equation of that number a link to it."""
    numbers = {
        tag for block in tree.findall(nodes.math_block) for tag in TAG.findall(block.astext())
    }
    if not numbers:
        return
    for text in list(tree.findall(nodes.Text)):
        if not isinstance(text.parent, (nodes.paragraph, nodes.emphasis)):
            continue
        parts = re.split(r"\((\d+)\)", text.astext())
        made: list[nodes.Node] = []
        for k, part in enumerate(parts):
            if k % 2 and part in numbers:
                made.append(nodes.reference("", f"({part})", internal=True, refuri=f"#eq-{part}"))
            else:
                made.append(nodes.Text(f"({part})" if k % 2 else part))
        if len(made) > 1:
            text.parent.replace(text, made)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    app.connect("doctree-resolved", link_equations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
