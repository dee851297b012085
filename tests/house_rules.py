"""How exported code is written, counted by notebook; `python tests/house_rules.py` lowers the list of old exceptions to what is left.

A notebook that is not in `house_exceptions.json` has no exception. The list may only shrink: a count above it fails the test, and a
count below it asks for this command.
"""
import ast, json, re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name('house_exceptions.json')
WIDEST = 120    # columns
LONGEST = 22    # lines of an exported cell, without directives and empty lines
EXPORTED = re.compile(r'^\s*#\|\s*exports?i?\b', re.MULTILINE)
# names that say that something happened, and not what it is
PARTICIPLES = {'told', 'found', 'held', 'made', 'said', 'asked', 'given', 'known', 'wanted', 'taken', 'kept', 'seen', 'done'}


def exported_cells(path: Path) -> list[str]:
    "The sources of a notebook's exported cells, without directives."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    sources = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
    return [re.sub(r'^\s*#\|.*\n?', '', source, flags=re.MULTILINE) for source in sources if EXPORTED.search(source)]

def definitions(tree: ast.Module) -> int:
    "Functions and classes at the top of a cell."
    return sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in tree.body)

def participles(tree: ast.Module) -> int:
    "Functions that name a parameter or a variable by a participle."
    count = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef): continue
        variables = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        count += bool((variables | {argument.arg for argument in node.args.args}) & PARTICIPLES)
    return count

def doubles(tree: ast.Module) -> int:
    "Lines with two assignments: `a, b = x, y`, or `a = x; b = y`."
    assignments = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    pairs = {n.lineno for n in assignments if isinstance(n.targets[0], ast.Tuple) and isinstance(n.value, ast.Tuple)}
    lines = [node.lineno for node in assignments]
    return len(pairs | {line for line in lines if lines.count(line) > 1})

def counted(path: Path) -> dict[str, int]:
    "What breaks the rules in a notebook: rule → how often, those that are kept left out."
    counts = dict(definitions=0, wide=0, long=0, participles=0, doubles=0)
    for source in exported_cells(path):
        tree = ast.parse(source)
        lines = [line for line in source.splitlines() if line.strip()]
        counts['definitions'] += definitions(tree) > 1
        counts['wide'] += sum(len(line) > WIDEST for line in lines)
        counts['long'] += len(lines) > LONGEST
        counts['participles'] += participles(tree)
        counts['doubles'] += doubles(tree)
    return {rule: n for rule, n in counts.items() if n}

def notebooks() -> list[Path]:
    "Notebooks that export."
    paths = [path for path in sorted((ROOT / 'nbs').rglob('*.ipynb')) if not path.name.startswith('run_')]
    return [path for path in paths if not any(part[0] in '._' for part in path.relative_to(ROOT).parts)]

def exceptions() -> dict[str, dict[str, int]]:
    "Notebook → rule → how often it may be broken."
    return json.loads(LIST.read_text(encoding='utf-8')) if LIST.exists() else {}

def written(table: dict[str, dict[str, int]]) -> str:
    "A line a notebook, so that changes of two notebooks never meet."
    lines = [f'{json.dumps(name)}: {json.dumps(counts)}' for name, counts in sorted(table.items())]
    return '{\n' + ',\n'.join(lines) + '\n}\n'

def main():
    old = exceptions()
    table = {}
    for path in notebooks():
        name = path.relative_to(ROOT).as_posix()
        counts = counted(path)
        allowed = old.get(name, {}) if old else counts
        left = {rule: min(n, allowed[rule]) for rule, n in counts.items() if allowed.get(rule)}
        if left: table[name] = left
    LIST.write_text(written(table), encoding='utf-8')

if __name__ == '__main__': main()
