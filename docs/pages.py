"""A notebook as a page that Sphinx can show: what nbdev makes of it for quarto, in plain markdown, with its exported cells folded."""
import ast, os, re
from itertools import groupby
from pathlib import Path

import yaml
from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev.config import get_config
from nbdev.processors import FilterDefaults, exec_show_docs, rm_export

ROOT = Path(__file__).resolve().parents[1]
NBS, PAGES = ROOT / 'nbs', ROOT / '_proc'
ROOMS = ['core', 'learn', 'lab']


def fold_exports(cell):
    "An exported cell stays, folded; hidden ones and `default_exp` go."
    directives = set(cell.directives_ or ())
    if directives & {'hide', 'default_exp'}: del cell['source']
    elif directives & {'export', 'exporti'}: cell.metadata['tags'] = ['hide-input']

class document(exec_show_docs):
    "Run what is documented and what that needs, and no examples: exported cells, and those that only import."
    def __call__(self, cell):
        only_imports = cell.cell_type == 'code' and all(isinstance(t, (ast.Import, ast.ImportFrom)) for t in cell.parsed_() or [])
        if only_imports or set(cell.directives_ or ()) & {'export', 'exports', 'exporti', 'exec_doc'} or 'show_doc(' in cell.source:
            super().__call__(cell)

class Pages(FilterDefaults):
    "What nbdev does to a page, but for exported cells and for examples."
    def base_procs(self):
        ours = {rm_export: fold_exports, exec_show_docs: document}
        return [ours.get(proc, proc) for proc in super().base_procs()]


def notebooks() -> list[Path]:
    "All notebooks, below nbs, room by room."
    found = [p.relative_to(NBS) for p in NBS.rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(NBS).parts)]
    return sorted(found, key=lambda p: (ROOMS.index(p.parts[0]) if p.parts[0] in ROOMS else len(ROOMS), p.parts[:-1], p.name))

def html_names() -> dict[str, str]:
    "The name that nbdev gives a page -> the notebook it is here: core/config.html -> core/00_config.ipynb."
    return {p.with_name(re.sub(r'^\d+[a-zA-Z0-9]*_', '', p.name.lower())).with_suffix('.html').as_posix(): p.as_posix() for p in notebooks()}

def _link(match, names=None) -> str:
    names = html_names() if names is None else names
    return f'](/{names[match[1]]}{match[2] or ""})' if match[1] in names else match[0]

def plain(text: str) -> str:
    "Quarto's markdown as plain markdown: no rules, no attributes, links that stay on this site."
    config = get_config()
    base = re.escape(f'{config.doc_host}{config.doc_baseurl}/')
    text = re.sub(r'^\[source\]\(.*?\){.*?}$\n*', '', text, flags=re.MULTILINE)
    text = re.sub(r'\A---\n+', '', text)
    text = re.sub(r'^### (\w[\w.]*)$', r'### `\1`', text, flags=re.MULTILINE)
    text = re.sub(r'^:::.*$', '', text, flags=re.MULTILINE)
    text = re.sub(r'(\]\([^)\s]*\)){[^}\n]*}', r'\1', text)
    return re.sub(rf'\]\({base}([\w/.-]+?\.html)(#[\w.-]+)?\)', _link, text)

def _markdown(cell, source):
    cell.cell_type, cell.metadata, cell.source = 'markdown', {}, source
    for key in ('outputs', 'execution_count', 'directives_'): cell.pop(key, None)
    return cell

def _title(cell):
    "The front matter as the heading that it came from."
    found = yaml.safe_load(''.join(cell.source).strip().strip('-'))
    return _markdown(cell, f'# {found["title"]}' + (f'\n\n> {found["description"]}' if found.get('description') else ''))

def apart(notebook):
    "nbdev makes front matter of the first cell and drops what follows title and `>` line in it: put that in a cell of its own."
    cell = notebook.cells[0]
    if cell.cell_type == 'markdown' and (found := re.match(r'# [^\n]*\n+(?:>[^\n]*\n+)?(?=\S)', cell.source)):
        rest = cell.source[found.end():]
        cell.source = found[0]
        notebook.cells.insert(1, mk_cell(rest, 'markdown'))
    return notebook

def _simple(cell):
    "One cell without quarto's marks."
    source = ''.join(cell.source)
    if cell.cell_type == 'raw' and 'title:' in source: return _title(cell)
    if cell.cell_type == 'markdown': return _markdown(cell, plain(source))
    if 'show_doc(' in source and 'output: asis' in source:
        shown = [o.data['text/markdown'] for o in cell.outputs if 'text/markdown' in o.get('data', {})]
        return _markdown(cell, '\n\n'.join(plain(''.join(text)) for text in shown))
    lines = source.splitlines(True)
    options = [line for line in lines if line.lstrip().startswith('#|')]
    cell.source = ''.join(line for line in lines if line not in options)
    for wanted, tag in (('echo: false', 'remove-input'), ('include: false', 'remove-cell'), ('output: false', 'remove-output')):
        if any(wanted in line for line in options): cell.metadata['tags'] = [*cell.metadata.get('tags', []), tag]
    return cell

def _kind(cell) -> str:
    if 'hide-input' in cell.metadata.get('tags', []): return 'source'
    return 'doc' if cell.cell_type == 'code' and 'show_doc(' in ''.join(cell.source) else 'other'

def in_reading_order(cells) -> list:
    "nbdev puts what documents a cell behind it, last function first; here: in order, then the source."
    groups = [(kind, list(group)) for kind, group in groupby(cells, _kind)]
    done, waiting = [], []
    for kind, group in groups:
        if kind == 'source':
            done += waiting
            done, waiting = done + group[:-1], group[-1:]
        elif kind == 'doc': done, waiting = done + group[::-1] + waiting, []
        else: done, waiting = done + waiting + group, []
    return done + waiting

def page(name: Path) -> Path:
    "Write one page: a notebook that Sphinx can show."
    os.environ['IN_TEST'] = '1'        # as nbdev itself does here: an nbdev_export() in a notebook does nothing
    os.chdir(ROOT)
    notebook = apart(read_nb(NBS / name))
    Pages()(notebook)
    cells = [c for c in in_reading_order(notebook.cells) if ''.join(c.get('source', '')).strip() and 'AUTOGENERATED' not in ''.join(c.source)]
    notebook.cells = [_simple(c) for c in cells]
    notebook.metadata.pop('widgets', None)
    (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
    write_nb(notebook, PAGES / name)
    return name
