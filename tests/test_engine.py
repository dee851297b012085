"""The fork engine: what papermill's own engine gives, sooner; and a child that dies harms nobody."""
import json, os, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from traitlets.config import Config

from socialprof.lab import engine
from socialprof.lab.engine import engine_named

pytestmark = pytest.mark.skipif(not hasattr(os, 'pidfd_open'), reason='this system cannot fork safely')


@pytest.fixture(scope='module', autouse=True)
def few_imports():
    "A parent that imports little, ended with the tests."
    before = os.environ.get('SOCIALPROF_FORK_IMPORTS')
    os.environ['SOCIALPROF_FORK_IMPORTS'] = 'numpy, ipykernel.kernelapp, ipykernel.ipkernel'
    engine._shared.clear()
    yield
    engine._shared.pop('parent').close()
    if before is None: del os.environ['SOCIALPROF_FORK_IMPORTS']
    else: os.environ['SOCIALPROF_FORK_IMPORTS'] = before


@pytest.fixture
def run(tmp_path):
    "Run cells by an engine; the executed notebook."
    def execute(*cells, name='socialprof', **options):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in ('n = 1', *cells)],
                                        metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')))
        book.cells[0].metadata['tags'] = ['parameters']
        nbformat.write(book, tmp_path / 'in.ipynb')
        return papermill.execute_notebook(tmp_path / 'in.ipynb', tmp_path / 'out.ipynb', engine_name=engine_named(name), kernel_name='python3',
                                          progress_bar=False, **options)
    return execute


@pytest.mark.parametrize('way, cause', [('os._exit(3)', 'exit code 3'), ('os.kill(os.getpid(), signal.SIGSEGV)', 'SIGSEGV'),
                                        ('os.kill(os.getpid(), signal.SIGKILL)', 'SIGKILL')])
def test_a_child_that_dies_is_told_with_its_cause(run, tmp_path, way, cause):
    with pytest.raises(Exception, match=cause): run("print('before')", 'import os, signal', way)
    kept = nbformat.read(tmp_path / 'out.ipynb', 4)
    assert any('before' in output.get('text', '') for cell in kept.cells for output in cell.get('outputs', []))
    assert run('n + 1', parameters=dict(n=4)).cells[-1].outputs[0]['data']['text/plain'] == '5'


def test_a_kernel_that_cannot_start_is_told_with_its_cause(run):
    "And at once: nobody waits for an answer that cannot come."
    wrong = Config(NotebookClient=dict(extra_arguments=['--IPKernelApp.transport=pigeon']))
    with pytest.raises(RuntimeError, match='did not start: its process left with exit code 1'): run('1', config=wrong)
    assert run('n').cells[-1].outputs[0]['data']['text/plain'] == '1'


def test_the_end_of_a_kernel_runs_what_it_owes(run, tmp_path, monkeypatch):
    "Exit functions of a notebook are called, and the kernel leaves by itself; ten in a row, as one in ten once had to be ended."
    made, kind = [], engine.Forked
    monkeypatch.setattr(engine, 'Forked', lambda pipe: made.append(kind(pipe)) or made[-1])
    owed = f"import atexit, pathlib\natexit.register(lambda: pathlib.Path({str(tmp_path / 'owed')!r}).open('a').write('x'))\nprint('much ' * 20000)"
    for _ in range(10): run(owed)
    assert (tmp_path / 'owed').read_text() == 'x' * 10 and [child.returncode for child in made] == [0] * 10


def test_errors_are_those_of_the_ordinary_engine(run, tmp_path):
    told = []
    for name in ('papermill', 'socialprof'):
        with pytest.raises(papermill.PapermillExecutionError, match='ZeroDivisionError') as raised: run('#| hide\n1 / 0', "'never'", name=name)
        book = nbformat.read(tmp_path / 'out.ipynb', 4)
        told.append((raised.value.evalue, raised.value.exec_count, [cell.metadata.papermill.status for cell in book.cells if 'papermill' in cell.metadata]))
    assert told[0] == told[1]


def test_rich_output_and_metadata(run):
    cells = ("from IPython.display import HTML, display\nimport sys\nh = display(HTML('<b>1</b>'), display_id=True)\n"
             "print('out'); print('err', file=sys.stderr)",
             "h.update(HTML('<b>2</b>'))", "import pandas as pd\npd.DataFrame(dict(a=[n]))")
    plain, forked = (run(*cells, name=name, parameters=dict(n=7)) for name in ('papermill', 'socialprof'))
    assert [cell.get('outputs') for cell in plain.cells] == [cell.get('outputs') for cell in forked.cells]
    assert all(cell.metadata.papermill['duration'] is not None for cell in forked.cells)
    assert forked.metadata.papermill['peak_memory_mb'] > 20 and forked.metadata.papermill['exception'] is None


def test_a_cell_that_takes_too_long_and_one_that_asks(run):
    with pytest.raises(Exception, match=r'(?i)timeout|timed out'): run('import time\ntime.sleep(60)', execution_timeout=2)
    with pytest.raises(papermill.PapermillExecutionError, match='StdinNotImplementedError'): run("input('who?')")


def test_children_share_no_random_numbers_and_no_environment(run, monkeypatch):
    monkeypatch.setenv('FORKED', 'yes')
    code = "import os, random\nimport numpy as np\nprint(random.random(), np.random.random(), os.environ['FORKED'], os.getcwd())"
    first, second = (run(code).cells[-1].outputs[0].text.split() for _ in range(2))
    assert first[0] != second[0] and first[1] != second[1] and first[2:] == second[2:] == ['yes', os.getcwd()]


def _left(folder: Path) -> set:
    "Files below a folder of our own, and shared memory, which others on this machine use as well."
    shared = Path('/dev/shm')
    return {*folder.rglob('*'), *(path for path in shared.iterdir() if any(word in path.name for word in ('kernel', 'torch_', 'sem.', 'psm_')))}

def test_nothing_is_left(run, tmp_path, monkeypatch):
    "No process, file or shared memory; SOCIALPROF_MANY_RUNS=500 asks more often."
    own = tmp_path / 'own'
    for name in ('runtime', 'temporary'): (own / name).mkdir(parents=True)
    monkeypatch.setenv('JUPYTER_RUNTIME_DIR', str(own / 'runtime'))
    monkeypatch.setenv('TMPDIR', str(own / 'temporary'))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    run('1')
    held = engine.parent()
    family = psutil.Process(held.process.pid)
    files, memory, before = len(os.listdir('/proc/self/fd')), family.memory_info().rss, _left(own)
    runs = int(os.environ.get('SOCIALPROF_MANY_RUNS', 3))
    for i in range(runs):
        if i % 10 == 9:
            with pytest.raises(Exception, match='exit code 3'): run('import os; os._exit(3)')
        else: run('n')
    psutil.wait_procs(family.children(), timeout=5)
    assert not family.children() and family.num_fds() < 20 and len(os.listdir('/proc/self/fd')) <= files + 1
    assert family.memory_info().rss < memory + 10 * 2**20
    for _ in range(600):   # shared memory of other programs comes and goes
        if not (left := _left(own) - before): break
        time.sleep(.1)
    assert not left


def test_siblings_are_unharmed(tmp_path):
    "Four at a time; two of them die in the middle, one is interrupted."
    def execute(name, *cells):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells],
                                        metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')))
        nbformat.write(book, tmp_path / f'{name}.ipynb')
        try: done = papermill.execute_notebook(tmp_path / f'{name}.ipynb', tmp_path / f'{name}-out.ipynb', engine_name=engine_named('socialprof'),
                                               kernel_name='python3', progress_bar=False)
        except Exception as problem: return str(problem)
        return done.cells[-1].outputs[0]['data']['text/plain']
    slow, end = 'import os, signal, time; time.sleep(1)', 'time.sleep(1); 42'
    told = dict(good=(slow, end), left=(slow, 'os._exit(5)'), killed=(slow, 'os.kill(os.getpid(), signal.SIGKILL)'),
                interrupted=(slow, 'os.kill(os.getpid(), signal.SIGINT); time.sleep(9)'), also_good=(slow, end))
    with ThreadPoolExecutor(4) as pool: found = dict(zip(told, pool.map(lambda name: execute(name, *told[name]), told), strict=True))
    assert found['good'] == found['also_good'] == '42'
    assert 'exit code 5' in found['left'] and 'SIGKILL' in found['killed'] and 'KeyboardInterrupt' in found['interrupted']


def test_for_anybody(tmp_path, python, root):
    "By name, from the command line, on a notebook of this project: the figures of the ordinary engine."
    found = {}
    for name in ('nbclient', 'socialprof'):
        told = ['-p', 'rows', 300, '-p', 'methods', 'language prior; tf-idf logistic', '-p', 'reports', tmp_path / name]
        done = python('-m', 'papermill', '--engine', name, '--no-progress-bar', 'nbs/violence/run_classical.ipynb', tmp_path / f'{name}.ipynb', *told,
                      cwd=root, SOCIALPROF_FORK_IMPORTS='numpy, pandas, sklearn.linear_model, torch')
        assert done.returncode == 0, done.stderr[-2000:]
        result, = (tmp_path / name).rglob('*.json')
        found[name] = [{k: v for k, v in row.items() if k != 'seconds'} for row in json.loads(result.read_text())['results']]
    assert found['nbclient'] == found['socialprof'] and len(found['socialprof']) > 10


RUNS = sorted(path for path in (Path(__file__).parents[1] / 'nbs').rglob('run_*.ipynb') if path.parent.name != 'lab' and path.stem != 'run_summary')

@pytest.mark.skipif('SOCIALPROF_ALL_RUNS' not in os.environ, reason='SOCIALPROF_ALL_RUNS=1 compares the engines on every run_* (minutes)')
@pytest.mark.parametrize('path', RUNS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_every_run_gives_the_figures_of_the_ordinary_engine(tmp_path, root, path):
    "Metrics and outputs, times aside."
    found = []
    for name in ('papermill', 'socialprof'):
        done = papermill.execute_notebook(path, tmp_path / f'{name}.ipynb', parameters=dict(reports=str(tmp_path / name)), engine_name=engine_named(name),
                                          kernel_name='python3', cwd=str(root), progress_bar=False)
        results = [json.loads(file.read_text()) for file in sorted((tmp_path / name).rglob('*.json'))]
        metrics = [[{k: v for k, v in row.items() if k != 'seconds'} for row in result['results']] for result in results]
        kinds = [[(output['output_type'], sorted(output.get('data', {}))) for output in cell.get('outputs', []) if output.get('name') != 'stderr']
                 for cell in done.cells]
        found.append((metrics, kinds))
    assert found[0] == found[1] and found[0][0]


def test_trouble_is_said_once(monkeypatch, tmp_path):
    "An import that starts a thread: papermill's own engine, and a warning."
    (tmp_path / 'threaded_module.py').write_text('import threading, time\nthreading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n')
    monkeypatch.setattr(engine, '_shared', {})
    monkeypatch.setenv('SOCIALPROF_FORK_IMPORTS', 'threaded_module')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, [str(tmp_path), os.environ.get('PYTHONPATH')])))
    with pytest.warns(RuntimeWarning, match='an import started threads'): assert engine.parent() is None
    assert engine.parent() is None
    engine._shared['parent'].close()
