"""The installed package, away from any clone: a wheel in a folder of its own, used from an empty folder.

What it depends on is that of the environment of the tests; the package itself is the wheel's, and so are notebooks and grids.
"""
import json, os, shutil, subprocess, sys, tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from test_house import ROOT, tracked

GUARD = ROOT / 'tests' / 'guard'
SMALL = ['--set', 'users_per_label=8', '--set', 'methods=char-logistic']


def process(*words, cwd, **env):
    "Run a command to its end; what it printed is text."
    return subprocess.run([*map(str, words)], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def wheels(tmp_path_factory) -> dict[str, Path]:
    "A wheel built from a copy of the clone, and one built from the source distribution of that copy."
    folder = tmp_path_factory.mktemp('build')
    for path in tracked():
        target = folder / 'clone' / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    pack = 'from setuptools.build_meta import build_sdist; build_sdist("../sdist")'
    (folder / 'sdist').mkdir()
    packed = process(sys.executable, '-c', pack, cwd=folder / 'clone')
    assert packed.returncode == 0, packed.stderr
    sources = dict(clone=folder / 'clone', sdist=next((folder / 'sdist').iterdir()))
    pip = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-index', '--no-deps', '--no-build-isolation']
    for name, source in sources.items():
        built = process(*pip, '-w', folder / f'from_{name}', source, cwd=folder)
        assert built.returncode == 0, built.stderr
    return {name: next((folder / f'from_{name}').glob('*.whl')) for name in sources}


@pytest.fixture(scope='module')
def installed(wheels, tmp_path_factory) -> Path:
    "The folder into which the wheel was installed."
    target = tmp_path_factory.mktemp('installed')
    pip = [sys.executable, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps', '--target']
    done = process(*pip, target, wheels['sdist'], cwd=target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope='module')
def home(tmp_path_factory) -> Path:
    "A home of its own, so that nothing of this machine's user is read or written."
    return tmp_path_factory.mktemp('home')


@pytest.fixture(scope='module')
def away(installed, home):
    "Run Python in a folder without a clone above it, with the installed package; weights that were converted once are shared."
    cache = os.environ.get('SOCIALPROF_CACHE', str(ROOT / 'data' / 'cache'))
    usual = dict(PYTHONPATH=f'{GUARD}{os.pathsep}{installed}', HOME=str(home), XDG_CACHE_HOME=str(home / 'cache'),
                 SOCIALPROF_CACHE=cache, PYTHONDONTWRITEBYTECODE='1')
    for name in ('SOCIALPROF_ROOT', 'SOCIALPROF_MODELS'): os.environ.pop(name, None)
    return lambda *words, cwd, **env: process(sys.executable, *words, cwd=cwd, **(usual | env))


@pytest.fixture
def socialprof(away, tmp_path):
    "Run the command in an empty folder."
    return lambda *words, cwd=tmp_path, **env: away('-m', 'socialprof', *words, cwd=cwd, **env)


def contents(wheel: Path) -> dict[str, bytes]:
    "The files of a wheel, but for the list of their hashes, whose order is free."
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith('RECORD')}


def test_the_source_distribution_gives_the_same_wheel(wheels):
    assert contents(wheels['clone']) == contents(wheels['sdist'])


def test_a_wheel_has_what_runs_and_no_more(wheels):
    names = {name.removeprefix('socialprof/share/') for name in contents(wheels['clone']) if '/share/' in name}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'nbs').glob('*/*.ipynb')}
    runs = {name for name in there if '/run_' in name or name.endswith('_story.ipynb')}
    assert names == runs | {'nbs/grids.toml', 'data/README.md'}
    assert not {name for name in contents(wheels['clone']) if name.split('/')[0] in {'tests', 'docs', 'nbs'}}


LIBRARY = '''
import json, warnings
from pathlib import Path
import socialprof
from socialprof.core.config import cache_dir, notebooks_dir, raw_dir, reports_dir, workspace
from socialprof.core.encode import encode
from socialprof.influencer.reshape import Reshape
from socialprof.lab.results import commit, run_key, checked, notebook_path, parameters_of
posts = ['gm frens, to the moon', 'buying the dip again', 'the market opened lower', 'rates stay where they are']
vectors = encode(posts, 'sentence-transformers/all-MiniLM-L6-v2')
labels = ['fan', 'fan', 'news', 'news']
parameters = checked({}, parameters_of(notebook_path('influencer/run_baselines')), 'run_baselines')
print(json.dumps(dict(
    package=socialprof.__file__, clone=str(workspace()), notebooks=str(notebooks_dir()), cache=str(cache_dir()), raw=str(raw_dir()),
    reports=str(reports_dir()), commit=commit(), shape=vectors.shape, key=run_key('influencer/run_baselines', parameters, ''),
    predicted=list(Reshape(loss='triplet', epochs=5).fit(vectors, labels).predict(vectors)))))
'''


def test_as_a_library(away, installed, home, tmp_path):
    "Encoding, an estimator and a result's key work; caches go to the user's cache folder, results to the working directory."
    done = away('-c', LIBRARY, cwd=tmp_path, SOCIALPROF_CACHE='')
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found['package']).is_relative_to(installed) and Path(found['notebooks']).is_relative_to(installed)
    assert found['clone'] == 'None' and found['commit'] == '' and len(found['key']) == 16
    assert found['shape'] == [4, 384] and set(found['predicted']) <= {'fan', 'news'}
    assert found['cache'] == str(home / 'cache' / 'socialprof') and any((home / 'cache' / 'socialprof' / 'vectors').rglob('*'))
    assert (found['reports'], found['raw']) == (str(tmp_path / 'reports'), str(tmp_path / 'data' / 'raw'))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('words, said', [
    (['list'], 'run_baselines'), (['doctor'], 'notebooks of the installed package'), (['data', 'list'], 'influencer: profiling'),
    (['data', 'get', 'influencer'], 'Zenodo'), (['data', 'describe', 'influencer/intent'], 'published'),
    (['run', 'influencer/interest', '--dry-run'], '1 of 1 runs to do')])
def test_what_there_is(socialprof, words, said):
    done = socialprof(*words)
    assert done.returncode == 0 and said in done.stdout, done.stderr


def test_simulated_files_pass_the_check(socialprof):
    done = socialprof('data', 'simulate', 'influencer/intent', 'made', '--set', 'users_per_label=8', '--set', 'test_users=12')
    assert done.returncode == 0, done.stderr
    done = socialprof('data', 'check', 'influencer/intent', 'made')
    assert done.returncode == 0 and '12 test users' in done.stdout, done.stderr


def test_run_report_predict(socialprof, tmp_path):
    "A run of the packaged notebooks, its page, and its model on new users; a second batch finds it done."
    ran = socialprof('run', 'influencer/interest', '--quiet', '--save-model', 'char-logistic', *SMALL)
    assert ran.returncode == 0 and '0 failed' in ran.stdout, ran.stderr
    folder = next((tmp_path / 'reports' / 'quick').glob('simulated*'))
    result = next((folder / 'influencer' / 'interest').glob('run_baselines-*.json'))
    assert json.loads(result.read_text())['commit'] == '' and result.with_suffix('.html').exists()
    again = socialprof('run', 'influencer/interest', '--dry-run', '--save-model', 'char-logistic', *SMALL)
    assert '0 of 1 runs to do' in again.stdout, again.stdout
    told = socialprof('report')
    assert told.returncode == 0 and told.stdout.strip() == str(tmp_path / 'reports' / 'quick' / 'index.html'), told.stderr
    made = socialprof('data', 'simulate', 'influencer/interest', 'made', '--set', 'users_per_label=8', '--set', 'test_users=12')
    assert made.returncode == 0, made.stderr
    done = socialprof('predict', result.with_suffix('.model'), 'made', 'submission.json')
    assert done.returncode == 0 and len((tmp_path / 'submission.json').read_text().splitlines()) == 12, done.stderr


GRID = '''[influencer.quick.run_baselines]
task = "intent"
fold = -1
methods = "majority"
'''


def test_a_folder_of_ones_own(socialprof, installed, tmp_path):
    "Notebooks and grids that were copied out can be changed, and are those that run; reports lie beside them."
    done = socialprof('init', 'mine')
    assert done.returncode == 0 and 'cd mine' in done.stdout, done.stderr
    mine = tmp_path / 'mine'
    grids = mine / 'nbs' / 'grids.toml'
    assert grids.read_bytes() == (installed / 'socialprof' / 'share' / 'nbs' / 'grids.toml').read_bytes()
    assert set(tomllib.loads(grids.read_text())) == {'influencer', 'violence', 'retweet', 'hashtag', 'engagement'}
    grids.write_text(GRID)
    notebook = mine / 'nbs' / 'influencer' / 'run_baselines.ipynb'
    book = json.loads(notebook.read_text())
    book['cells'][-1]['source'] = [*book['cells'][-1]['source'], '\nprint("a cell of mine")']
    notebook.write_text(json.dumps(book))
    ran = socialprof('run', '--quiet', *SMALL[:2], cwd=mine / 'nbs')
    assert ran.returncode == 0 and '1 done' in ran.stdout, ran.stderr
    page = next((mine / 'reports').rglob('run_baselines-*.html'))
    assert 'a cell of mine' in page.read_text() and not (tmp_path / 'reports').exists()
    refused = socialprof('init', 'mine')
    assert refused.returncode == 2 and '--force' in refused.stderr and 'Traceback' not in refused.stderr
    assert socialprof('init', 'mine', '--force').returncode == 0
    assert grids.with_name('grids.toml.bak').read_text() == GRID


def test_a_wrong_folder_is_named(socialprof, tmp_path):
    done = socialprof('list', SOCIALPROF_ROOT=str(tmp_path / 'nowhere'))
    assert done.returncode == 1 and 'SOCIALPROF_ROOT' in done.stderr and 'Traceback' not in done.stderr
