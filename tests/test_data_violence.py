"""The violence twin: every damage is named, what is written reads back, and real files pass where there are any."""
import os, random, re, sys, warnings
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from corrupt_violence import EMPTY, KINDS, ODDITIES, ROWS, corrupt, rows_of, write_rows

from socialprof.core.formats import FormatError
from socialprof.core.reading import read_aside
from socialprof.violence import data
from socialprof.violence.labels import LABELS, SIX

REAL = Path(os.environ.get('SOCIALPROF_SHARED_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data') / 'crisislex26'
SMALL = data.simulate('all', seed=3, rows=6000).iloc[:60].reset_index(drop=True)  # of a few days: in order of time


@pytest.fixture(autouse=True)
def quiet(tmp_path_factory, monkeypatch):
    "What reading merely notes is tested below; rows that are set aside go to a cache of the test's own."
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path_factory.mktemp('cache')))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        yield


@pytest.mark.parametrize('kind', KINDS)
def test_every_damage_is_named(kind, tmp_path):
    for seed in range(4):
        folder = data.write(SMALL, tmp_path / str(seed), 'all')
        wanted = corrupt(folder, kind, seed)
        with pytest.raises(FormatError) as refused: data.read(folder, 'all')
        assert all(re.match(r'[^:]*\.csv(:\d+)?: expected .+, found .+; .+', str(problem).replace('\n', ' ')) for problem in refused.value.problems)
        assert wanted in str(refused.value)


@pytest.mark.parametrize('kind', [*ODDITIES, *EMPTY])
def test_what_changes_no_result_is_read_and_noted(kind, tmp_path):
    for seed in range(2):
        folder = data.write(SMALL, tmp_path / str(seed), 'all')
        words = corrupt(folder, kind, seed)
        frame = data.read(folder, 'all')
        notes = frame.attrs['reading']['oddities']
        assert any(words in note for note in notes) if words else not notes
        if kind in EMPTY: assert 0 < len(frame) < len(SMALL) and SMALL.id.isin(frame.id).sum() == len(frame)
        else: pd.testing.assert_frame_equal(frame.drop(columns='language'), SMALL.drop(columns='language'))


@pytest.mark.parametrize('kind', ROWS)
def test_rows_set_aside_are_kept_to_the_byte(kind, tmp_path):
    "Rows read and rows set aside are the rows of the files; the rows read are what they were."
    for seed in range(4):
        folder = data.write(SMALL, tmp_path / str(seed), 'all')
        corrupt(folder, kind, seed)
        bytes_of = {path.as_posix(): path.read_bytes() for path in folder.glob('*.csv')}
        frame = data.read(folder, 'all', bad_rows='set-aside')
        outcome = frame.attrs['reading']
        bad = read_aside(outcome['set_aside']['folder'])
        more = kind in ('id twice', 'the header again')
        assert len(frame) == outcome['rows'] and len(frame) + len(bad) == len(SMALL) + more and len(bad) == 1
        entry, raw = bad[0]
        lines = bytes_of[Path(entry['file']).as_posix()].split(b'\n')
        assert b'\n'.join(lines[entry['line'] - 1:]).startswith(raw) and entry['reasons']
        kept = SMALL[SMALL.id.isin(frame.id)].reset_index(drop=True)
        pd.testing.assert_frame_equal(frame, kept)
        assert {path.as_posix(): path.read_bytes() for path in folder.glob('*.csv')} == bytes_of


def test_damage_of_all_kinds_at_once(tmp_path):
    "Files are damaged again and again: every row is read or set aside, and none is both."
    bytes_wise = [kind for kind, (change, _) in ROWS.items() if getattr(change, 'raw', False) and kind != 'cut short']
    for seed in range(6):
        folder = data.write(SMALL, tmp_path / str(seed), 'all')
        rng = random.Random(seed)
        kinds = [*rng.choices(sorted(ROWS.keys() - {'cut short', *bytes_wise}), k=9), *rng.choices(bytes_wise, k=4)]
        for kind in kinds: corrupt(folder, kind, rng.randrange(99))
        frame = data.read(folder, 'all', bad_rows='set-aside')
        bad = read_aside(frame.attrs['reading']['set_aside']['folder'])
        assert len(frame) + len(bad) == len(SMALL) + sum(kind in ('id twice', 'the header again') for kind in kinds) and len(bad) > 3
        assert all(raw in Path(entry['file']).read_bytes() for entry, raw in bad)
        pd.testing.assert_frame_equal(frame, SMALL[SMALL.id.isin(frame.id)].reset_index(drop=True))


def test_no_row_at_all_is_refused(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder', 'all')
    for path in folder.glob('*.csv'): path.write_text(path.read_text(encoding='utf-8').split('\n')[0] + '\n', encoding='utf-8')
    with pytest.raises(FormatError, match='at least one post'): data.read(folder, 'all')


def test_lines_are_those_of_the_file(tmp_path):
    "Texts that go over several lines do not move the line that is named."
    folder = data.write(SMALL.assign(text=[f'one\ntwo\n"three", {i}' for i in range(len(SMALL))]), tmp_path / 'folder', 'all')
    path = max(folder.glob('*.csv'), key=lambda p: len(rows_of(p)))
    rows = rows_of(path)
    rows[-1][rows[0].index('geo_x')] = 'klingon'
    write_rows(path, rows)
    with pytest.raises(FormatError) as refused: data.read(folder, 'all')
    assert refused.value.problems[0].line == 2 + 3 * (len(rows) - 2) and 'klingon' in str(refused.value)


def test_twenty_at_a_time(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder', 'all')
    for path in folder.glob('*.csv'):
        rows = rows_of(path)
        for row in rows[1:]: row[rows[0].index('geo_x')] = 'zz'
        write_rows(path, rows)
    with pytest.raises(FormatError, match='60 problems') as refused: data.read(folder, 'all')
    assert len(refused.value.problems) == 20 and '40 more' in str(refused.value)


def test_an_id_in_two_files(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder', 'all')
    first, second, *_ = sorted(folder.glob('*.csv'))
    a, b = rows_of(first), rows_of(second)
    b[1][b[0].index('tweetid')] = a[1][a[0].index('tweetid')]
    write_rows(second, b)
    with pytest.raises(FormatError, match=first.name) as refused: data.read(folder, 'all')
    assert second.name in str(refused.value)


def test_no_folder_and_no_files(tmp_path):
    for folder in (tmp_path / 'nowhere', tmp_path):
        with pytest.raises((FormatError, OSError), match=folder.name): data.read(folder, 'all')


def test_a_missing_text_is_an_empty_one(tmp_path):
    "Two of the 23 million real rows have none: they are read, and counted."
    folder = data.write(SMALL, tmp_path / 'folder', 'all')
    path = min(folder.glob('*.csv'))
    rows = rows_of(path)
    rows[1][rows[0].index('text')] = ''
    write_rows(path, rows)
    frame = data.read(folder, 'all')
    assert len(frame) == len(SMALL) and frame.text[0] == '' and 'posts without a text' in frame.attrs['reading']['oddities'][0]


ugly = st.text(st.characters(exclude_categories=('Cs',), exclude_characters='\x00'), max_size=40) | st.sampled_from(
    ['', ' ', '\n', '"', '""', ',', ',\n"', '\r\n', 'a\rb', 'مرحبا\nبكم', '👮🏽‍♀️, "x"', '\ufeff', 'RT @a: b', "'", '\\', '\t'])

@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(ugly, min_size=1, max_size=5), task=st.sampled_from(['all', 'six']))
def test_what_is_written_reads_back(texts, task, tmp_path_factory):
    frame = data.simulate(task, seed=1, rows=5).iloc[:len(texts)].assign(text=pd.Series(texts, dtype='str')).reset_index(drop=True)
    folder = data.write(frame, tmp_path_factory.mktemp('folder'), task)
    found = data.read(folder, task)
    kept = [name for name in found if not (task == 'six' and name not in ('text', *SIX))]
    pd.testing.assert_frame_equal(found[kept].reset_index(drop=True), frame[kept], check_dtype=False)


def test_six_of_forty_and_a_sample(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder', 'all')
    six, sample = data.read(folder, 'six'), data.read(folder, 'all', sample=20, seed=1)
    assert not set(LABELS) - set(SIX) & set(six) and len(six) == len(SMALL) and len(sample) == 20
    assert set(sample.id) < set(SMALL.id) and not set(sample.id) == set(data.read(folder, 'all', sample=20, seed=2).id)
    pd.testing.assert_frame_equal(sample, data.read(folder, 'all', sample=20, seed=1))


def test_custom_folders(tmp_path):
    (tmp_path / 'columns.toml').write_text('text = "post"\nlabel = "kind"\ngroup = "event"\n')
    (tmp_path / 'posts.csv').write_text('post,kind,event\n"a, b",x,1\nc,y,1\nd,x,2\n')
    frame, task = data.read_task(tmp_path, 'custom')
    assert task.labels == ('x', 'y') and frame[['x', 'y']].to_numpy().tolist() == [[1, 0], [0, 1], [1, 0]] and list(frame.group) == ['1', '1', '2']
    for text, words in (('text = "post"\nlable = "kind"\n', 'lable'), ('text = "posts"\nlabel = "kind"\n', 'posts'), ('text = "post"\n', 'label'),
                        ('text = [', 'columns.toml')):
        (tmp_path / 'columns.toml').write_text(text)
        with pytest.raises(FormatError, match=words): data.read(tmp_path, 'custom')
    (tmp_path / 'columns.toml').unlink()
    with pytest.raises((FormatError, OSError), match='columns.toml'): data.read(tmp_path, 'custom')


@pytest.mark.skipif(not REAL.is_dir(), reason='no real files here')
def test_real_files():
    with pytest.warns(UserWarning, match='twice'): frame, task = data.read_task(REAL, 'custom')
    assert len(frame) == 27_933 and frame.group.nunique() == 26 and len(task.labels) == 8 and (frame[list(task.labels)].sum(axis=1) == 1).all()
