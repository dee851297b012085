"""The retweet twin: every damage is named with file and line, nothing is lost, a conversion survives a kill, what is written reads back."""
import os, random, re, signal, subprocess, sys, time, warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from corrupt_retweet import KINDS, LINES, ODDITIES, corrupt

from socialprof.core.formats import FormatError
from socialprof.core.reading import read_aside
from socialprof.retweet import convert as converting, data
from socialprof.retweet.columns import BY_NAME, INPUTS, LABELS, NAMES, as_frame, as_table, targets, types
from socialprof.retweet.convert import convert, files_of, quick_fingerprint
from socialprof.retweet.lines import checked, line_problems, lines, parse
from socialprof.retweet.world import EFFECTS, RATES, simulate, world

TABLE = world(600, seed=3)[0]
BLOCK = lines(TABLE)
ROWS = BLOCK.splitlines(keepends=True)


def folder_of(path: Path, cuts=(0, 250, 600)) -> Path:
    "A good folder of part files."
    path.mkdir()
    for k, (a, b) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)): (path / f'part-{k:05}.tsv').write_bytes(b''.join(ROWS[a:b]))
    return path

def rows_in(target: Path) -> pl.DataFrame: return pl.read_parquet(target / 'training' / '*.parquet')


@pytest.mark.parametrize('kind', KINDS)
def test_every_damage_is_named(kind, tmp_path):
    for seed in range(3):
        folder = folder_of(tmp_path / str(seed))
        words, line = corrupt(folder, kind, seed)
        with pytest.raises(FormatError) as refused: data.read(folder)
        assert words in str(refused.value)
        for problem in refused.value.problems: assert re.match(r'.*part-\d+\.tsv(:\d+)?: expected .+, found .+; .+', str(problem))
        if line: assert refused.value.problems[0].line == line


@pytest.mark.parametrize('kind', LINES)
def test_rows_set_aside_are_kept_to_the_byte(kind, tmp_path):
    "Rows read and rows set aside are the lines of the files."
    folder = folder_of(tmp_path / 'folder')
    corrupt(folder, kind)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.warns(UserWarning, match='set aside'): about = convert(folder, tmp_path / 'out', 'set-aside', piece=60_000)
    bad = read_aside(tmp_path / 'out/set-aside')
    assert len(bad) == about['set_aside'] == about['reading']['set_aside']['rows']
    for entry, raw in bad:
        assert raw == Path(entry['file']).read_bytes().split(b'\n')[entry['line'] - 1] + b'\n' and entry['reasons']
    assert about['rows']['training'] + about['set_aside'] == about['lines'] == sum(text.count(b'\n') for text in before.values())
    assert rows_in(tmp_path / 'out').height == about['rows']['training'] == about['reading']['rows']
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize('kind', ODDITIES)
def test_what_changes_no_result_is_read_and_noted(kind, tmp_path):
    for seed, piece in enumerate((2**25, 60_000)):
        folder = folder_of(tmp_path / str(seed))
        words, line = corrupt(folder, kind, seed)
        with pytest.warns(UserWarning, match=words): about = convert(folder, tmp_path / f'out {seed}', piece=piece)
        found, named = rows_in(tmp_path / f'out {seed}'), ' '.join(about['reading']['oddities'])
        times = [f'{label}_time' for label in LABELS]
        assert found.drop(times).equals(TABLE.drop(times)) and about['rows']['training'] + about['empty_lines'] == about['lines']
        assert not line or f':{line}' in named


def test_a_last_line_that_may_be_cut_is_refused(tmp_path):
    "Cut behind its last separator a line is whole but for the time of a like."
    rows = [row for row in ROWS if not row.endswith(b'\x01\n')][:5]
    cut = rows[-1][:rows[-1].rindex(b'\x01') + 1]
    (tmp_path / 'training.tsv').write_bytes(b''.join([*rows[:-1], cut]))
    with pytest.raises(FormatError, match='nothing in its last column'): data.read(tmp_path)
    (tmp_path / 'training.tsv').write_bytes(b''.join(rows)[:-1])
    with pytest.warns(UserWarning, match='without a line feed'): assert len(data.read(tmp_path)) == 5


def test_files_without_rows(tmp_path):
    folder = folder_of(tmp_path / 'in')
    (folder / 'part-00007').write_bytes(b'')
    for name in ('training2.csv', 'more.txt', 'part-00000.lzo.index', 'part-00000.crc', 'README.md'): (folder / name).write_bytes(b'x')
    with pytest.warns(UserWarning, match='files without a row'): frame = data.read(folder)
    assert len(frame) == 600 and len(frame.attrs['reading']['not_read']) == 5
    with pytest.warns(UserWarning, match=r'not read: 2 \(more.txt, training2.csv\)'): data.read(folder)
    for path in folder.glob('part*'): path.write_bytes(b'')
    with pytest.raises(FormatError, match='at least one row'): data.read(folder)


def test_many_bad_rows_of_all_kinds_at_once(tmp_path):
    "Twenty are shown and all are counted, whatever the pieces; the rest is what it was."
    rng, bad = random.Random(1), sorted(random.Random(0).sample(range(600), 80))
    spoilt = [rows.replace(b'\x01', b'\x01x', 1 + rng.randrange(5)) if k in bad else rows for k, rows in enumerate(ROWS)]
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/training.tsv').write_bytes(b''.join(spoilt))
    found = []
    for piece in (3_000, 50_000, 2**25):
        with pytest.raises(FormatError) as refused: convert(tmp_path / 'in', tmp_path / 'strict', piece=piece)
        found.append(str(refused.value))
        with pytest.warns(UserWarning): about = convert(tmp_path / 'in', tmp_path / f'{piece}', 'set-aside', piece=piece)
        assert about['set_aside'] == 80 and rows_in(tmp_path / f'{piece}').equals(TABLE[[k for k in range(600) if k not in bad]])
    assert len(set(found)) == 1 and len(refused.value.problems) == 20 and refused.value.total >= 80


def test_doubled_pairs_across_files(tmp_path):
    folder = folder_of(tmp_path / 'in')
    (folder / 'part-00002.tsv').write_bytes(b''.join(ROWS[10:13]))
    with pytest.raises(FormatError, match='3 problems') as refused: data.read(folder)
    assert refused.value.problems[0].line == 1 and 'part-00000.tsv:11' in str(refused.value)
    with pytest.warns(UserWarning): about = convert(folder, tmp_path / 'out', 'set-aside', piece=20_000)
    assert about['doubled'] == about['set_aside'] == 3 and rows_in(tmp_path / 'out').equals(TABLE)
    assert (tmp_path / 'out/set-aside/rows').read_bytes() == b''.join(ROWS[10:13])


def test_equal_keys_are_only_a_suspicion(tmp_path, monkeypatch):
    "With keys that tell nothing apart no good row is called a double."
    monkeypatch.setattr(converting, 'pair_keys', lambda table: np.arange(table.height, dtype=np.uint64) % 7)
    folder = folder_of(tmp_path / 'in')
    assert convert(folder, tmp_path / 'out', piece=20_000, workers=1)['doubled'] == 0 and rows_in(tmp_path / 'out').equals(TABLE)


@pytest.mark.parametrize('piece', [150, 4_001, 2**25])
def test_pieces_of_any_size(piece, tmp_path):
    (tmp_path / 'training.tsv').write_bytes(b''.join(ROWS[:40]))
    convert(tmp_path / 'training.tsv', tmp_path / 'out', piece=piece, workers=1, rows_per_group=7)
    assert rows_in(tmp_path / 'out').equals(TABLE[:40])


def killed_and_resumed(folder: Path, target: Path, bad_rows: str, pieces: int) -> dict:
    "Convert, kill -9 when some pieces are done, convert again."
    code = f'from socialprof.retweet.convert import convert; convert({str(folder)!r}, {str(target)!r}, {bad_rows!r}, piece=4000, workers=2)'
    process = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(3000):
        if len(list(target.glob('_work/*-*.json'))) >= pieces or process.poll() is not None: break
        time.sleep(.01)
    assert process.poll() is None, 'it was done before it could be killed: ' + process.stderr.read().decode()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (target / 'about.json').exists()
    with pytest.raises(ValueError, match='under way'): data.scan(target)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return convert(folder, target, bad_rows, piece=4000, workers=1)


def test_killed_and_resumed_equals_unbroken(tmp_path, capsys):
    folder = folder_of(tmp_path / 'in')
    corrupt(folder, 'a count a word')
    corrupt(folder, 'a pair twice')
    with pytest.warns(UserWarning): whole = convert(folder, tmp_path / 'whole', 'set-aside', piece=4000, workers=1)
    again = killed_and_resumed(folder, tmp_path / 'broken', 'set-aside', 5)
    assert again['resumed'] >= 5 and whole['resumed'] == 0 and 'going on after' in capsys.readouterr().err
    for about in (whole, again): about['reading']['set_aside'].pop('folder')
    changing = {'seconds', 'peak_memory_mb', 'resumed'}
    assert {k: v for k, v in again.items() if k not in changing} == {k: v for k, v in whole.items() if k not in changing}
    files = [sorted(p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob('*') if p.is_file()) for name in ('whole', 'broken')]
    assert files[0] == files[1]
    for path in files[0]:
        if path.name != 'about.json': assert (tmp_path / 'whole' / path).read_bytes() == (tmp_path / 'broken' / path).read_bytes()


def test_another_source_begins_anew_and_strangers_are_left_alone(tmp_path):
    folder = folder_of(tmp_path / 'in')
    convert(folder, tmp_path / 'out', piece=20_000)
    (folder / 'part-00001.tsv').write_bytes(b''.join(ROWS[250:300]))
    assert convert(folder, tmp_path / 'out', piece=20_000)['rows'] == {'training': 300} and rows_in(tmp_path / 'out').equals(TABLE[:300])
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/letter.txt').write_text('dear all')
    with pytest.raises(ValueError, match='letter.txt'): convert(folder, tmp_path / 'mine')
    assert (tmp_path / 'mine/letter.txt').exists()
    (tmp_path / 'theirs/training').mkdir(parents=True)
    (tmp_path / 'theirs/training/part-00000').write_bytes(BLOCK)
    for target in ('theirs', 'theirs/training', 'theirs/new', '.'):
        with pytest.raises(ValueError, match='apart'): convert(tmp_path / 'theirs', tmp_path / target)
    with pytest.raises(ValueError, match='found training'): convert(folder, tmp_path / 'theirs', resume=False)
    assert (tmp_path / 'theirs/training/part-00000').read_bytes() == BLOCK


def test_header_aliases_parquet_and_folders(tmp_path):
    names = [(c.aliases[0] if c.name.startswith('reader') else c.official) for c in BY_NAME.values()]
    sources = {'header.tsv': '\x01'.join(names).encode() + b'\n' + BLOCK, 'comma.tsv': ','.join(names).encode() + b'\n' + BLOCK.replace(b'\x01', b',')}
    for name, content in sources.items():
        (tmp_path / name).write_bytes(content)
        with pytest.warns(UserWarning, match='a header, passed over'): found = data.read(tmp_path / name)
        assert as_table(found).equals(TABLE)
    TABLE.rename(dict(zip(NAMES, names, strict=True))).write_parquet(tmp_path / 'named.parquet', row_group_size=100)
    assert as_table(data.read(tmp_path / 'named.parquet')).equals(TABLE)
    flat = TABLE.with_columns(pl.col('text_tokens').cast(pl.List(pl.String)).list.join('\t'))  # lists as the text files have them
    flat.with_columns(pl.Series('text_tokens', ['101\tx\t102' if k == 5 else text for k, text in enumerate(flat['text_tokens'])])).write_parquet(
        tmp_path / 'bad.parquet')
    with pytest.raises(FormatError, match=r'bad\.parquet:6: expected token ids'): data.read(tmp_path / 'bad.parquet')
    for part, rows in (('training', ROWS[:300]), ('val', ROWS[300:500])):
        (tmp_path / 'parts' / part).mkdir(parents=True)
        (tmp_path / 'parts' / part / 'part-00000').write_bytes(b''.join(rows))
    (tmp_path / 'parts/competition_test.tsv').write_bytes(lines(TABLE[500:], INPUTS))
    about = convert(tmp_path / 'parts', tmp_path / 'out')
    assert about['rows'] == {'training': 300, 'val': 200, 'test': 100} and about['labelled'] == {'training': True, 'val': True, 'test': False}
    assert data.scan(tmp_path / 'out', 'test').collect().equals(TABLE[500:].select(INPUTS))
    with pytest.raises(LookupError, match='training, val, test'): data.scan(tmp_path / 'out', 'dev')


def test_labels_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/val.tsv').write_bytes(lines(TABLE, INPUTS))
    assert data.tasks_in(tmp_path / 'in') == [] and list(data.read(tmp_path / 'in')) == list(INPUTS)
    with pytest.raises(FormatError, match='24 columns'): data.load('four', tmp_path / 'in')
    with pytest.raises(ValueError, match='20 columns'): targets(data.read(tmp_path / 'in'))
    (tmp_path / 'empty').mkdir()
    for nowhere in (tmp_path / 'nowhere', tmp_path / 'empty'):
        with pytest.raises(FileNotFoundError, match=nowhere.name): data.read(nowhere)


def test_the_source_is_only_read(tmp_path, monkeypatch):
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path / 'cache'))
    folder = folder_of(tmp_path / 'in')
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    for path in (*folder.iterdir(), folder): path.chmod(0o555 if path.is_dir() else 0o444)
    frame, _ = data.load('retweet', folder)
    assert data.source_info(folder)['fingerprint'] == quick_fingerprint(files_of(folder)) and len(frame) == 600
    folder.chmod(0o755)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()} == before


def test_samples_are_whole_readers(tmp_path):
    frame = data.write(simulate(rows=4000, seed=2), tmp_path / 'in') and data.read(tmp_path / 'in')
    convert(tmp_path / 'in', tmp_path / 'out', piece=100_000)
    for sample in (50, 500, 3999):
        found = data.read(tmp_path / 'out', sample=sample, seed=1)
        assert 0 < len(found) <= sample and len(found) > .9 * sample and len(found) == frame.reader_id.isin(found.reader_id).sum()
        pd.testing.assert_frame_equal(found, data.read(tmp_path / 'out', sample=sample, seed=1))
        pd.testing.assert_frame_equal(found, frame[frame.reader_id.isin(found.reader_id)].reset_index(drop=True))
    assert len(data.read(tmp_path / 'out', sample=5000)) == 4000


hexes = st.text('0123456789abcdefABCDEF', min_size=1, max_size=40)
ids = st.text('0123456789abcdefABCDEF', min_size=32, max_size=32)
seconds, counts = st.integers(1_136_073_600, 2_000_000_000), st.integers(0, 10**10 - 1)
inner = st.lists(st.integers(103, 119_546), max_size=8)
media = st.lists(st.sampled_from(['Photo', 'Video', 'GIF']), max_size=4)
by_kind = {'tokens': inner.map(lambda t: [101, *t, 102]), 'hashes': st.lists(hexes, max_size=3), 'media': media,
           'id': ids, 'hash': hexes, 'type': st.sampled_from(['TopLevel', 'Retweet', 'Quote', 'Reply']), 'count': counts, 'flag': st.booleans(),
           'time': seconds, 'label': st.none() | st.integers(2_000_000_000, 4_102_444_800)}
rows = st.fixed_dictionaries({name: by_kind[BY_NAME[name].kind] for name in NAMES})

@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(found=st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: (row['tweet_id'], row['reader_id'])), labels=st.booleans())
def test_what_is_written_reads_back(found, labels, tmp_path_factory):
    frame = as_frame(pl.DataFrame(found, schema=types()).select(list(types(labels))))
    folder = data.write(frame, tmp_path_factory.mktemp('folder'))
    pd.testing.assert_frame_equal(data.read(folder), frame)


@pytest.mark.parametrize('number, name', list(enumerate(NAMES)))
def test_a_tab_or_a_sign_at_the_edge_of_a_field(number, name):
    "In every column, by the fast way and by the slow one: a reader of CSV files may pass over them."
    for before, after in ((b'\t', b''), (b'', b'\t'), (b'-', b''), (b'+', b'')):
        fields = ROWS[4].removesuffix(b'\n').split(b'\x01')
        fields[number] = before + (fields[number] or b'1') + after
        spoilt = b'\x01'.join(fields) + b'\n'
        assert parse(spoilt) is None and line_problems(spoilt), (name, before, after)


@settings(max_examples=300, deadline=None)
@given(row=st.integers(0, 20), at=st.integers(0, 400), cut=st.integers(0, 3),
       put=st.binary(max_size=3) | st.sampled_from([b'\t', b'\x01', b'\n', b'0', b'-', b'F', b'g', b'true', b'.', b'101\t']))
def test_fast_and_slow_agree(row, at, cut, put):
    "Whatever bytes are changed: the block is good for the fast way exactly if each line is good for the slow one."
    line = ROWS[row]
    spoilt = line[:at] + put + line[at + cut:]
    each = re.findall(rb'[^\n]*\n|[^\n]+', spoilt)
    good = [not line_problems(one) for one in each]
    assert (parse(spoilt) is not None) == (bool(good) and all(good))
    tables, bad = checked(ROWS[21] + spoilt + ROWS[22] if spoilt.endswith(b'\n') else ROWS[21] + spoilt)
    assert sum(map(len, tables)) + len(bad) == len(re.findall(rb'[^\n]*\n|[^\n]+', ROWS[21] + spoilt)) + spoilt.endswith(b'\n')


def test_refuses_to_write_what_it_would_not_read(tmp_path):
    frame = as_frame(TABLE)
    for change in (dict(tweet_id=['short'] * 600), dict(author_followers=-1), dict(tweet_type='Top\x01Level'), dict(language='')):
        with pytest.raises(FormatError, match='training.tsv:1'): data.write(frame.assign(**change), tmp_path / 'out')
    assert not list(tmp_path.glob('out/*'))


def test_same_seed_same_bytes(tmp_path, python):
    code = 'from socialprof.retweet import data; import sys; data.write(data.simulate(rows=3000, seed=7), sys.argv[1])'
    assert python('-c', code, tmp_path / 'other').returncode == 0
    data.write(simulate(rows=3000, seed=7), tmp_path / 'here')
    data.write(simulate(rows=3000, seed=8), tmp_path / 'third')
    texts = [(tmp_path / name / 'training.tsv').read_bytes() for name in ('here', 'other', 'third')]
    assert texts[0] == texts[1] != texts[2]


def test_rates_stay_whatever_is_switched_off():
    "Mean over 40,000 rows within four standard errors of the published rate; readers' rows hang together, so twice that is allowed."
    for effects in ({}, *({name: 0} for name in EFFECTS), dict.fromkeys(EFFECTS, 0)):
        _, truth, _ = world(40_000, 1, **effects)
        for label in LABELS: assert abs(truth[label].mean() - RATES[label]) < .003, (effects, label)
    frame = simulate(rows=40_000, seed=1)
    for label, rate in RATES.items(): assert abs(frame[f'{label}_time'].notna().mean() - rate) < 4 * (rate * (1 - rate) / 40_000) ** .5
    readers, posts = frame.reader_id.value_counts(), frame.tweet_id.value_counts()
    assert readers.median() == 2 and 7 <= readers.quantile(.9) <= 9 and posts.median() == 1 and posts.quantile(.9) == 3
    assert not frame.duplicated(['tweet_id', 'reader_id']).any() and (frame.author_id != frame.reader_id).all()


def test_metadata_say_whose_ids(tmp_path):
    frame = simulate(rows=300)
    convert(data.write(frame, tmp_path / 'in'), tmp_path / 'out')
    told = pq.read_schema(next((tmp_path / 'out/training').glob('*.parquet'))).metadata[b'tokenizer'].decode()
    assert told == frame.attrs['tokenizer'] == data.read(tmp_path / 'out').attrs['tokenizer']


def test_submission_is_checked(tmp_path):
    frame = as_frame(TABLE)
    good = frame[['tweet_id', 'reader_id']].assign(**{f'score.{label}': np.linspace(0, 1, 600) for label in LABELS})
    data.write_submission((good[a:a + 100] for a in range(0, 600, 100)), tmp_path)
    pd.testing.assert_frame_equal(data.read_submission(tmp_path, frame), good, check_dtype=False)
    with pytest.raises(ValueError, match='0 to 1'): data.write_submission(good.assign(**{'score.quote': np.nan}), tmp_path / 'none')
    assert not list(tmp_path.glob('none/*'))
    path, whole = tmp_path / 'retweet.csv', (tmp_path / 'retweet.csv').read_text().splitlines()
    for changed, words in ((whole[1:], 'found none'), ([*whole, whole[0]], 'once'), ([whole[0][:66] + '1.2', *whole[1:]], '1.2'),
                           (['tweet_id,user_id,p', *whole], 'no header'), ([*whole, '0' * 32 + whole[0][32:]], 'asked for'),
                           ([whole[0] + ',1', *whole[1:]], 'probability')):
        path.write_text('\n'.join(changed) + '\n')
        with pytest.raises(FormatError, match=words): data.read_submission(tmp_path, frame)
    path.unlink()
    with pytest.raises(FormatError, match='retweet.csv'): data.read_submission(tmp_path, frame)
