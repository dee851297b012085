"""Scoring of files: equal to the model itself, killed and gone on with, on damaged rows, by the command."""
import csv, json, random, signal, subprocess, sys, time

import numpy as np
import pytest

from socialprof.violence.labels import SIX, TASKS

FRONT = ['tweetid', 'text', 'lang', 'geo_x', 'geo_y']
PHRASES = ['shots near the market', 'barricadas en el centro', 'إطلاق نار', 'bread, warm and good', 'said "no"\nand left', 'RT @ana: http://t.co/a', '',
           'goal!!!', 'ゴール']


def write_posts(path, rows, n, labels=True):
    "A simulated file with texts that have to be quoted, empty ones among them."
    with open(path, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(FRONT + list(SIX) * labels)
        for i in range(n):
            text = ' '.join(rows.choice(PHRASES) for _ in range(rows.randint(1, 3))).strip(' ')
            writer.writerow([10**17 + i, text, rows.choice(['en', 'es', 'ar']), 30.5, -1.25] + [rows.randint(0, 1) for _ in SIX] * labels)
    return path

def read(path):
    with open(path, encoding='utf-8', newline='') as file: return list(csv.DictReader(file, strict=True))

def assert_same(path, other):
    """The same columns and posts in the same order, to the letter; scores within 1e-6.

    Two processes need not round a matrix product alike: its kernel may be chosen by where the matrices lie in memory.
    """
    told, expected = read(path), read(other)
    assert list(told[0]) == list(expected[0]) and len(told) == len(expected)
    parted = [([value for name, value in row.items() if name not in SIX], [float(row[name]) for name in SIX]) for row in (*told, *expected)]
    assert [text for text, _ in parted[:len(told)]] == [text for text, _ in parted[len(told):]]
    np.testing.assert_allclose(*([scores for _, scores in half] for half in (parted[:len(told)], parted[len(told):])), rtol=0, atol=1e-6)

@pytest.fixture(scope='module')
def tuner():
    from socialprof.core.models import tiny
    from socialprof.learn.finetune import FineTuner
    rng = np.random.default_rng(0)
    return FineTuner(tiny('bert'), tuning='full', epochs=2, max_length=24, batch_size=8, multilabel=True).fit(PHRASES * 4, rng.integers(0, 2, (36, 6)))

@pytest.fixture(scope='module')
def model(tuner, tmp_path_factory):
    from socialprof.violence.predict import save_model
    from socialprof.violence.protocol import Views
    return save_model(tmp_path_factory.mktemp('saved') / 'model', tuner, 'encoder full', Views(None, TASKS['six']))

@pytest.fixture(scope='module')
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp('posts')
    return write_posts(folder / 'posts.csv', random.Random(1), 3000)

@pytest.fixture(scope='module')
def whole(model, source, tmp_path_factory):
    "The output of a run that nobody disturbed."
    from socialprof.violence.predict import predict_file
    output = tmp_path_factory.mktemp('whole') / 'scores.csv'
    predict_file(model, source, output, rows=100, quiet=True)
    return output


def test_scores_are_those_of_the_model(tuner, model, source, whole, tmp_path):
    from socialprof.violence.clean import clean_all
    from socialprof.violence.predict import predict_file
    given, told = read(source), read(whole)
    expected = tuner.predict_proba(clean_all([row['text'] for row in given])[0])
    assert list(told[0]) == [*FRONT, *(f'{label}_true' for label in SIX), *SIX]
    np.testing.assert_allclose([[float(row[label]) for label in SIX] for row in told], expected, rtol=0, atol=1e-6)
    for name in FRONT: assert [row[name] for row in told] == [row[name] for row in given]
    for label in SIX: assert [row[f'{label}_true'] for row in told] == [row[label] for row in given]
    predict_file(model, source, tmp_path / 'one.csv', rows=len(given), quiet=True)   # one part: the very same batches
    np.testing.assert_allclose([[float(row[label]) for label in SIX] for row in read(tmp_path / 'one.csv')], expected, rtol=0, atol=1e-6)


def test_unlabelled_posts_have_no_truth(model, tmp_path):
    from socialprof.violence.predict import predict_file
    told = predict_file(model, write_posts(tmp_path / 'posts.csv', random.Random(2), 40, labels=False), tmp_path / 'out.csv', quiet=True)
    rows = read(tmp_path / 'out.csv')
    assert len(rows) == 40 and len(rows[0]) == 17 and all(row[f'{label}_true'] == '' for row in rows for label in SIX)
    empty = sum(row['text'] == '' for row in rows)
    assert empty and f'(without any text: {empty})' in told and 'judge no single one' in told


def test_columns_are_named_beside_the_file(model, tmp_path):
    from socialprof.violence.predict import predict_file
    folder = tmp_path / 'own'
    folder.mkdir()
    (folder / 'posts.csv').write_text('message,tongue\n"calm, very",en\n,es\n')
    (folder / 'columns.toml').write_text('text = "message"\nlanguage = "tongue"\n')
    told = predict_file(model, folder, tmp_path / 'out.csv', quiet=True)
    rows = read(tmp_path / 'out.csv')
    assert [(row['tweetid'], row['text'], row['lang']) for row in rows] == [('posts.csv:2', 'calm, very', 'en'), ('posts.csv:3', '', 'es')]
    assert 'scored as such: 1 (without any text: 1)' in told and all(row[f'{label}_true'] == '' for row in rows for label in SIX)


@pytest.mark.parametrize('seed', range(2))
def test_killed_and_gone_on_with(model, source, whole, tmp_path, seed):
    "kill -9 at random moments, again and again: nothing is lost, doubled or cut in half."
    rng, output = random.Random(seed), tmp_path / 'scores.csv'
    words = [sys.executable, '-m', 'socialprof', 'predict', str(model), str(source), str(output), '--rows', '100', '--quiet', '--resume']
    seen, note = [], tmp_path / 'scores.csv.part.json'
    for _ in range(2):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = (seen[-1] if seen else 0) + rng.randrange(100, 1200)
        while process.poll() is None and not (note.exists() and json.loads(note.read_text())['posts'] >= until): time.sleep(.001)
        time.sleep(rng.random() / 50)
        if process.poll() is None: process.kill()
        assert process.wait() in (0, -signal.SIGKILL)
        if not note.exists(): break                        # it was faster than the killer
        seen.append(json.loads(note.read_text())['posts'])
        with open(tmp_path / 'scores.csv.part', 'ab') as file: file.write(b'half a row, "')
    assert bool(seen) != output.exists()
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(output, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['scores.csv']


DAMAGES = {
    'a cell too many': (lambda lines: lines[:50] + [lines[50].rstrip('\n') + ',1\n'] + lines[51:], 'expected 11 fields, found 12'),
    'a label of 2': (lambda lines: lines[:50] + [lines[50][:-2] + '2\n'] + lines[51:], 'expected a label of 0 or 1 in pre7geo50, found "2"'),
    'no id': (lambda lines: lines[:50] + [lines[50][lines[50].index(','):]] + lines[51:], 'expected something in tweetid, found nothing'),
    'an open quotation mark': (lambda lines: lines[:50] + ['1,"open,en,1,2,0,0,0,0,0,0\n'] + lines[51:], 'quotes around a field only'),
    'Latin-1': (lambda lines: lines[:50] + [b'1,caf\xe9,en,1,2,0,0,0,0,0,0\n'] + lines[51:], 'expected UTF-8, found byte 0xE9'),
    'the header again': (lambda lines: lines[:50] + [lines[0]] + lines[51:], 'the header again'),
    'NUL': (lambda lines: lines[:50] + ['1,a\0b,en,1,2,0,0,0,0,0,0\n'] + lines[51:], 'no NUL character'),
    'a text missing': (lambda lines: [lines[0].replace('text', 'message')] + lines[1:], 'expected a column "text"'),
}

def damaged(path, kind):
    "A file of 80 posts with a damage at line 51, and its lines before."
    change, words = DAMAGES[kind]
    plain = random.Random(4)
    lines = [','.join(FRONT + list(SIX)) + '\n'] + [f'{i},calm {plain.random()},en,1,2,0,1,1,0,0,0\n' for i in range(80)]
    path.write_bytes(b''.join(line if isinstance(line, bytes) else line.encode() for line in change(lines)))
    return words, lines

@pytest.mark.parametrize('kind', DAMAGES)
def test_damage_is_named_before_anything_is_scored(model, tmp_path, kind):
    from socialprof.core.formats import FormatError
    from socialprof.violence.predict import predict_file
    source = tmp_path / 'posts.csv'
    words, _ = damaged(source, kind)
    with pytest.raises(FormatError) as error: predict_file(model, source, tmp_path / 'out.csv', rows=16, quiet=True)
    assert f'posts.csv:{1 if "text" in kind else 51}: ' in str(error.value) and words in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['posts.csv']


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', [kind for kind in DAMAGES if kind != 'a text missing'])
def test_rows_set_aside_are_kept_and_the_others_scored(model, tmp_path, kind):
    from socialprof.core.reading import read_aside
    from socialprof.violence.predict import predict_file
    source = tmp_path / 'posts.csv'
    _, lines = damaged(source, kind)
    told = predict_file(model, source, tmp_path / 'out.csv', quiet=True, bad_rows='set-aside')
    (entry, raw), = read_aside(tmp_path / 'out.csv.set-aside')
    assert '79 posts scored' in told and '1 row of 1 file was set aside' in told and entry['line'] == 51 and raw in source.read_bytes()
    source.write_text(''.join(lines[:50] + lines[51:]))
    predict_file(model, source, tmp_path / 'without.csv', quiet=True)
    assert_same(tmp_path / 'out.csv', tmp_path / 'without.csv')


@pytest.mark.filterwarnings('ignore')
def test_files_of_other_makes(model, tmp_path):
    "What `data check` reads, `predict` reads: packed, with semicolons and a byte order mark, as Parquet and as JSON lines."
    import gzip
    import polars as pl
    from socialprof.violence.predict import predict_file
    table = pl.DataFrame(dict(tweetid=[str(k) for k in range(5)], text=PHRASES[:5], lang=['en', 'es', 'ar', None, 'en']))
    made = dict(plain=table.write_csv().encode(), packed=gzip.compress(table.write_csv().encode()),
                sheet=b'\xef\xbb\xbf' + table.write_csv(separator=';', line_terminator='\r\n').encode())
    for name, data in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / ('posts.csv.gz' if name == 'packed' else 'POSTS.CSV')).write_bytes(data)
        (tmp_path / name / '._posts.csv').write_bytes(b'\0\5\x16\7')
    (tmp_path / 'typed').mkdir()
    table.with_columns(pl.col('tweetid').cast(pl.Int64)).write_parquet(tmp_path / 'typed/posts.parquet')
    (tmp_path / 'lines').mkdir()
    (tmp_path / 'lines/columns.toml').write_text('id = "tweetid"\ntext = "text"\nlanguage = "lang"\n')
    table.write_ndjson(tmp_path / 'lines/posts.jsonl')
    for name in (*made, 'typed', 'lines'):
        predict_file(model, tmp_path / name, tmp_path / f'{name}.csv', quiet=True)
        assert_same(tmp_path / f'{name}.csv', tmp_path / 'plain.csv')
    assert [row['geo_x'] for row in read(tmp_path / 'plain.csv')] == [''] * 5


def test_the_output_lies_apart_from_the_source(model, tmp_path):
    from socialprof.violence.predict import predict_file
    source = write_posts(tmp_path / 'posts.csv', random.Random(2), 4)
    for output in (source, tmp_path / 'out.csv', tmp_path / 'deep/out.csv'):
        with pytest.raises(ValueError, match='lies among'): predict_file(model, tmp_path, output, quiet=True)
    with pytest.raises(ValueError, match='lies among'): predict_file(model, source, source, quiet=True)


def test_the_command(python, model, source, whole, tmp_path):
    words = ['-m', 'socialprof', 'predict', model, source, tmp_path / 'scores.csv', '--rows', '100']
    done = python(*words, '--quiet')
    assert done.returncode == 0 and '3,000 posts scored by encoder full' in done.stdout and 'judge no single one' in done.stdout, done.stderr
    assert_same(tmp_path / 'scores.csv', whole)
    again = python(*words)
    assert again.returncode == 1 and 'is there already' in again.stderr and 'Traceback' not in again.stderr
