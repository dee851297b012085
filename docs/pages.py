"""A notebook as a page that Sphinx can show: what nbdev makes of it for quarto, in plain markdown, with its exported cells folded."""
import ast, os, re
from importlib import import_module
from itertools import groupby
from pathlib import Path

import yaml
from execnb.nbio import mk_cell, read_nb
from nbdev.config import get_config
from nbdev.processors import FilterDefaults, exec_show_docs, rm_export

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / 'nbs'
ROOMS = ['core', 'learn', 'lab']
BARE = ('This page shows the code without its outputs. `make reports` runs it;\n'
        'the pages with tables and figures are then below `reports/quick/`.')


def fold_exports(cell):
    "An exported cell stays, folded; hidden ones and `default_exp` go."
    directives = set(cell.directives_ or ())
    if directives & {'hide', 'default_exp'}: del cell['source']
    elif directives & {'export', 'exporti'}: cell.metadata.update(tags=['hide-input'], mystnb=prompt(cell.parsed_()))

def prompt(tree: list) -> dict[str, str]:
    "What the folded cell is called."
    definitions = [node.name for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    targets = [target for node in tree if isinstance(node, ast.Assign) for target in node.targets]
    names = definitions or [target.id for target in targets if isinstance(target, ast.Name)]
    imports = all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree)
    text = 'Imports' if imports else 'Source' if not names else f'Source: {", ".join(names[:4])}{" …" * (len(names) > 4)}'
    return dict(code_prompt_show=text, code_prompt_hide=text)

def exported_module(notebook) -> str | None:
    "The module that a notebook is exported to, by its `default_exp`."
    source = '\n'.join(''.join(cell.source) for cell in notebook.cells if cell.cell_type == 'code')
    name = re.search(r'^#\|\s*default_exp\s+(\S+)', source, re.MULTILINE)
    return f'{get_config().lib_name}.{name[1]}' if name else None

class document(exec_show_docs):
    "Run `show_doc` on what the notebook's module exports, and nothing else of the notebook."
    def begin(self):
        super().begin()
        module = exported_module(self.nb)
        if module: self.k.push(vars(import_module(module)), interactive=False)

    def __call__(self, cell):
        if cell.cell_type == 'code' and 'show_doc(' in cell.source: super().__call__(cell)

class Pages(FilterDefaults):
    "What nbdev does to a page, but for exported cells and for examples."
    def base_procs(self):
        ours = {rm_export: fold_exports, exec_show_docs: document}
        return [ours.get(proc, proc) for proc in super().base_procs()]


def notebooks() -> list[Path]:
    "All notebooks, below nbs, room by room."
    paths = [path.relative_to(NBS) for path in NBS.rglob('*.ipynb')]
    shown = [path for path in paths if not any(part[0] in '._' for part in path.parts)]
    place = {room: n for n, room in enumerate(ROOMS)}
    return sorted(shown, key=lambda path: (place.get(path.parts[0], len(ROOMS)), path.parts[:-1], path.name))

def plain(text: str) -> str:
    "Quarto's markdown as plain markdown: no rules, no attributes."
    text = re.sub(r'^\[source\]\(.*?\){.*?}$\n*', '', text, flags=re.MULTILINE)
    text = re.sub(r'\A---\n+', '', text)
    text = re.sub(r'^:::.*$', '', text, flags=re.MULTILINE)
    return re.sub(r'(\]\([^)\s]*\)){[^}\n]*}', r'\1', text)

def label(module: str, name: str) -> str:
    "What links call the heading of a function or class; capitals do not count in it, and so must not tell two apart."
    return f'{module}.{"class-" if name[0].isupper() else ""}{name}'

def documentation(text: str, module: str) -> str:
    "What `show_doc` wrote: headed by the name, with a label for links; a class is called a class."
    def heading(match): return f'({label(module, match[1])})=\n### `{match[1]}`'
    text = re.sub(r'^### (\w+)$', heading, plain(text), flags=re.MULTILINE)
    return re.sub(r'^def (?=[A-Z])', 'class ', text, flags=re.MULTILINE)

def _markdown(cell, source):
    cell.cell_type = 'markdown'
    cell.metadata = {}
    cell.source = source
    for key in ('outputs', 'execution_count', 'directives_'): cell.pop(key, None)
    return cell

def _title(cell):
    "The front matter as the heading that it came from."
    front = yaml.safe_load(''.join(cell.source).strip().strip('-'))
    description = front.get('description')
    return _markdown(cell, f'# {front["title"]}' + (f'\n\n> {description}' if description else ''))

def apart(notebook):
    "nbdev makes front matter of the first cell and drops what follows title and `>` line in it: put that in a cell of its own."
    cell = notebook.cells[0]
    opening = re.match(r'# [^\n]*\n+(?:>[^\n]*\n+)?(?=\S)', cell.source)
    if cell.cell_type == 'markdown' and opening:
        rest = cell.source[opening.end():]
        cell.source = opening[0]
        notebook.cells.insert(1, mk_cell(rest, 'markdown'))
    return notebook

def _simple(cell, module: str | None):
    "One cell without quarto's marks."
    source = ''.join(cell.source)
    if cell.cell_type == 'raw' and 'title:' in source: return _title(cell)
    if cell.cell_type == 'markdown': return _markdown(cell, plain(source))
    if 'show_doc(' in source and 'output: asis' in source:
        shown = [output.data['text/markdown'] for output in cell.outputs if 'text/markdown' in output.get('data', {})]
        return _markdown(cell, '\n\n'.join(documentation(''.join(text), module) for text in shown))
    lines = source.splitlines(True)
    options = [line for line in lines if line.lstrip().startswith('#|')]
    cell.source = ''.join(line for line in lines if line not in options)
    for option, tag in (('echo: false', 'remove-input'), ('include: false', 'remove-cell'), ('output: false', 'remove-output')):
        if any(option in line for line in options): cell.metadata['tags'] = [*cell.metadata.get('tags', []), tag]
    return cell

def _kind(cell) -> str:
    if 'hide-input' in cell.metadata.get('tags', []): return 'source'
    return 'doc' if cell.cell_type == 'code' and 'show_doc(' in ''.join(cell.source) else 'other'

def in_reading_order(cells) -> list:
    "nbdev puts what documents a cell behind it, last function first; here: in order, then the source."
    groups = [(kind, list(group)) for kind, group in groupby(cells, _kind)]
    ordered = []
    waiting = []
    for kind, group in groups:
        if kind == 'source':
            ordered += waiting + group[:-1]
            waiting = group[-1:]
        else:
            ordered += (group[::-1] if kind == 'doc' else []) + waiting + (group if kind == 'other' else [])
            waiting = []
    return ordered + waiting

def explained(cells: list) -> list:
    "A run whose outputs are not kept says, above its code, where they are."
    code = [n for n, cell in enumerate(cells) if cell.cell_type == 'code']
    if any(cells[n].get('outputs') for n in code): return cells
    return [*cells[:code[0]], mk_cell(f'```{{note}}\n{BARE}\n```', 'markdown'), *cells[code[0]:]]

def page(name: Path):
    "The notebook that Sphinx shows; its links to symbols are still nbdev's."
    os.environ['IN_TEST'] = '1'        # as nbdev itself does here: an nbdev_export() in a notebook does nothing
    notebook = apart(read_nb(NBS / name))
    module = exported_module(notebook)
    Pages()(notebook)
    cells = [cell for cell in in_reading_order(notebook.cells) if ''.join(cell.get('source', '')).strip()]
    notebook.cells = [_simple(cell, module) for cell in cells if 'AUTOGENERATED' not in ''.join(cell.source)]
    if name.name.startswith('run_'): notebook.cells = explained(notebook.cells)
    notebook.metadata.pop('widgets', None)
    return notebook


def labels(pages: dict) -> set[str]:
    "What has a heading of its own on some page."
    texts = [cell.source for notebook in pages.values() for cell in notebook.cells if cell.cell_type == 'markdown']
    return {name for text in texts for name in re.findall(r'^\((\w[\w.-]+)\)=$', text, re.MULTILINE)}

def reachable(name: Path) -> dict[str, str]:
    "What a page means by a name: name → label, of all that its module defines or imports."
    module = exported_module(read_nb(NBS / name))
    values = vars(import_module(module)) if module else {}
    package = f'{get_config().lib_name}.'
    homes = {key: getattr(value, '__module__', None) for key, value in values.items()}
    return {key: label(home, key) for key, home in homes.items() if isinstance(home, str) and home.startswith(package)}

def link_symbols(pages: dict):
    """nbdev's links, which lead to the site that it would make, as links to the headings of this one.

    nbdev links every word that is a symbol somewhere, so that the parameter `folder` would lead to a function of another room:
    only what a page's module defines or imports stays a link.
    """
    config = get_config()
    site = re.escape(config.doc_host + config.doc_baseurl)
    link = re.compile(rf'\[(`(\w+)[^`\n]*`)\]\({site}/[^)\s]*\)')
    known = labels(pages)
    for name, notebook in pages.items():
        names = reachable(name)
        # the name of a method begins with that of its class, which has the heading
        def local(match, names=names):
            target = names.get(match[2])
            return f'[{match[1]}](#{target})' if target in known else match[1]
        for cell in notebook.cells:
            if cell.cell_type == 'markdown': cell.source = link.sub(local, cell.source)
