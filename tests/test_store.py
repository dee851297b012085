"""The store of vectors: several writers, killed ones, a full disk, damage, throwing away."""
import os, signal, subprocess, sys, time, warnings

import numpy as np
import pytest

from socialprof.core import store
from socialprof.core.config import write_json
from socialprof.core.store import evict, join_blocks, map_block, read_vectors, store_vectors, stored, text_keys, write_block


def made(texts):
    "Keys, and vectors that can be told from them."
    keys = text_keys(texts)
    return keys, (keys[:, :1] % 1000 + np.arange(8)).astype(np.float32), keys[:, 1] % 3 == 0

def right(keys, found, vectors, cut):
    expected = (keys[:, :1] % 1000 + np.arange(8)).astype(np.float32)
    return (vectors[found] == expected[found]).all() and (cut[found] == (keys[found, 1] % 3 == 0)).all()

def names(n, what='post'): return [f'{what} {i}' for i in range(n)]


def test_what_was_written_is_read_in_any_order_and_with_doubles(tmp_path):
    keys, vectors, cut = made(names(500))
    for start in range(0, 500, 100): write_block(tmp_path, keys[start:start + 100], vectors[start:start + 100], cut[start:start + 100])
    write_block(tmp_path, keys[50:150], vectors[50:150], cut[50:150])
    asked = keys[np.random.default_rng(0).integers(0, 500, 2000)]
    assert right(asked, *read_vectors(tmp_path, asked)) and read_vectors(tmp_path, asked)[0].all()
    unknown = text_keys(names(10, 'other'))
    found, vectors, cut = read_vectors(tmp_path, np.concatenate([unknown, asked[:1]]))
    assert found.tolist() == [False] * 10 + [True] and not vectors[:10].any() and not cut[:10].any()
    assert read_vectors(tmp_path, keys[:0])[0].shape == (0,)


@pytest.mark.parametrize('name', ['keys', 'vectors', 'cut', 'sums'])
def test_a_flipped_bit_is_found_and_nothing_wrong_is_read(tmp_path, name):
    keys, vectors, cut = made(names(200))
    path = write_block(tmp_path, keys, vectors, cut)
    read_vectors(tmp_path, keys)   # keys are in memory now
    raw = bytearray(path.read_bytes())
    raw[map_block(path)[name].offset + 5] ^= 16
    path.write_bytes(raw)
    with pytest.warns(UserWarning, match='will be encoded again'): found, again, was_cut = read_vectors(tmp_path, keys)
    assert right(keys, found, again, was_cut) if name != 'keys' else not found.any()
    assert found.sum() == (0 if name == 'keys' else 199) and not path.exists()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        store_vectors(tmp_path, keys, vectors, cut)
        assert read_vectors(tmp_path, keys)[0].all()


@pytest.mark.parametrize('damage', [lambda raw: raw[:-1], lambda raw: raw[:100], lambda raw: b'', lambda raw: b'\xff' * len(raw),
                                    lambda raw: raw[:8] + b'x' + raw[9:]])
def test_torn_files_are_thrown_away(tmp_path, damage):
    keys, vectors, cut = made(names(50))
    path = write_block(tmp_path, keys, vectors, cut)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match='damaged block'): assert not read_vectors(tmp_path, keys)[0].any()
    assert not list(tmp_path.iterdir())


def test_joining_keeps_the_good_and_drops_the_damaged(tmp_path):
    keys, vectors, cut = made(names(400))
    paths = [write_block(tmp_path, keys[i:i + 20], vectors[i:i + 20], cut[i:i + 20]) for i in range(0, 400, 20)]
    raw = bytearray(paths[3].read_bytes())
    raw[map_block(paths[3])['vectors'].offset] ^= 1
    paths[3].write_bytes(raw)
    assert join_blocks(tmp_path) and len(list(tmp_path.glob('*.safetensors'))) == 1
    found, again, was_cut = read_vectors(tmp_path, keys)
    assert found.sum() == 399 and right(keys, found, again, was_cut)


def test_big_blocks_are_joined_in_their_own_tier(tmp_path, monkeypatch):
    monkeypatch.setattr(store, 'TIERS', (2000, 20_000))
    for i in range(60):
        store_vectors(tmp_path, *made(names(20, f'writer {i}')))
        assert len(list(tmp_path.glob('*.safetensors'))) <= 2 * store.MANY + 2
    assert all(read_vectors(tmp_path, text_keys(names(20, f'writer {i}')))[0].all() for i in range(60))


WRITER = '''
import sys, numpy as np
from itertools import count
from pathlib import Path
from socialprof.core import store
store.MANY = 3
for i in count():
    keys = store.text_keys([f'{sys.argv[2]} {(i * 40 + k) % 2000}' for k in range(40)])
    store.store_vectors(Path(sys.argv[1]), keys, (keys[:, :1] % 1000 + np.arange(8)).astype(np.float32), keys[:, 1] % 3 == 0)
    if i == 5: print('writing', flush=True)
'''

def test_several_writers_killed_at_work(tmp_path):
    writers = [subprocess.Popen([sys.executable, '-c', WRITER, tmp_path, name], stdout=subprocess.PIPE, text=True) for name in ('a', 'b', 'c')]
    try:
        for writer in writers: assert writer.stdout.readline() == 'writing\n'
        keys = np.concatenate([text_keys(names(2000, name)) for name in 'abc'])
        for _ in range(5):   # while they write and join
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                assert right(keys, *read_vectors(tmp_path, keys))
        for writer in writers:
            assert writer.poll() is None
            writer.send_signal(signal.SIGKILL)
    finally:
        for writer in writers: writer.kill(); writer.wait(); writer.stdout.close()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found, vectors, cut = read_vectors(tmp_path, keys)
    assert found.sum() >= 3 * 6 * 40 and right(keys, found, vectors, cut)
    draft = tmp_path / '.left.tmp'
    draft.write_bytes(b'half')
    os.utime(draft, (time.time() - 7200,) * 2)
    for i in range(20): store_vectors(tmp_path, *made(names(3, f'later {i}')))
    assert not draft.exists()


def test_a_full_disk_costs_a_warning(tmp_path):
    "A file may not grow beyond 5 kB here, which looks to a writer like a disk that is full."
    program = ('import resource, sys, numpy as np\nfrom pathlib import Path\nfrom socialprof.core.store import store_vectors, text_keys\n'
               'resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n'
               'print(store_vectors(Path(sys.argv[1]), text_keys([str(i) for i in range(999)]), np.ones((999, 8), np.float32), np.zeros(999, bool)))')
    told = subprocess.run([sys.executable, '-c', program, tmp_path], capture_output=True, text=True)
    assert told.stdout == 'False\n' and 'could not be stored' in told.stderr and not list(tmp_path.iterdir()), told


def test_eviction_by_age_and_by_size(tmp_path, monkeypatch, python):
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path))
    for name, days in (('old', 40), ('middle', 10), ('new', 0)):
        space = tmp_path / 'vectors' / name
        write_json(space / 'space.json', {'precision': 'fp32'})
        for part in range(3): store_vectors(space, *made(names(100, f'{part}')))
        os.utime(space / 'space.json', (time.time() - days * 86400,) * 2)
    assert stored().vectors.tolist() == [300] * 3
    one = next((tmp_path / 'vectors' / 'new').glob('*.safetensors')).stat().st_size
    done = python('-m', 'socialprof', 'data', 'cache', '--days', 30)
    assert done.returncode == 0 and 'in 3 blocks' in done.stdout and '600 vectors stored' in done.stdout, done.stderr
    assert evict(size=4 * one) == (2, 2 * one) and stored().set_index('space').blocks.to_dict() == {'middle': 1, 'new': 3}
    assert evict(size=0)[0] == 4 and stored().vectors.sum() == 0
    with pytest.raises(ValueError, match='from 0 on'): evict(days=-1)
