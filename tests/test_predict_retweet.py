"""Submissions for retweets: equal to the model itself, killed and gone on with, from files without labels, by the command."""
import json, random, signal, subprocess, sys, time

import numpy as np
import pytest

from socialprof.retweet import data, protocol, splits
from socialprof.retweet.columns import LABELS
from socialprof.retweet.predict import predict_file, probabilities, save_model

SCORES = [f'score.{label}' for label in LABELS]


@pytest.fixture(scope='module')
def fitted():
    "A network for all four targets, and what it read."
    frame, task = data.load('four', 'simulated', rows=1200)
    views = protocol.Views(frame, task)
    work = protocol.Work('notebook', dict(negatives=4, space_epochs=1))
    fitted = protocol.fit_methods(['two towers'], views, splits.cells(frame, task, 'post'), work)
    return fitted.models['two towers'], views

@pytest.fixture(scope='module')
def model(fitted, tmp_path_factory): return save_model(tmp_path_factory.mktemp('saved') / 'model', fitted[0], 'two towers', fitted[1])

@pytest.fixture(scope='module')
def unseen(): return data.simulate('four', seed=7, rows=3000).drop(columns=[f'{label}_time' for label in LABELS])

@pytest.fixture(scope='module')
def source(unseen, tmp_path_factory):
    "A test file with 20 columns."
    folder = tmp_path_factory.mktemp('rows') / 'source'
    data.write(unseen, folder, 'four')
    return folder

@pytest.fixture(scope='module')
def whole(model, source, tmp_path_factory):
    "The submission of a run that nobody disturbed."
    output = tmp_path_factory.mktemp('whole') / 'submission'
    predict_file(model, source, output, rows=200, quiet=True)
    return output

def scores(folder, unseen): return data.read_submission(folder, unseen, LABELS)


def test_scores_are_those_of_the_model(fitted, unseen, whole):
    told = scores(whole, unseen)
    at = told.merge(unseen[['tweet_id', 'reader_id']].reset_index(), on=['tweet_id', 'reader_id'])['index'].to_numpy()
    assert len(told) == len(unseen) and sorted(path.name for path in whole.iterdir()) == sorted(f'{label}.csv' for label in LABELS)
    np.testing.assert_allclose(told[SCORES], probabilities(fitted[0], unseen)[at], rtol=0, atol=2e-6)
    assert (fitted[0].downsampled_ < 1).any() and told['score.quote'].mean() < .1   # negatives were left out, and that was corrected


def test_killed_and_gone_on_with(model, source, unseen, whole, tmp_path):
    rng, output = random.Random(0), tmp_path / 'submission'
    words = [sys.executable, '-m', 'socialprof', 'predict', str(model), str(source), str(output), '--rows', '60', '--quiet', '--resume']
    note, seen = output / 'all-targets.csv.part.json', []
    for _ in range(2):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = (seen[-1] if seen else 0) + rng.randrange(60, 900)
        while process.poll() is None and not (note.exists() and json.loads(note.read_text())['posts'] >= until): time.sleep(.001)
        if process.poll() is None: process.kill()
        assert process.wait() in (0, -signal.SIGKILL)
        if not note.exists(): break                        # it was faster than the killer
        seen.append(json.loads(note.read_text())['posts'])
    assert seen
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, expected = scores(output, unseen), scores(whole, unseen)
    assert told[['tweet_id', 'reader_id']].equals(expected[['tweet_id', 'reader_id']])
    np.testing.assert_allclose(told[SCORES], expected[SCORES], rtol=0, atol=2e-6)
    assert sorted(path.name for path in output.iterdir()) == sorted(f'{label}.csv' for label in LABELS)


def test_what_is_there_is_kept(model, source, whole, tmp_path):
    before = (whole / 'like.csv').read_bytes()
    with pytest.raises(FileExistsError, match='is there already'): predict_file(model, source, whole, quiet=True)
    assert 'nothing was left to do' in predict_file(model, source, whole, resume=True, quiet=True) and (whole / 'like.csv').read_bytes() == before
    with pytest.raises(LookupError, match="no part 'val'; there are: test"): predict_file(model, source, tmp_path / 'out', part='val', quiet=True)


def test_what_cannot_be_kept(fitted, tmp_path):
    with pytest.raises(ValueError, match='base rates: only networks and boosted trees'): save_model(tmp_path / 'model', None, 'base rates', fitted[1])
