"""The tuned encoder: the same bits whatever the batch, a guard that refuses, a choice that is kept; cores are shared."""
import os, subprocess, sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from socialprof.core import engines, tune
from socialprof.core.config import cache_dir
from socialprof.core.encode import Encoder, encode, encode_to
from socialprof.core.engines import cores, in_threads
from socialprof.core.models import find, tiny
from socialprof.core.recipe import recipe, settle

HAS_OPENVINO = find_spec('openvino') is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason='OpenVINO is not installed')
STEADY = ['fp32', 'bf16', *(pytest.param(name, marks=needs_openvino) for name in ('openvino-fp32', 'openvino-bf16'))]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    "Choices, graphs and locks of these tests, apart from the user's."
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
    monkeypatch.delenv('SOCIALPROF_PRECISION', raising=False)

@pytest.fixture
def model(): return tiny('bert', max_length=256)

@pytest.fixture(scope='module')
def crowd():
    rng = np.random.default_rng(0)
    words = 'gm frens moon price dip mint drop chart call thread whale gas fee bridge airdrop wallet'.split()
    return [' '.join(rng.choice(words, rng.integers(0, 60))) for _ in range(80)] + ['', '🚀', 'нет войне']


@pytest.mark.parametrize('precision', STEADY)
def test_the_same_bits_whatever_the_batch(model, crowd, precision):
    told = dict(model=model, store=False, precision=precision)
    whole = encode(crowd, **told)
    for seed, batch_tokens in enumerate((8, 100, 700, 9000)):
        order = np.random.default_rng(seed).integers(0, len(crowd), 120)   # shuffled, with duplicates, some left out
        assert (encode([crowd[i] for i in order], batch_tokens=batch_tokens, **told) == whole[order]).all()
    assert (np.concatenate([encode([text], **told) for text in crowd[:6]]) == whole[:6]).all()


@pytest.mark.parametrize('precision', ['fp32', pytest.param('openvino-fp32', marks=needs_openvino)])
def test_the_same_bits_on_one_core_or_two(model, crowd, precision, monkeypatch):
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(engines.torch, 'get_num_threads', lambda threads=threads: threads)
        monkeypatch.setattr(engines.os, 'cpu_count', lambda: 2)
        found.append(encode(crowd, model, store=False, precision=precision, batch_tokens=200))
    assert (found[0] == found[1]).all()


@needs_openvino
@pytest.mark.parametrize('asked', [{}, dict(pooling='max'), dict(pooling='cls', normalise=False), dict(instruction='Represent the post: ')])
def test_openvino_reads_the_same_recipe(model, crowd, asked):
    ours, theirs = (encode(crowd, model, store=False, precision=precision, **asked) for precision in ('fp32', 'openvino-fp32'))
    assert abs(ours - theirs).max() < 1e-4


def test_without_openvino_there_is_a_plain_error_and_a_choice(model, monkeypatch):
    monkeypatch.setattr(engines, 'find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="extra 'fast' brings it: pip install .*openvino"):
        encode(['gm'], model, store=False, precision='openvino-bf16', instruction='never converted before: ')
    weights = find(model)
    told = tune.tune(weights, settle(recipe(weights.path)), tune.probe(12))
    assert told['precision'] in ('fp32', 'bf16') and 'openvino is not installed' in told['missing'][0]


def test_the_choice_is_made_once_kept_and_part_of_the_key(model, monkeypatch):
    made, tuned = [], tune.tune
    monkeypatch.setattr(tune, 'tune', lambda *args: made.append(1) or tuned(*args, tune.probe(12)))
    first = encode(['gm frens'], model, precision='auto')
    chosen = tune.choice(find(model), settle(recipe(find(model).path)))['precision']
    assert (encode(['gm frens'], model, precision='auto') == first).all() and (encode(['gm frens'], model, precision=chosen) == first).all()
    assert len(made) <= 1 and chosen in tune.candidates() and chosen in set(tune.choices().precision)
    spaces = lambda: len(list(cache_dir('vectors').iterdir()))
    before = spaces()
    monkeypatch.setenv('SOCIALPROF_PRECISION', 'bf16' if chosen == 'fp32' else 'fp32')
    encode(['gm frens'], model, precision='auto')
    assert spaces() == before + 1
    monkeypatch.setenv('SOCIALPROF_PRECISION', 'fp8')
    with pytest.raises(ValueError, match='expected one of fp32, bf16'): encode(['gm'], model, precision='auto')
    with pytest.raises(ValueError, match='expected auto or one of fp32'): encode(['gm'], model, precision='half')


def test_the_guard_refuses(model, monkeypatch):
    "A way that is fast and wrong, and one whose vectors depend on the batch, are not chosen; one that does not work is told."
    weights, working = find(model), engines.computer
    def computer(weights, settings, left_out, threads):
        compute = working(weights, replace(settings, precision='fp32'), left_out, threads)
        if settings.precision == 'bf16': return lambda ids, mask: np.roll(compute(ids, mask), 1, axis=1)
        if settings.precision == 'int8': return lambda ids, mask: compute(ids, mask) * (1 + 1e-3 * len(ids))
        if settings.precision == 'openvino-fp32': raise RuntimeError('no such operation')
        return compute
    monkeypatch.setattr(engines, 'computer', computer)
    monkeypatch.setattr(tune, 'candidates', lambda: ['fp32', 'bf16', 'int8', 'openvino-fp32'])
    told = tune.tune(weights, settle(recipe(weights.path)), tune.probe(24))
    ways = told['ways']
    assert 'cosine' in ways['bf16']['refused'] and 'depend on the batch' in ways['int8']['refused'] and 'no such operation' in ways['openvino-fp32']['refused']
    assert told['precision'] == 'fp32' and told['speedup'] == 1


def test_cores_are_shared_between_processes():
    program = ('import sys\nfrom socialprof.core.engines import cores\nwith cores(10**6) as held:\n    print(held, flush=True)\n    sys.stdin.read()')
    start = lambda: subprocess.Popen([sys.executable, '-c', program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    one = start()
    assert int(one.stdout.readline()) == os.cpu_count()
    other = start()
    assert int(other.stdout.readline()) == 1      # never none
    for process in (one, other): process.communicate('')
    with cores(10**6) as free: assert free == os.cpu_count()


def test_threads_have_one_torch_thread_each_and_errors_come_through():
    import torch
    before = torch.get_num_threads()
    assert sorted(in_threads(lambda n: (n, torch.get_num_threads()), range(30), 3)) == [(n, 1) for n in range(30)]
    with pytest.raises(ZeroDivisionError): list(in_threads(lambda n: 1 / n, [1, 0, 1], 2))
    assert torch.get_num_threads() == before


def test_padding_is_told_and_memory_is_bounded(model, crowd, tmp_path):
    encoder = Encoder(model, store=False, progress=False)
    vectors = encoder.fit_transform(crowd)
    assert 0 < encoder.padding_ < .2
    mapped = encode_to(tmp_path / 'v.npy', iter(crowd), model, chunk=7)
    assert isinstance(mapped, np.memmap) and (mapped == vectors).all()


@needs_openvino
def test_two_threads_may_be_the_first_to_use_openvino(model, python):
    "In a process that has not used it before; once they waited for each other for good."
    program = ('import sys, torch\nfrom socialprof.core.encode import encode\ntorch.set_num_threads(2)\n'
               "texts = [f'post {i} ' * (1 + i % 9) for i in range(100)]\n"
               "print(encode(texts, sys.argv[1], store=False, precision='openvino-fp32', batch_tokens=100).shape)")
    done = python('-c', program, model, timeout=120)
    assert done.returncode == 0 and '(100, 32)' in done.stdout, done.stderr
