"""Two processes that train together, over this machine's loopback: equal weights in both, those of one process with double batches."""
import json

import numpy as np
import pytest

# the script of nbs/learn/01b_finetune.ipynb with a random model, and a record of what each process ends with
TUNE = '''
import json, os, sys
import numpy as np
from transformers import TrainerCallback
from socialprof.core.models import tiny
from socialprof.learn.finetune import FineTuner
from socialprof.learn.trainer import tuned_tensors

folder, told = sys.argv[1], json.loads(sys.argv[2])
Y = (np.random.default_rng(0).random((65, 3)) < (.5, .3, .2)).astype(int)
X = [' '.join(pair[k] for pair, k in zip((('hero', 'price'), ('gn', 'gm'), ('sun', 'moon')), row)) + ' wagmi' * (i % 5) for i, row in enumerate(Y)]
job = dict(model=tiny('llama'), multilabel=True, epochs=4, learning_rate=2e-2, max_length=32, schedule='cosine', dropout=0., output_dir=folder) | told

class Pull(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.epoch > 2.2: raise KeyboardInterrupt

def fit(**more): return FineTuner(**job | more).fit(X[:48], Y[:48], validation=(X[48:], Y[48:]))
if job.get('resume'):
    try: fit(resume=False, callbacks=[Pull()])
    except KeyboardInterrupt: pass
tuner = fit()
tuner.save(folder + '/saved')
np.savez(f"{folder}/{os.environ.get('RANK', 0)}.npz", **{name: p.numpy() for name, p in tuned_tensors(tuner.model_).items()})
with open(f"{folder}/{os.environ.get('RANK', 0)}.json", 'w') as file:
    json.dump(dict(history=tuner.history_, best=tuner.best_epoch_, scores=tuner.decision_function(X).tolist()), file)
'''


@pytest.fixture(scope='module')
def tuned(python, tmp_path_factory):
    "Run the script in this many processes; returns (record, tensors) of each."
    def run(number, **job):
        folder = tmp_path_factory.mktemp(f'of{number}')
        (folder / 'tune.py').write_text(TUNE)
        launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', number] if number > 1 else []
        done = python('-W', 'ignore', *launcher, folder / 'tune.py', folder, json.dumps(job))
        assert done.returncode == 0, done.stderr[-3000:]
        return [(json.loads((folder / f'{i}.json').read_text()), dict(np.load(folder / f'{i}.npz'))) for i in range(number)], folder / 'saved'
    return run

@pytest.fixture(scope='module')
def both(tuned): return tuned(2, batch_size=4)


def largest_gap(a, b): return max(abs(a[name] - b[name]).max() for name in a)

def test_two_processes_end_equal(both):
    (first, tensors), (second, others) = both[0]
    assert [first[key] for key in ('history', 'best')] == [second[key] for key in ('history', 'best')] and largest_gap(tensors, others) == 0
    assert np.allclose(first['scores'], second['scores'], rtol=0, atol=1e-6) and all('validation' in entry for entry in first['history'])
    from socialprof.core.models import tiny
    from socialprof.learn.finetune import FineTuner
    assert (both[1] / 'tuner.json').is_file() and FineTuner.load(both[1], model=tiny('llama')).history_ == first['history']


def test_two_processes_are_one_with_double_batches(both, tuned):
    (together, tensors), _ = both[0]
    [(alone, others)], _ = tuned(1, batch_size=8)
    for a, b in zip(together['history'], alone['history'], strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    assert together['history'][-1]['loss'] < together['history'][0]['loss'] and together['best'] == alone['best']
    assert largest_gap(tensors, others) < 1e-4 and np.allclose(together['scores'], alone['scores'], atol=1e-3)


def test_two_processes_resume(both, tuned):
    results, saved = tuned(2, batch_size=4, resume=True)
    for record, tensors in results:
        assert record['best'] == both[0][0][0]['best'] and largest_gap(tensors, both[0][0][1]) < 1e-6     # other processes: other last digits
        for a, b in zip(record['history'], both[0][0][0]['history'], strict=True): assert a == pytest.approx(b, rel=1e-5)
        assert np.allclose(record['scores'], both[0][0][0]['scores'], rtol=0, atol=1e-5)
    assert not list(saved.parent.glob('job-*/tokens-*'))
