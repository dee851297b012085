"""The PAN'23 twin: every damage is named, what is written reads back, and real folders pass where there are any."""
import gzip, os, re, sys, tracemalloc
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from corrupt_influencer import DAMAGES, FOLDERS, KINDS, ODDITIES, ROWS, corrupt

from socialprof.core.formats import FormatError, change_record, write_jsonl
from socialprof.core.reading import read_aside
from socialprof.influencer import data

REAL = Path(os.environ.get('SOCIALPROF_SHARED_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data') / 'pan_format'
SMALL = data.simulate('profiling', seed=3, users_per_label=2)
WHOLE_FILE = {'no texts', 'no truth', 'test truth alone', 'file misnamed'}  # no line to name


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    "Rows that are set aside go to a cache of the test's own."
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path_factory.mktemp('cache')))


@pytest.mark.parametrize('kind', sorted(KINDS.keys() - {'a line of 2 GB'}))
def test_every_damage_is_named(kind, tmp_path):
    for seed in range(1 if kind == 'long line' or kind in FOLDERS else 8 if kind in DAMAGES else 4):
        folder = data.write(SMALL, tmp_path / str(seed), 'profiling')
        wanted = corrupt(folder, kind, seed)
        with pytest.raises(FormatError) as refused: data.read(folder, 'profiling')
        place = r'[^:]*_(text|truth)\.json' + ('' if kind in WHOLE_FILE else r':\d+')
        assert all(re.match(rf'{place}: expected .+, found .+; .+', str(problem)) for problem in refused.value.problems)
        assert wanted in str(refused.value)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', ODDITIES)
def test_what_changes_no_result_is_read_and_noted(kind, tmp_path):
    for seed in range(2):
        folder = data.write(SMALL, tmp_path / str(seed), 'profiling')
        words = corrupt(folder, kind, seed)
        frame = data.read(folder, 'profiling')
        assert any(words in note for note in frame.attrs['reading']['oddities'])
        pd.testing.assert_frame_equal(frame[['user', 'label', 'split']], SMALL[['user', 'label', 'split']])
        assert frame.texts.map(lambda texts: [text for text in texts if text.strip()]).equals(SMALL.texts)


@pytest.mark.parametrize('kind', ROWS)
def test_rows_set_aside_are_kept_to_the_byte(kind, tmp_path):
    "Lines read and lines set aside are the lines of the files; the users read are what they were."
    for seed in range(3):
        folder = data.write(data.simulate('profiling', seed=4, users_per_label=3), tmp_path / str(seed), 'profiling')
        whole = data.read(folder, 'profiling')
        corrupt(folder, kind, seed)
        bytes_of = {path.name: path.read_bytes() for path in folder.iterdir()}
        frame = data.read(folder, 'profiling', bad_rows='set-aside')
        outcome = frame.attrs['reading']
        bad = read_aside(outcome['set_aside']['folder'])
        assert outcome['rows'] + len(bad) == sum(len(content.splitlines()) for content in bytes_of.values())
        assert 1 <= len(bad) == outcome['set_aside']['rows'] <= 2 and outcome['rows'] == 2 * len(frame)
        for entry, raw in bad:
            lines = bytes_of[Path(entry['file']).name].splitlines(keepends=True)
            assert lines[entry['line'] - 1] == raw and entry['reasons']
        pd.testing.assert_frame_equal(frame, whole[whole.user.isin(frame.user)].reset_index(drop=True))


def test_packed_by_gzip(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder', 'profiling')
    for path in list(folder.iterdir()):
        with gzip.open(f'{path}.gz', 'wb') as file: file.write(path.read_bytes())
        path.unlink()
    pd.testing.assert_frame_equal(data.read(folder, 'profiling'), SMALL)
    cut = (folder / 'train_text.json.gz').read_bytes()[:-30]
    (folder / 'train_text.json.gz').write_bytes(cut)
    with pytest.raises(FormatError, match='a whole gzip file'): data.read(folder, 'profiling')


def test_files_that_nothing_reads_are_named(tmp_path):
    folder = data.write(SMALL, tmp_path / 'source' / 'profiling', 'profiling')
    data.write(data.simulate('intent', users_per_label=2), tmp_path / 'source' / 'intent', 'intent')
    for name in ('train2_text.json', 'more/posts.csv', 'README.md', '._train_text.json'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('{}')
    with pytest.warns(UserWarning, match=r'not read: 2 \(more/posts.csv, train2_text.json\)'): frame = data.read(tmp_path / 'source', 'profiling')
    assert frame.attrs['reading']['not_read'] == ['README.md', 'more/posts.csv', 'train2_text.json']


def peak(call):
    "Most bytes that Python held for a call, and what it raised."
    tracemalloc.start()
    try: call()
    except FormatError as error: raised = error
    else: raised = None
    finally: most = (tracemalloc.get_traced_memory()[1], tracemalloc.stop())[0]
    return most, raised

def test_a_line_of_2_gb_is_not_held(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder', 'profiling')
    wanted = corrupt(folder, 'a line of 2 GB')
    most, refused = peak(lambda: data.read(folder, 'profiling'))
    assert wanted in str(refused) and most < 150 * 2**20


def test_twenty_at_a_time(tmp_path):
    folder = data.write(data.simulate('profiling', users_per_label=8), tmp_path / 'folder', 'profiling')
    text = (folder / 'train_truth.json').read_text()
    (folder / 'train_truth.json').write_text(re.sub('"class": "[^"]*"', '"class": "whale"', text))
    with pytest.raises(FormatError, match='40 problems') as refused: data.read(folder, 'profiling')
    assert len(refused.value.problems) == 20 and str(refused.value).endswith('… and 20 more')
    assert all('train_truth.json' in str(problem) for problem in refused.value.problems)


def test_layouts(tmp_path):
    "One folder a task under either name, or the files themselves; unknown tasks are told the names."
    for source, inside in (('named', 'profiling'), ('numbered', 'subtask1'), ('files', '.')):
        data.write(SMALL, tmp_path / source / inside, 'profiling')
        pd.testing.assert_frame_equal(data.read(tmp_path / source, 'subtask1'), SMALL)
    with pytest.raises(LookupError, match='there are: profiling, interest, intent, custom, subtask1'): data.read(tmp_path, 'subtask4')
    with pytest.raises(FormatError, match='expected a folder, found nothing there'): data.read(tmp_path / 'nowhere', 'profiling')
    with pytest.raises(FormatError, match='train_text.json: expected this file'): data.read(tmp_path / 'named', 'interest')


def test_unknown_keys_are_named(tmp_path):
    folder = data.write(SMALL, tmp_path / 'folder', 'profiling')
    change_record(folder / 'train_text.json', lambda r: r | {'followers': 9, data.TEXTS: [post | {'lang': 'en'} for post in r[data.TEXTS]]})
    with pytest.warns(UserWarning, match=r'keys that are not used \(followers, texts.lang\): 1 \(train_text.json\)'): frame = data.read(folder, 'profiling')
    pd.testing.assert_frame_equal(frame, SMALL)


def test_custom_folders(tmp_path):
    "Classes from the truth, or from definitions.json; ids may be left out."
    frame = SMALL.assign(ids=None, label=SMALL.label.map(str.title).astype(object))
    folder = data.write(frame, tmp_path / 'folder', 'custom')
    pd.testing.assert_frame_equal(data.read(folder, 'custom').assign(ids=None), frame)
    assert data.task_of('custom', folder).labels == ('Macro', 'Mega', 'Micro', 'Nano', 'No Influencer')
    change_record(folder / 'test_truth.json', lambda r: r | {data.CLASS: 'macr'})
    with pytest.raises(FormatError, match='found "macr"; write "Macro"'): data.read(folder, 'custom')

    own = data.custom_task(('Nano', 'Mega', 'Micro', 'Macro', 'No Influencer'), {label: f'{label}!' for label in set(frame.label)})
    data.write(frame, folder, own)
    found = data.read_task(folder, 'custom')[1]
    assert set(found.labels) == set(own.labels) and found.definitions == own.definitions
    for text, message in (('{"Nano": " "}', 'a sentence for "Nano"'), ('["Nano"]', 'expected a JSON object, found a list'), ('{', 'found none'),
                          ('{"Nano": "n", "Nano": "m"}', 'the key "Nano" twice'), ('{"nan": "n"}', 'found "Nano"; write "nan"')):
        (folder / 'definitions.json').write_text(text)
        with pytest.raises(FormatError, match=re.escape(message)): data.read(folder, 'custom')


words = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=30).filter(str.strip)

@st.composite
def frames(draw):
    "A frame and its task: any Unicode in users, posts, ids and classes; ids and test truth there or not."
    labels = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    sizes = {'train': draw(st.integers(len(labels), 6)), 'test': draw(st.integers(0, 3))}
    users = draw(st.lists(words, min_size=sum(sizes.values()), max_size=sum(sizes.values()), unique=True))
    texts = [draw(st.lists(words, min_size=1, max_size=3)) for _ in users]
    ids = [draw(st.none() | st.lists(words, min_size=len(t), max_size=len(t))) for t in texts]
    truth = [*labels, *draw(st.lists(st.sampled_from(labels), min_size=len(users) - len(labels), max_size=len(users) - len(labels)))]
    if draw(st.booleans()): truth[sizes['train']:] = [None] * sizes['test']
    return data._frame(users, texts, ids, truth, ['train'] * sizes['train'] + ['test'] * sizes['test']), data.custom_task(labels)

@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(made=frames())
def test_what_is_written_reads_back(made, tmp_path):
    frame, task = made
    found, found_task = data.read_task(data.write(frame, tmp_path, task), 'custom')
    pd.testing.assert_frame_equal(found, frame)
    assert found_task == task


def test_what_could_not_be_read_is_not_written(tmp_path):
    broken = {
        'half a surrogate pair': SMALL.assign(texts=[['\ud83c', *t[1:]] if len(t) > 1 else ['\ud83c'] for t in SMALL.texts]),
        'user twice': SMALL.assign(user='a'), 'an id less': SMALL.assign(ids=[ids[1:] for ids in SMALL.ids]), 'no class': SMALL.assign(label=None),
        'some test users hidden': SMALL.assign(label=[*SMALL.label[:-1], None]), 'a split of its own': SMALL.assign(split='dev'),
        'a class missing': SMALL[SMALL.label != 'mega'], 'test first': SMALL[::-1], 'a column missing': SMALL.drop(columns='ids'),
    }
    for kind, frame in broken.items():
        with pytest.raises(FormatError): data.write(frame, tmp_path / 'none', 'profiling')
        assert not (tmp_path / 'none').exists(), kind


@pytest.mark.parametrize('task', ['profiling', 'interest', 'intent', 'custom'])
def test_simulation_has_the_published_sizes(task):
    frame = data.simulate(task, seed=5)
    train, test = frame[frame.split == 'train'], frame[frame.split == 'test']
    assert set(train.label.value_counts()) == {data.USERS_PER_LABEL[task]} and len(test) == 220
    assert frame.user.str.fullmatch('[0-9a-f]{32}').all() and frame.user.is_unique
    if task == 'profiling':
        assert (train.texts.map(len).groupby(train.label).mean() - pd.Series(dict(zip(data.INFLUENCER, data.MEANS, strict=True)))).abs().max() < .4
        assert test.texts.map(len).astype(int).corr(test.label.map(dict(zip(data.INFLUENCER, range(5), strict=True))).astype(int)) < .2
    if task in data.LEANINGS: assert (frame.texts.map(len) == 1).all()


@pytest.mark.parametrize('name', ['emotion', 'emoji5'])
def test_real_folders(name, tmp_path):
    if not (REAL / name).is_dir(): pytest.skip('no real folders: set SOCIALPROF_SHARED_DATA')
    frame, task = data.read_task(REAL / name, 'custom')
    assert frame.ids.notna().all() and frame.label.notna().all() and len(task.labels) in (4, 5)
    pd.testing.assert_frame_equal(data.read(data.write(frame, tmp_path, task), 'custom'), frame)
    assert data.source_info(REAL / name)['kind'] == 'real'
    assert len(data.describe(frame, task)) > 10


def test_memory_is_linear(tmp_path):
    "Four times the users, four times the memory."
    most = {}
    for n in (2_000, 8_000):
        write_jsonl(tmp_path / f'{n}/train_text.json', (data._record(f'{k:032x}', [f'{k} gm {j} ' * 9 for j in range(6)],
                                                                     [f'{6 * k + j:032x}' for j in range(6)]) for k in range(n)))
        write_jsonl(tmp_path / f'{n}/train_truth.json', ({data.USER: f'{k:032x}', data.CLASS: ('nano', 'mega')[k % 2]} for k in range(n)))
        most[n] = peak(lambda folder=tmp_path / str(n): data.read(folder, 'custom'))[0]
    assert most[8_000] < 4.4 * most[2_000], most
