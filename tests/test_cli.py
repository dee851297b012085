"""The commands a stranger types: on good data, on damaged data, with typing errors."""
import json

import pytest


@pytest.fixture
def socialprof(python, tmp_path):
    "Run the command in an empty folder; returns the finished process."
    return lambda *words: python('-m', 'socialprof', *words, cwd=tmp_path)

@pytest.fixture(scope='module')
def folder(python, tmp_path_factory):
    "Simulated intent data in the real format, written by the command."
    made = tmp_path_factory.mktemp('pan') / 'intent'
    done = python('-m', 'socialprof', 'data', 'simulate', 'influencer/intent', made, '--set', 'users_per_label=8', '--set', 'test_users=12')
    assert done.returncode == 0 and 'simulated' in done.stdout, done.stderr
    return made


def test_simulated_files_pass_the_check(socialprof, folder):
    assert sorted(path.name for path in folder.iterdir()) == ['test_text.json', 'test_truth.json', 'train_text.json', 'train_truth.json']
    done = socialprof('data', 'check', 'influencer/intent', folder)
    assert done.returncode == 0 and '32 train users' in done.stdout and '12 test users' in done.stdout
    whole = socialprof('data', 'check', 'influencer', folder)
    assert whole.returncode == 1 and 'write influencer/intent' in whole.stderr


def test_simulation_is_the_same_each_time_and_never_overwrites(socialprof, folder, tmp_path):
    words = ['data', 'simulate', 'influencer/intent', tmp_path / 'again', '--set', 'users_per_label=8', '--set', 'test_users=12']
    assert socialprof(*words).returncode == 0
    for path in folder.iterdir(): assert (tmp_path / 'again' / path.name).read_bytes() == path.read_bytes()
    second = socialprof(*words)
    assert second.returncode == 2 and 'not empty' in second.stderr


def test_a_damaged_line_is_named(socialprof, folder, tmp_path):
    broken = tmp_path / 'broken'
    broken.mkdir()
    for path in folder.iterdir(): (broken / path.name).write_bytes(path.read_bytes())
    lines = (broken / 'train_text.json').read_text().splitlines(True)
    lines[4] = lines[4].replace('"texts"', '"text"', 1)
    (broken / 'train_text.json').write_text(''.join(lines))
    done = socialprof('data', 'check', 'influencer/intent', broken)
    assert done.returncode == 1 and 'train_text.json:5: expected' in done.stderr and 'Traceback' not in done.stderr


def test_predict_writes_a_checked_submission(socialprof, folder, tmp_path):
    from socialprof.influencer.baselines import CharLogistic
    from socialprof.influencer.data import load
    from socialprof.influencer.predict import save_model
    from socialprof.influencer.protocol import Views
    frame, task = load('intent', folder)
    training = frame[frame.split == 'train'].reset_index(drop=True)
    views = Views(training, task)
    save_model(tmp_path / 'model', CharLogistic().fit(list(views.texts), list(training.label)), 'char-logistic', views)
    unlabelled = tmp_path / 'unlabelled'
    unlabelled.mkdir()
    (unlabelled / 'test_text.json').write_bytes((folder / 'test_text.json').read_bytes())
    done = socialprof('predict', tmp_path / 'model', unlabelled, tmp_path / 'out.json')
    assert done.returncode == 0 and '12 users' in done.stdout, done.stderr
    lines = [json.loads(line) for line in (tmp_path / 'out.json').read_text().splitlines()]
    assert len(lines) == 12 and all(set(line) == {'twitter user id', 'class', 'probability'} for line in lines)
    nothing = socialprof('predict', tmp_path, unlabelled, tmp_path / 'out.json')
    assert nothing.returncode == 1 and 'model.json' in nothing.stderr


@pytest.mark.parametrize('words, code, told', [
    (['data', 'check', 'influencer/intend', '.'], 2, 'there are: profiling, interest, intent, custom'),
    (['data', 'check', 'influencer/intent', 'nowhere'], 1, 'nowhere'),
    (['data', 'check', 'influencer', '.'], 1, 'name the task'),
    (['data', 'simulate', 'influencer', 'somewhere'], 2, 'name one of'),
    (['data', 'simulate', 'influencer/intent', 'somewhere', '--set', 'topics=0'], 2, 'there are: '),
    (['data', 'describe', 'nobody'], 2, 'there are: engagement'),
    (['data', 'get', 'nobody'], 2, 'there are: engagement'),
    (['report', '--profile', 'fast'], 2, 'quick, standard, paper'),
    (['predict', 'nowhere', 'nowhere', 'out.json'], 1, 'model.json'),
    (['worlds', '--set', 'wrlds=1'], 2, 'it has: worlds, sizes, planted'),
    (['worlds', '--set', 'worlds=many'], 2, 'worlds expects int'),
    (['runn'], 2, 'No such command')])
def test_wrong_words(socialprof, words, code, told):
    done = socialprof(*words)
    assert done.returncode == code and told in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize('words, told', [
    (['list'], 'quick: '), (['doctor'], 'all-MiniLM-L6-v2'), (['data', 'list'], 'profiling'), (['data', 'get', 'influencer'], 'Zenodo'),
    (['data', 'describe', 'influencer/intent'], 'published'), (['--help'], 'predict')])
def test_what_there_is(socialprof, words, told):
    done = socialprof(*words)
    assert done.returncode == 0 and told in done.stdout, done.stderr


def test_a_check_of_no_folder_and_of_an_empty_one_says_what_is_missing(tmp_path, python):
    "A paper without a task: each task's first problem is named, and a folder that is not there is no list of tasks."
    for paper in ('hashtag', 'engagement', 'violence'):
        away = python('-m', 'socialprof', 'data', 'check', paper, tmp_path / 'away')
        assert away.returncode == 1 and 'no such folder' in away.stderr and len(away.stderr.splitlines()) == 1, away.stderr
        (tmp_path / paper).mkdir()
        empty = python('-m', 'socialprof', 'data', 'check', paper, tmp_path / paper)
        assert empty.returncode == 1 and '1 problem' not in empty.stderr and empty.stderr.count('expected') >= 2, empty.stderr
