"""The store of posts: no row finds itself, no test text gets in, cosines mean something, commands go on after kill -9."""
import csv, json, os, random, signal, subprocess, sys, time

import numpy as np
import pytest

pytest.importorskip('faiss')

TOPICS = dict(soup='soup bowl spoon hot broth onion kitchen ladle', rain='rain cloud wet storm coat puddle drops umbrella',
              game='goal team match score fans kick referee pitch', book='novel page author chapter read shelf library print')

def post(topic, rng):
    words = rng.sample(TOPICS[topic].split(), 5)
    return ' '.join([*words, str(rng.randrange(1000)), f'#{topic}night' if rng.random() < .8 else '#mood'])

def posts(n, seed=0):
    rng = random.Random(seed)
    return [post(rng.choice(list(TOPICS)), rng) for _ in range(n)]

@pytest.fixture(scope='module')
def encoder():
    from socialprof.core.models import tiny
    return str(tiny())

@pytest.fixture(scope='module')
def world(): return posts(500)

@pytest.fixture(scope='module')
def store(world, encoder, tmp_path_factory):
    from socialprof.hashtag.store import build
    return build(tmp_path_factory.mktemp('stores') / 'store', world, encoder)


@pytest.mark.parametrize('mode', ['same', 'remove', 'segment'])
@pytest.mark.parametrize('index', ['flat', 'ivf', 'hnsw'])
def test_a_stored_post_finds_itself(mode, index, world, encoder, tmp_path):
    from socialprof.hashtag.store import build
    made = build(tmp_path / 'store', world, encoder, mode=mode, index=index, once=False)
    near = made.search(world, 1, exclude='none')
    itself = np.abs(near.cosines - 1) < 1e-6
    assert itself.all() if index == 'flat' else itself.mean() >= .99   # the others may miss a post: that is their price
    assert len(made) == len(world)

def test_no_row_finds_itself(store, world):
    "L5: with shuffled rows and unequal batches neither the post nor its near duplicates come back."
    from socialprof.hashtag.store import compared, is_same
    order = np.random.default_rng(0).permutation(len(world))
    whole = store.search(world, 5).positions
    for size in (1, 13, 64, 500):
        parts = [store.search([world[i] for i in order[k:k + size]], 5).positions for k in range(0, len(order) if size > 1 else 40, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole[order[:sum(map(len, parts))]])
    assert (whole >= 0).all()
    assert not any(is_same(compared(text), compared(store.text(i))) for text, row in zip(world, whole, strict=False) for i in row)

def test_nearest_keeps_itself_out_by_bans(world, store):
    from socialprof.hashtag.store import nearest, same_post
    vectors = np.asarray(store.vectors, np.float32)
    texts = [store.text(i) for i in range(len(store))]
    banned = same_post(texts, texts)
    assert all(i in rows for i, rows in enumerate(banned))
    order = np.random.default_rng(1).permutation(len(texts))
    whole = nearest(vectors, vectors, 5, banned)[0]
    parts = [nearest(vectors[order[k:k + 17]], vectors, 5, [banned[i] for i in order[k:k + 17]])[0] for k in range(0, len(order), 17)]
    np.testing.assert_array_equal(np.concatenate(parts), whole[order])
    assert not any(i in row for i, row in enumerate(whole))

def test_no_test_text_in_the_store(world, encoder, tmp_path):
    "L10: stored texts and test texts have nothing in common once they are normalised; a copy with another link counts."
    from socialprof.hashtag.store import build, compared, same_post
    tests = posts(60, seed=5)
    leaked = [f'RT @someone: {text.upper()} https://t.co/abc' for text in tests[::3]] + [f'{text} ok' for text in tests[1::3]]
    made = build(tmp_path / 'store', world + leaked, encoder, mode='same', banned_texts=tests)
    stored = [made.text(i) for i in range(len(made))]
    assert not {compared(text) for text in stored} & {compared(text) for text in tests}
    assert not any(len(rows) for rows in same_post(tests, stored))
    assert made.facts['counts']['banned'] >= len(leaked)
    assert sum(made.facts['counts'].values()) == len(world) + len(leaked)

def test_other_weights_are_refused(encoder, tmp_path):
    import shutil
    from socialprof.core.models import tiny
    from socialprof.hashtag.store import Store, build
    model = tmp_path / 'model'
    shutil.copytree(encoder, model)
    build(tmp_path / 'store', posts(60), str(model))
    shutil.rmtree(model)
    shutil.copytree(tiny(seed=1), model)
    with pytest.raises(ValueError, match='expected weights .* found .*build the store again'): Store.load(tmp_path / 'store')

def test_float16_takes_half(world, encoder, tmp_path):
    from socialprof.hashtag.store import build
    sizes = {}
    for precision in ('float32', 'float16'):
        made = build(tmp_path / precision, world, encoder, precision=precision)
        sizes[precision] = made.facts['files']['index.faiss']
    assert sizes['float16'] <= .55 * sizes['float32']

def test_same_user_is_passed_over(world, encoder, tmp_path):
    from socialprof.hashtag.store import build
    users = [f'u{i % 7}' for i in range(len(world))]
    made = build(tmp_path / 'store', world, encoder, users=users)
    near = made.search(world[:40], 5, users=users[:40])
    assert not any(made.user(i) == users[row] for row, some in enumerate(near.positions) for i in some if i >= 0)


@pytest.fixture(scope='module')
def calibrated(world, tmp_path_factory):
    from socialprof.core.models import MINILM
    from socialprof.hashtag.store import build
    return build(tmp_path_factory.mktemp('calibrated') / 'store', world[:300], MINILM)

def test_similarity_is_a_probability(calibrated):
    from socialprof.hashtag.similar import similarity
    rng = random.Random(3)
    names = list(TOPICS)
    pairs = [(rng.choice(names), rng.choice(names)) for _ in range(240)]
    pairs += [(name, name) for name in names * 30]
    first = [post(a, rng) for a, _ in pairs]
    second = [post(b, rng) for _, b in pairs]
    one = np.array([a == b for a, b in pairs])
    chance = similarity(first, second, calibrated)
    assert chance.min() >= 0 and chance.max() <= 1
    assert chance[one].mean() > chance[~one].mean() + .3
    assert np.mean((chance - one) ** 2) < one.mean() * (1 - one.mean())
    assert (np.diff(calibrated.calibration(np.linspace(-1, 1, 100))) > 0).all()
    assert calibrated.calibration.auc > .8 and calibrated.calibration.n > 100

def test_a_store_without_tags_is_no_error(encoder, tmp_path):
    from socialprof.hashtag.similar import similar_file, similarity
    from socialprof.hashtag.store import build
    made = build(tmp_path / 'store', [text.split('#')[0] for text in posts(80)], encoder)
    assert made.calibration is None and 'pairs that share a tag' in made.facts['not_calibrated']
    with pytest.raises(ValueError, match='calibrated'): similarity(['a'], ['b'], made)
    (tmp_path / 'in.txt').write_text('hot soup\n')
    similar_file(made, tmp_path / 'in.txt', tmp_path / 'out.jsonl', 2, 'jsonl')
    hit = json.loads((tmp_path / 'out.jsonl').read_text())['neighbours'][0]
    assert hit['similarity'] is None and -1 <= hit['cosine'] <= 1

def test_tags_of_neighbours_beat_frequent_ones():
    "On simulated posts, by time; the tags that say nothing are the floor's."
    from socialprof.core.encode import encode
    from socialprof.hashtag.data import load
    from socialprof.hashtag.similar import tag_hits
    from socialprof.hashtag.tags import without_tags
    frame, _ = load('retrieval', 'simulated', rows=400, seed=0)
    frame = frame[frame['time'].notna()].reset_index(drop=True)
    table = tag_hits(frame, encode([without_tags(text) for text in frame['text']], store=False), tops=(1, 5)).set_index(['method', 'k'])
    assert table.loc[('neighbours', 5), 'hit'] > table.loc[('most frequent', 5), 'hit']
    assert table.n.gt(20).all()


def command(*words, folder):
    return [sys.executable, '-m', 'socialprof', *map(str, words)], dict(cwd=folder, env=os.environ)

def run(*words, folder):
    line, place = command(*words, folder=folder)
    return subprocess.run(line, **place, capture_output=True, text=True, timeout=300)

def invoke(*words):
    from typer.testing import CliRunner
    from socialprof.lab.cli import app
    return CliRunner().invoke(app, list(map(str, words)))

def test_commands(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'posts.txt').write_text('\n'.join(posts(120)) + '\n')
    (tmp_path / 'new.csv').write_text('text,label\nhot onion soup,1\na storm and #rainnight,0\n')
    built = invoke('store', 'posts.txt', 'folder', '--model', encoder, '--index', 'ivf', '--set', 'probes=4', '--quiet')
    assert built.exit_code == 0 and '120 posts' in built.output
    assert invoke('similar', 'folder', 'new.csv', '--top', 3).exit_code == 0
    with open('new.similar.csv', encoding='utf-8') as file: assert [row['rank'] for row in csv.DictReader(file)] == ['1', '2', '3'] * 2
    assert invoke('similar', 'folder', 'new.csv', 'out.jsonl', '--form', 'published').exit_code == 0
    row = json.loads((tmp_path / 'out.jsonl').read_text().splitlines()[0])
    assert row['label'] == '1' and {f'text{k}' for k in range(100)} <= row.keys() and row['text0']
    assert invoke('tags', 'folder', 'new.csv', '--new-only').exit_code == 0
    with open('new.tags.csv', encoding='utf-8') as file:
        assert not any(row['row'] == '2' and row['tag'] == 'rainnight' for row in csv.DictReader(file))

@pytest.mark.parametrize('words, code, message', [
    (('similar', 'nowhere', 'new.txt', 'o.csv'), 1, 'expected the folder of a store'),
    (('similar', 'folder', 'new.txt', 'o.csv', '--form', 'xml'), 2, 'no form'),
    (('similar', 'folder', 'new.txt', 'o.csv', '--exclude', 'all'), 2, 'no exclusion'),
    (('similar', 'folder', 'bad.csv', 'o.csv'), 1, 'expected the column text'),
    (('similar', 'folder', 'empty.txt', 'o.csv'), 1, 'expected at least one post'),
    (('tags', 'folder', 'new.txt', 'new.txt'), 2, 'lies among the files that are read'),
    (('tags', 'folder', 'missing.txt', 'o.csv'), 1, 'expected a file or a folder of posts'),
    (('store', 'new.txt', 'other', '--index', 'annoy'), 2, 'no index'),
    (('store', 'new.txt', 'other', '--set', 'probs=3'), 2, 'probes'),
    (('store', 'new.txt', 'folder'), 1, 'is a store already'),
])
def test_wrong_use_is_named(words, code, message, store, tmp_path, monkeypatch):
    import shutil
    monkeypatch.chdir(tmp_path)
    shutil.copytree(store.folder, tmp_path / 'folder')
    (tmp_path / 'new.txt').write_text('soup\n')
    (tmp_path / 'bad.csv').write_text('tweet\nsoup\n')
    (tmp_path / 'empty.txt').write_text('')
    result = invoke(*words)
    assert result.exit_code == code and message in result.output, result.output

def killed_after(note, posts_, words, folder):
    "Start a command and kill it -9 when its note says that so many posts are written."
    line, place = command(*words, folder=folder)
    process = subprocess.Popen(line, **place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.time() + 120
    while time.time() < end and process.poll() is None:
        if note.exists() and json.loads(note.read_text())['posts'] >= posts_: break
        time.sleep(.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'it ended before it could be killed'

def test_killed_and_gone_on_with(store, tmp_path):
    (tmp_path / 'many.txt').write_text('\n'.join(posts(3000, seed=9)) + '\n')
    words = ('similar', store.folder, 'many.txt', 'part.csv', '--rows', 25, '--quiet')
    killed_after(tmp_path / 'part.csv.part.json', 100, words, tmp_path)
    assert not (tmp_path / 'part.csv').exists()
    assert run(*words, folder=tmp_path).returncode == 1            # without --resume nothing is overwritten
    assert run(*words, '--resume', folder=tmp_path).returncode == 0
    from socialprof.hashtag.similar import similar_file
    similar_file(store, tmp_path / 'many.txt', tmp_path / 'whole.csv', quiet=True)
    tables = []
    for name in ('part.csv', 'whole.csv'):
        with open(tmp_path / name, encoding='utf-8', newline='') as file: tables.append(list(csv.DictReader(file)))
    first, second = ([row['row'] for row in table] for table in tables)
    assert first == second and len(first) == 15_000
    np.testing.assert_allclose(*([float(row['cosine']) for row in table] for table in tables), atol=2e-6)


def test_a_store_without_tags_suggests_none(tmp_path):
    from socialprof.core.models import tiny
    from socialprof.hashtag.similar import tags_file
    from socialprof.hashtag.store import build
    store = build(tmp_path / 'store', ['soup tonight', 'rain again', 'a late train'], tiny('bert'))
    (tmp_path / 'posts.txt').write_text('soup and bread\n', encoding='utf-8')
    with pytest.raises(ValueError, match='expected posts with tags, found none'): tags_file(store, tmp_path / 'posts.txt', tmp_path / 'tags.csv')
    assert not (tmp_path / 'tags.csv').exists()
