"""What makes a result stale: a changed line of a module that its run imports, or a changed file that it reads; and nothing else."""
import ast, json, os, re, shutil, subprocess, sys
from modulefinder import ModuleFinder
from pathlib import Path

import pandas as pd
import pytest

from socialprof.core.config import cache_dir, read_json, write_json
from socialprof.hashtag import data as hashtag
from socialprof.influencer import data as influencer
from socialprof.lab.batch import planned
from socialprof.lab.closure import KEEPING, PRESENTING, imported
from socialprof.lab.protocol import Fitted
from socialprof.lab.results import is_current, load_results, own_parameters, paper_of
from socialprof.lab.run import Run
from socialprof.retweet import data as retweet, world
from socialprof.violence import data as violence, events

ROOT = Path(__file__).resolve().parents[1]
ALONE = {'run_benchmarks', 'run_worlds'}   # they belong to no paper and write no result
RUNS = sorted(p.relative_to(ROOT / 'nbs').with_suffix('').as_posix() for p in (ROOT / 'nbs').glob('*/run_*.ipynb') if p.stem not in ALONE)
# draw, and also hand a run what goes into its result
SHOWING = {f'socialprof.{name}' for name in ('lab.sections', 'lab.summary', 'hashtag.pages', 'engagement.likes_page')}
# one key a line, for every run with its own defaults
KEYS = '''
import json, sys
from socialprof.lab.results import checked, notebook_path, own_parameters, parameters_of, paper_of, run_key
def key(name):
    path = notebook_path(name)
    paper = paper_of(name, {p.name: p.default for p in own_parameters(path).values()})
    return run_key(name, checked({}, parameters_of(path, paper), name), '')
def keys(): return {name: key(name) for name in RUNS}
RUNS = json.loads(sys.argv[1])
for line in sys.stdin:
    print(json.dumps(keys()), flush=True)
'''


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    "A copy of what a run needs of the clone."
    folder = tmp_path_factory.mktemp('clone')
    for name in ('nbs', 'socialprof'): shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('.*', '__pycache__'))
    shutil.copy(ROOT / 'settings.ini', folder)
    return folder


@pytest.fixture(scope='module')
def keys(clone):
    "A function that gives the keys of all runs in the copy, as its files are at that moment."
    env = {**os.environ, 'PYTHONPATH': str(clone), 'SOCIALPROF_ROOT': str(clone), 'SOCIALPROF_CACHE': str(cache_dir())}
    process = subprocess.Popen([sys.executable, '-c', KEYS, json.dumps(RUNS)], cwd=clone, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    def ask() -> dict[str, str]:
        process.stdin.write('\n')
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    yield ask
    process.stdin.close()
    process.wait()


def found_by_python(clone: Path, run: str) -> set[str]:
    """The modules that a run imports, by Python's own finder, which follows the bytecode; presenting ones are as if they were not there.

    What these modules ask for by the name of the run's paper is found in their text, and imported by the next look.
    """
    book = clone / 'nbs' / f'{run}.ipynb'
    defaults = {parameter.name: parameter.default for parameter in own_parameters(book).values()}
    cells = json.loads(book.read_text(encoding='utf-8'))['cells']
    code = '\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    script = clone / 'script.py'
    asked, before = set(), None
    while asked != before:
        before = set(asked)
        lines = [f'import socialprof.{paper_of(run, defaults)}.{name}' for name in sorted(asked)]
        script.write_text('\n'.join([code, *lines]), encoding='utf-8')
        finder = ModuleFinder(path=[str(clone)], excludes=sorted(PRESENTING))
        finder.run_script(str(script))
        found = {name: module for name, module in finder.modules.items() if name.split('.')[0] == 'socialprof'}
        texts = [Path(module.__file__).read_text(encoding='utf-8') for module in found.values()]
        asked |= set(re.findall(r"paper_module\([^()]*, '(\w+)'\)", '\n'.join([code, *texts]))) - {KEEPING.removeprefix('*.')}
    return set(found)

def modules_in(clone: Path) -> dict[str, Path]:
    "Name → file of every module of the copy."
    files = sorted((clone / 'socialprof').glob('*/*.py'))
    return {'.'.join(path.relative_to(clone).with_suffix('').parts): path for path in files if path.name != '__init__.py'}

def changed(path: Path, before: str, after: str):
    "Write a file with a later time, as an editor would."
    assert before != after
    time = path.stat().st_mtime_ns
    path.write_text(after, encoding='utf-8')
    os.utime(path, ns=(time + 10**9, time + 10**9))


def test_a_comment_leaves_everything_current(clone, keys):
    before = keys()
    path = clone / 'socialprof' / 'core' / 'text.py'
    code = path.read_text(encoding='utf-8')
    words = code.replace('"""', '"""Said anew: ', 1).replace('\ndef ', '\n# a remark\n\ndef ')
    changed(path, code, words + '\n# the end\n')
    assert keys() == before
    changed(path, words, code)


def test_a_line_makes_stale_what_imports_it(clone, keys):
    "Every module in turn: the runs whose key changes are those that import it by Python's own finder."
    reached = {run: found_by_python(clone, run) for run in RUNS}
    before = keys()
    wrong = []
    for name, path in modules_in(clone).items():
        code = path.read_text(encoding='utf-8')
        changed(path, code, code + '\n_another_line = 1\n')
        after = keys()
        stale = {run for run in RUNS if after[run] != before[run]}
        expected = {run for run in RUNS if name in reached[run]}
        if stale != expected: wrong.append(f'{name}: stale {sorted(stale - expected)}, expected but current {sorted(expected - stale)}')
        changed(path, '', code)
    assert not wrong, '\n'.join(wrong)
    assert keys() == before
    assert 0 < sum('socialprof.learn.metric' in names for names in reached.values()) < len(RUNS)   # the test sees both sides


def test_a_notebook_makes_stale_itself_alone(clone, keys):
    before = keys()
    path = clone / 'nbs' / 'influencer' / 'run_reshape.ipynb'
    book = path.read_text(encoding='utf-8')
    changed(path, book, book.replace('"source": [\n    "', '"source": [\n    "# a remark\\n",\n    "', 1))
    assert keys() == before
    changed(path, '', book.replace('run.finish(', '1 and run.finish('))
    assert {run for run, key in keys().items() if key != before[run]} == {'influencer/run_reshape'}
    changed(path, '', book)


def test_presenting_modules_give_no_figures():
    "What a presenting module is left out for: it writes no result, and no module that counts imports anything of it."
    for path in sorted((ROOT / 'socialprof').glob('*/*.py')):
        name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        if name in PRESENTING | SHOWING | {'socialprof.lab.benchmarks', 'socialprof.__main__'}: continue
        names = imported(ast.parse(path.read_text(encoding='utf-8')), name.rpartition('.')[0])
        assert not PRESENTING & set(names), name


def test_modules_asked_for_by_name_are_spelt_out():
    "`paper_module(paper, 'data')` is followed by that name; a name that is computed would bring all modules of a paper."
    for path in sorted((ROOT / 'socialprof').glob('*/*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split('.')[-1] != 'paper_module': continue
            assert isinstance(node.args[1], ast.Constant), f'{path.name}:{node.lineno}: spell the name out'


def a_source(paper: str, folder: Path) -> tuple[str, Path, list]:
    "A small real source: the notebook and task that read it, a file that the task reads, and ways to add files that it does not."
    if paper == 'influencer':
        influencer.write(influencer.simulate('profiling'), folder / 'profiling', 'profiling')
        more = [lambda: influencer.write(influencer.simulate('intent'), folder / 'intent', 'intent')]
        return 'influencer/run_baselines', 'profiling', folder / 'profiling' / 'train_text.json', more
    if paper == 'violence':
        violence.write(events.simulate('six', rows=60), folder / 'six', 'six')
        more = [lambda: violence.write(events.simulate('all', rows=60), folder / 'all', 'all')]
        return 'violence/run_classical', 'six', next(path for path in (folder / 'six').iterdir()), more
    if paper == 'hashtag':
        hashtag.write(hashtag.simulate('irony', rows=90), folder / 'irony', 'irony')
        more = [lambda: hashtag.write(hashtag.simulate('emotion', rows=90), folder / 'emotion', 'emotion')]
        return 'hashtag/run_context', 'irony', folder / 'irony' / 'train.json', more
    retweet.write(world.simulate(rows=300), folder)
    more = [lambda: retweet.write(world.simulate(rows=300, seed=1), folder, part='val')]
    return 'retweet/run_methods', 'retweet', folder / 'training.tsv', more


@pytest.mark.parametrize('paper', ['influencer', 'violence', 'retweet', 'hashtag'])
def test_only_files_that_are_read_count(paper, tmp_path):
    folder = tmp_path / 'source'
    notebook, task, file, additions = a_source(paper, folder)
    def now(): return planned(notebook, dict(source=str(folder), task=task, reports=str(tmp_path / 'reports')))
    before = now()
    write_json(before.path, dict(key=before.key))
    before.path.with_suffix('.ipynb').touch()
    assert now().done
    for add in (lambda: (folder / 'notes.txt').write_text('bought in May'), *additions):
        add()
        assert now().done and now().path == before.path, now().why
    content = file.read_bytes()
    file.write_bytes(content.replace(b'a', b'b', 1))
    assert not now().done and now().path == before.path and 'changed' in now().why
    file.write_bytes(content)
    if paper != 'retweet': assert now().done    # there the time of a file counts, too


def test_two_states_of_a_source_never_stand_together(tmp_path):
    "Of two runs of a task that read other files, the later one counts."
    folder = tmp_path / 'source'
    influencer.write(influencer.simulate('profiling'), folder, 'profiling')
    def finished(fold: int) -> tuple[dict, Path]:
        run = Run('influencer/run_baselines', dict(source=str(folder), task='profiling', reports=str(tmp_path / 'reports'), fold=fold))
        table = pd.DataFrame(dict(method='coin', split='cv', fold=fold, seed=0, unit=list('ab'), y=list('nm'), predicted='n'))
        return run.finish(Fitted(table)), run.path
    def statuses(): return {result['parameters']['fold']: result['status'] for result in load_results(tmp_path / 'reports')}
    _, first = finished(0)
    finished(1)
    assert statuses() == {0: 'done', 1: 'done'}
    influencer.write(influencer.simulate('profiling', seed=1), folder, 'profiling')
    write_json(first, read_json(first) | dict(finished='2020-01-01T00:00:00+00:00'))
    finished(1)
    assert statuses() == {0: 'stale', 1: 'done'} and is_current(first, read_json(first)['key'])[0]
