"""How Sphinx turns the pages that build.py prepares into the site. Nothing on it asks another host for anything."""
import html, re
from configparser import ConfigParser
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

settings = ConfigParser(delimiters=['='])
settings.read(Path(__file__).resolve().parents[1] / 'settings.ini', encoding='utf-8')
settings = settings['DEFAULT']

project = html_title = settings['title']
copyright, author, version = settings['copyright'], settings['author'], settings['version']
extensions = ['myst_nb']
exclude_patterns = ['_build']

# the notebooks are shown as they were saved
nb_execution_mode = 'off'
nb_merge_streams = True
nb_ipywidgets_js = {}
nitpicky = True
myst_enable_extensions = ['dollarmath', 'amsmath', 'html_image', 'deflist']
myst_heading_anchors = 4
suppress_warnings = ['myst.header', 'mystnb.unknown_mime_type']

html_theme = 'sphinx_book_theme'
html_theme_options = {'use_download_button': False, 'use_fullscreen_button': False, 'home_page_in_toc': True, 'show_toc_level': 2,
                      'navbar_persistent': []}
html_static_path, html_css_files = ['_static'], ['style.css']
html_copy_source = html_show_sphinx = False
html_permalinks_icon = '#'
html_math_renderer = 'mathml'


def _math(self, node, as_block):
    "Formulas as MathML, which browsers draw themselves; one that cannot be converted stays as it was written."
    tex = node.astext()
    for macro, known in {r'\\operatorname\*?{': r'\\mathrm{', r'\\dots\b': r'\\ldots', r'\\[lr]Vert\b': r'\\|'}.items(): tex = re.sub(macro, known, tex)
    try: self.body.append(f'<div class="math">{tex2mathml(tex, as_block=True)}</div>' if as_block else tex2mathml(tex))
    except Exception as error:
        logging.getLogger(__name__).warning('formula not converted: %s: %s', error, tex, location=node)
        self.body.append(f'<code>{html.escape(tex)}</code>')
    raise nodes.SkipNode

def setup(app):
    app.add_html_math_renderer('mathml', (lambda self, node: _math(self, node, False), None), (lambda self, node: _math(self, node, True), None))
