"""The rules of the house: which way imports go, what a notebook may hold, what must not be in the repository."""
import ast, json, re, subprocess
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from house_rules import counted, exceptions

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(p for p in (ROOT / 'nbs').rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(ROOT).parts))
RUNS = [p for p in NOTEBOOKS if p.name.startswith('run_')]
STORIES = [p for p in NOTEBOOKS if p.stem.endswith('_story')]   # to be read from top to bottom; they define what they show
EXPORTING = [p for p in NOTEBOOKS if p not in RUNS + STORIES and p.name != 'index.ipynb']
MODULES = sorted(p for p in (ROOT / 'socialprof').rglob('*.py') if p.name not in ('__init__.py', '_modidx.py'))
# what each room may import of socialprof; every other room is a paper
ALLOWED = {'core': {'core'}, 'learn': {'core', 'learn'}, 'lab': {'core', 'lab'}}
TOOLS = {'fastcore', 'execnb', 'nbdev', 'ghapi'}
LONGEST = 40
EXPORTED = re.compile(r'^\s*#\|\s*exports?i?\b', re.MULTILINE)


def _id(path: Path) -> str: return path.relative_to(ROOT).as_posix()

def each(paths): return pytest.mark.parametrize('path', paths, ids=_id)

def cells(path: Path, kind=None) -> list[dict]:
    "The cells of a notebook, each with its source as one string."
    found = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [{**c, 'source': ''.join(c['source'])} for c in found if kind in (None, c['cell_type'])]

def parse(source: str) -> ast.Module:
    "The code of a cell, without magics and shell lines."
    return ast.parse('\n'.join(line for line in source.splitlines() if not re.match(r'\s*[%!]', line)))

def imports(path: Path, nodes) -> set[tuple[str, ...]]:
    "Full dotted names that a module imports, split at the dots; relative ones are made absolute."
    package, found = path.relative_to(ROOT).with_suffix('').parts[:-1], set()
    for node in nodes:
        if isinstance(node, ast.Import): found |= {tuple(a.name.split('.')) for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            base += tuple((node.module or '').split('.')) if node.module else ()
            found |= {base + (a.name,) for a in node.names}
    return found

def tracked() -> list[Path]:
    "Files that are, or would be, in the repository; outside git, all but the ignored folders."
    command = ['git', '-C', ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    try: names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split('\0')
    except (OSError, subprocess.CalledProcessError):
        skipped = re.compile(r'(^|/)(\.venv|\.git|__pycache__|\.hypothesis|\.\w+_cache|\.ipynb_checkpoints|[^/]+\.egg-info)/'
                             r'|^(data/(raw|cache)|reports|_proc|_docs|build|dist)/')
        names = [n for p in ROOT.rglob('*') if p.is_file() and not skipped.search(n := p.relative_to(ROOT).as_posix())]
    return sorted(p for n in names if n and (p := ROOT / n).is_file())


@each(MODULES)
def test_arrows(path):
    "core <- learn <- papers; lab stands on core and finds papers by name; no paper imports another."
    room = path.relative_to(ROOT / 'socialprof').parts[0]
    tree = ast.parse(path.read_text(encoding='utf-8'))
    allowed = ALLOWED.get(room, {'core', 'learn', 'lab', room})
    ours = {name for name in imports(path, tree.body if room == 'lab' else ast.walk(tree)) if name[0] == 'socialprof' and len(name) > 1}
    rooms = {p.name for p in (ROOT / 'socialprof').iterdir() if p.is_dir()}
    wrong = sorted('.'.join(name) for name in ours if name[1] in rooms - allowed)
    assert not wrong, f'{_id(path)} may import from {sorted(allowed)} only, but imports {wrong}'


def imported_modules(path: Path) -> set[str]:
    "Modules of socialprof that a module imports, inside functions too."
    modules = {'.'.join(p.relative_to(ROOT).with_suffix('').parts) for p in MODULES}
    names = imports(path, ast.walk(ast.parse(path.read_text(encoding='utf-8'))))
    return {prefix for name in names for n in range(len(name)) if (prefix := '.'.join(name[:n + 1])) in modules}

def circle(graph: dict[str, set[str]]) -> list[str]:
    "Modules that import each other, from the first back to the first; empty if there are none."
    try: TopologicalSorter(graph).prepare()
    except CycleError as error: return error.args[1]
    return []

def test_circles_are_noticed():
    assert circle({'a': {'b'}, 'b': {'c'}, 'c': {'a'}, 'd': {'a'}}) and circle({'a': {'a'}})
    assert not circle({'a': {'b', 'c'}, 'b': {'c'}})
    assert imported_modules(ROOT / 'socialprof' / 'core' / 'encode.py') >= {'socialprof.core.engines', 'socialprof.core.store'}

def test_no_circle_of_imports():
    "No module reaches itself by imports, those inside functions included."
    graph = {'.'.join(path.relative_to(ROOT).with_suffix('').parts): imported_modules(path) for path in MODULES}
    assert not (found := circle(graph)), f'these import each other: {" <- ".join(found)}; let one of them stand on the others'


@each(MODULES)
def test_no_private_names_from_other_modules(path):
    "What another module needs has a name without an underscore."
    found = sorted('.'.join(name) for name in imports(path, ast.walk(ast.parse(path.read_text(encoding='utf-8'))))
                   if name[0] == 'socialprof' and name[-1].startswith('_') and name[-1] != '__version__')
    assert not found, f'{_id(path)} imports {found}: give them a public name, `#| exporti` where it is not for users'


@each(MODULES)
def test_no_notebook_tools_at_run_time(path):
    names = {name[0] for name in imports(path, ast.walk(ast.parse(path.read_text(encoding='utf-8'))))}
    assert not names & TOOLS, f'{_id(path)} imports {sorted(names & TOOLS)}, which only developers have'


@each(EXPORTING)
def test_exported_cells_are_short(path):
    lengths = {c['id']: len(re.sub(r'^\s*#\|.*\n?', '', c['source'], flags=re.MULTILINE).splitlines())
               for c in cells(path, 'code') if EXPORTED.search(c['source'])}
    long = {cell: n for cell, n in lengths.items() if n > LONGEST}
    assert not long, f'{_id(path)}: exported cells over {LONGEST} lines (cell id: lines): {long}'


@each(EXPORTING)
def test_exported_code_reads_easily(path):
    "One definition a cell, 22 lines, 120 columns, one assignment a line, nouns for values; old exceptions may only shrink."
    counts, allowed = counted(path), exceptions().get(_id(path), {})
    over = {rule: f'{n}, allowed {allowed.get(rule, 0)}' for rule, n in counts.items() if n > allowed.get(rule, 0)}
    assert not over, f'{_id(path)} breaks the rules of tests/house_rules.py more often than before: {over}'
    less = {rule: n for rule, n in allowed.items() if counts.get(rule, 0) < n}
    assert not less, f'{_id(path)} has fewer exceptions than tests/house_exceptions.json allows: run `python tests/house_rules.py`'


@each(EXPORTING)
def test_name_is_the_module(path):
    "NN_topic.ipynb in a room exports socialprof.room.topic; only what `python -m socialprof` runs has a name of its own."
    told = re.findall(r'^\s*#\|\s*default_exp\s+(\S+)', '\n'.join(c['source'] for c in cells(path, 'code')), re.MULTILINE)
    wanted = '.'.join([*path.relative_to(ROOT / 'nbs').parts[:-1], re.sub(r'^\d+[a-z]?_', '', path.stem)])
    assert told in ([wanted], ['__main__']), f'{_id(path)}: expected one `#| default_exp {wanted}`, found {told}'


@each(STORIES)
def test_stories_are_short(path):
    sources = [c['source'] for c in cells(path, 'code')]
    assert not any(EXPORTED.search(source) or 'default_exp' in source for source in sources), f'{_id(path)}: a story exports nothing'
    lines = [line for source in sources for line in source.splitlines() if line.strip() and not line.lstrip().startswith('#')]
    assert len(lines) < 80, f'{_id(path)}: {len(lines)} lines of code, expected fewer than 80'


@each(NOTEBOOKS)
def test_opening(path):
    "A title and one quoted line come first."
    first = cells(path)[0]
    assert first['cell_type'] == 'markdown' and re.match(r'# \S.*\n+> \S', first['source']), \
        f'{_id(path)}: the first cell must be `# Title` and a `> ` line of about five words'


@each(NOTEBOOKS)
def test_cells_have_ids(path):
    counts = Counter(c.get('id') for c in cells(path))
    wrong = {cell: n for cell, n in counts.items() if not cell or n > 1}
    assert not wrong, f'{_id(path)}: cells without an id, or with the id of another: {wrong}'


@each(NOTEBOOKS)
def test_outputs_are_fit_to_keep(path):
    "No error, no warning, no progress bar and no absolute path is saved."
    for cell in cells(path, 'code'):
        where = f'{_id(path)}, cell {cell["id"]}'
        for output in cell['outputs']:
            assert output['output_type'] != 'error', f'{where}: an error was saved: {output.get("ename")}: {output.get("evalue")}'
            assert output.get('name') != 'stderr', f'{where}: standard error was saved: {"".join(output["text"])[:200]}'
            shown = {kind: ''.join(v) for kind, v in output.get('data', {}).items() if isinstance(v, (str, list))}
            assert not any('widget' in kind for kind in output.get('data', {})), f'{where}: a progress bar or another widget was saved'
            text = ''.join(output.get('text', '')) + '\n'.join(v for kind, v in shown.items() if not kind.startswith('image/'))
            found = re.search(r'(?<![\w.~:/<-])/(?:home|root|work|tmp|var|usr|opt|mnt|srv|Users|private)/[\w.-]+|\b[A-Z]:\\+Users\\', text)
            assert not found, f'{where}: an absolute path was saved: {found[0]}'


@each(RUNS)
def test_runs_have_one_parameters_cell(path):
    tagged = [c for c in cells(path) if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) == 1, f'{_id(path)}: expected exactly one cell tagged `parameters`, found {len(tagged)}'
    assert tagged[0]['cell_type'] == 'code', f'{_id(path)}: the cell tagged `parameters` must be code'
    for node in parse(tagged[0]['source']).body:
        assert isinstance(node, (ast.Assign, ast.AnnAssign)), f'{_id(path)}: `{ast.unparse(node)}` among the parameters is no assignment'
        json.dumps(ast.literal_eval(node.value), allow_nan=False)


@each(RUNS)
def test_runs_only_use(path):
    for cell in cells(path, 'code'):
        where = f'{_id(path)}, cell {cell["id"]}'
        assert not EXPORTED.search(cell['source']) and 'default_exp' not in cell['source'], f'{where}: a run exports nothing'
        defined = [n.name for n in ast.walk(parse(cell['source'])) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
        assert not defined, f'{where}: a run defines nothing longer than a lambda, found {defined}'


# put together so that this file does not hold what it looks for
MACHINE = re.compile('(?<![\\w.~-])/(?:' + '|'.join(['home', 'root', 'work', 'Users']) + ')/')
HOSTS = re.compile('|'.join(re.escape(host.replace('_', '.')) for host in [
    'pypi_org', 'pythonhosted_org', 'registry_npmjs_org', 'deb_debian_org', 'conda_anaconda_org', 'static_crates_io', 'proxy_golang_org']))


def _lines(pattern) -> list[str]:
    found = []
    for path in tracked():
        try: text = path.read_text(encoding='utf-8')
        except UnicodeDecodeError: continue
        found += [f'{_id(path)}:{n}: {m[0]}' for n, line in enumerate(text.splitlines(), 1) if (m := pattern.search(line))]
    return found

def test_no_path_of_one_machine():
    assert not (found := _lines(MACHINE)), 'paths that other machines do not have:\n' + '\n'.join(found)

def test_no_package_host():
    assert not (found := _lines(HOSTS)), 'hosts of package registries:\n' + '\n'.join(found)

def test_top_level():
    "The house as its plan has it; what git ignores is not looked at."
    wanted = {'nbs', 'socialprof', 'settings.ini', 'setup.py', 'MANIFEST.in', 'data', 'reports', 'README.md', 'Makefile', 'pyproject.toml', 'LICENSE',
              'CONTRIBUTING.md', 'CITATION.cff', '.gitignore', '.ci', 'docs', 'tests'}
    extra = {p.relative_to(ROOT).parts[0] for p in tracked()} - wanted
    assert not extra, f'not part of the top level: {sorted(extra)}'
