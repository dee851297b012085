"""The two towers: ids, history, both encoders, and a training that is killed and goes on."""
import json, signal
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from socialprof.core.models import MINILM, folder, tiny
from socialprof.retweet import ids as I
from socialprof.retweet.columns import LABELS, label_times, targets
from socialprof.retweet.ids import Ragged
from socialprof.retweet.rows import TowerFeatures, histories, tower_rows
from socialprof.retweet.towers import COMBINATIONS, PARTS, SMALL as NETWORKS, Towers, downsample, make_optimiser, validation_rce
from socialprof.retweet.world import simulate

SMALL = dict(layers=1, hidden=16, width=16, dim=8, epochs=1, batch_size=32, space_epochs=1)


@pytest.fixture(scope='module')
def frame(): return simulate('four', seed=3, rows=700)

@pytest.fixture(scope='module')
def features(frame): return TowerFeatures(labels=('retweet',), max_length=24).fit(frame[:560])

@pytest.fixture(scope='module')
def rows(frame, features): return tower_rows(frame[:560], features), tower_rows(frame[560:], features)


# ---- ids

def test_ids_are_read_as_they_are(frame, rows):
    "No special token is added to those inside; a cut keeps both."
    tokens = rows[0].tokens
    for i, (found, told) in enumerate(zip(tokens.lists(), frame.text_tokens, strict=False)):
        assert found[0] == 101 and found[-1] == 102 and found.count(101) == 1, i
        assert len(found) == min(24, len(told)) and found[:-1] == list(told[:len(found) - 1])

def test_doubled_special_tokens_are_refused(frame, features):
    doubled = frame[:3].assign(text_tokens=[np.r_[101, ids, 102] for ids in frame.text_tokens[:3]])
    doubled.attrs = frame.attrs
    with pytest.raises(ValueError, match='row 0: expected ids that begin with 101 and end with 102, once each, found two of each'):
        tower_rows(doubled, features)
    bare = frame[:3].assign(text_tokens=[frame.text_tokens[0], frame.text_tokens[1][1:-1], frame.text_tokens[2]])
    with pytest.raises(ValueError, match='row 1: expected .* found none'): tower_rows(bare, features)

def test_ragged_against_lists():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lists = [rng.integers(9, size=rng.integers(5)).tolist() for _ in range(rng.integers(7))]
        made = Ragged.of(lists)
        chosen = rng.integers(len(lists), size=4) if lists else np.zeros(0, int)
        assert made.lists() == lists and made[chosen].lists() == [lists[i] for i in chosen]
        table, mask = I.padded(made, -1)
        assert [row[keep == 1].tolist() for row, keep in zip(table, mask, strict=True)] == lists
        assert I.side_by_side(made, made).lists() == [row + row for row in lists]

def test_vocabulary_file_alone_is_enough(tmp_path):
    "A vocab.txt without weights maps ids of its model into another one's."
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'good', 'morning', '##s', '!']
    (tmp_path / 'vocab.txt').write_text('\n'.join(words))
    assert I.special_ids('no/model', str(tmp_path)) == (2, 3)
    assert I.route(MINILM, 'no/model', str(tmp_path / 'vocab.txt')).kind == 'mapped' and I.route(MINILM, 'no/model').kind == 'scratch'
    from transformers import AutoTokenizer
    target = AutoTokenizer.from_pretrained(folder(MINILM))
    found = I.mapped(Ragged.of([[2, 5, 6, 7, 8, 3], [2, 3]]), I.source_tokenizer('no/model', str(tmp_path)), target, 12)
    assert found.lists() == [target('good mornings!')['input_ids'], target('')['input_ids']]
    with pytest.raises(FileNotFoundError, match='expected tokenizer.json, vocab.txt'): I.source_tokenizer('no/model', str(tmp_path / 'nothing'))


# ---- history

def test_history_is_earlier_and_of_training_rows(frame):
    rng = np.random.default_rng(1)
    known, when = rng.random(len(frame)) < .8, label_times(frame).min(1, initial=np.inf, where=~np.isnan(label_times(frame)))
    past = histories(frame, np.where(np.isinf(when), np.nan, when), known, last=3)
    reader, time = frame.reader_id.to_numpy(), frame.tweet_time.to_numpy()
    for i in range(len(frame)):
        mine = [j for j in range(len(frame)) if reader[j] == reader[i] and when[j] < time[i] and known[j]]
        assert past[[i]].ids.tolist() == sorted(mine, key=lambda j: when[j])[-3:]
    assert len(past.ids) > 20

def test_own_labels_do_not_reach_a_row(frame):
    "Turning the label of a training row changes none of its own numbers or bags."
    changed = frame[:560].copy()
    row = 400
    for label in LABELS: changed.loc[changed.index[row], f'{label}_time'] = changed.tweet_time.iloc[row] + 5
    changed.attrs = frame.attrs
    before, after = (TowerFeatures(max_length=24).fit(part).transform(part) for part in (frame[:560], changed))
    assert (before.labels[row] != after.labels[row]).any() or targets(frame).iloc[row].any()
    same = before.numbers[row] * before.features.scale_ + before.features.mean_, after.numbers[row] * after.features.scale_ + after.features.mean_
    assert np.allclose(*same, atol=1e-4) and before.history[[row]].lists() == after.history[[row]].lists() and (before.codes[row] == after.codes[row]).all()

def test_follow_flag_has_both_readings(frame):
    names = [TowerFeatures(follow=follow).fit(frame).names_ for follow in ('reader', 'author')]
    assert 'reader_follows_author' in names[0] and 'author_follows_reader' in names[1]
    with pytest.raises(ValueError, match='expected one of reader, author'): TowerFeatures(follow='both').fit(frame)


# ---- towers

@pytest.mark.parametrize('parts', PARTS)
@pytest.mark.parametrize('combine', COMBINATIONS)
def test_parts_and_combinations(rows, parts, combine):
    train, test = rows
    if parts != 'tweet+user' and combine != 'concat': return
    towers = Towers(parts=parts, combine=combine, **SMALL).fit(train[:160])
    found = towers.predict_proba(test)
    assert found.shape == (140, 1) and np.isfinite(found).all() and ((0 < found) & (found < 1)).all() and found.std() > 0
    order = np.random.default_rng(0).permutation(140)
    assert np.allclose(towers.predict_proba(test[order]), found[order], atol=1e-6)   # whatever the batch around a row
    assert hasattr(towers.net_, 'tweet') == (parts != 'user') and hasattr(towers.net_, 'user') == (parts != 'tweet')

WIDE = dict(combine='both', match=True, straight=True)

def other_posts(rows):
    "The same rows, but with the bags of other posts beside the readers' earlier ones."
    return replace(rows, post=rows.post[np.arange(len(rows))[::-1]])

def test_the_answer_has_no_shortcut(rows):
    "User vector, tweet vector, a network: nothing compares the post with earlier ones, and no line leads past the network."
    train, test = rows
    bare, wide = (Towers(**SMALL | more).fit(train[:160]) for more in ({}, WIDE))
    assert bare.net_.straight is None and wide.net_.straight is not None
    first = [model.net_.head[1].in_features for model in (bare, wide)]
    assert first == [2 * 16, 3 * 16 + 6]
    assert (bare.predict_proba(other_posts(test)) == bare.predict_proba(test)).all()
    assert not np.allclose(wide.predict_proba(other_posts(test)), wide.predict_proba(test))
    assert Towers(parts='user', **SMALL).fit(train[:160]).net_.straight is None

@pytest.mark.parametrize('small', NETWORKS)
def test_small_networks(rows, small, tmp_path):
    "An LSTM and a CNN read the same ids as the small BERT: alike whatever stands beside a post, and the same after loading."
    train, test = rows
    towers = Towers(parts='tweet', small=small, **SMALL).fit(train[:160])
    scores = towers.predict_proba(test)
    order = np.random.default_rng(0).permutation(len(test))
    assert np.allclose(towers.predict_proba(test[order]), scores[order], atol=1e-6) and scores.std() > 0
    again = Towers.load(towers.save(tmp_path / 'model'))
    assert again.small == small and (again.predict_proba(test) == scores).all()

def test_pooling_and_the_start_of_the_space_matter(rows):
    train, test = rows
    def scores(**more): return Towers(**SMALL | more).fit(train[:160]).predict_proba(test)
    assert not np.allclose(scores(parts='tweet'), scores(parts='tweet', pooling='mean'))
    assert not np.allclose(scores(), scores(space_epochs=0)) and (scores() == scores()).all()
    assert not np.allclose(scores(), scores(seed=1))

def test_folders_from_before_still_load(rows, frame, tmp_path):
    "Folders in which towers had fewer settings, and memory knew no seconds of engagements: these counted from the post's own."
    towers = Towers(**SMALL | WIDE).fit(rows[0][:160])
    folder = towers.save(tmp_path / 'model')
    about = json.loads((folder / 'towers.json').read_text())
    for name in ('straight', 'small'): del about['settings'][name]
    (folder / 'towers.json').write_text(json.dumps(about))
    arrays = load_file(folder / 'features' / 'features.safetensors')
    engaged = ~np.isnan(arrays.pop('engaged'))
    arrays['outcome'] = np.where(engaged[:, 0], 0, np.where(engaged[:, 1], 1, 2)).astype(np.int8)
    save_file(arrays, folder / 'features' / 'features.safetensors')
    again = Towers.load(folder)
    memory = towers.features_.memory_
    towers.features_.memory_ = replace(memory, engaged=np.where(engaged, memory.time[:, None].astype(float), np.nan))
    try: assert again.straight and (again.predict_proba(frame[560:]) == towers.predict_proba(frame[560:])).all()
    finally: towers.features_.memory_ = memory

def test_tweet_alone_reads_only_ids(frame, features, rows):
    towers = Towers(parts='tweet', **SMALL).fit(rows[0][:160])
    other = frame[560:].assign(reader_id='somebody', author_followers=7, engagee_follows_engager=False, language='FF')
    other.attrs = frame.attrs
    assert (towers.predict_proba(tower_rows(other, features)) == towers.predict_proba(rows[1])).all()

@pytest.mark.parametrize('kind', ['own', 'mapped'])
def test_pretrained_encoder(tmp_path, kind):
    "The code path of bert-base-multilingual-cased at tiny random size, and of an encoder with another vocabulary; saved without needing it again."
    bert = str(tiny('bert'))
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(bert)
    frame = simulate('four', seed=3, rows=120)
    words = ['gm frens', 'buying the dip again', 'market opened lower', 'el precio sube']
    frame['text_tokens'] = [np.array(tokenizer(words[i % 4])['input_ids'], np.int32) for i in range(len(frame))]
    frame.attrs['tokenizer'] = bert
    features = TowerFeatures(labels=LABELS, max_length=16).fit(frame)
    assert features.special_ == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    rows = features.transform(frame)
    encoder = bert if kind == 'own' else str(tiny('roberta'))
    towers = Towers(encoder=encoder, **SMALL).fit(rows)
    assert towers.route_.kind == kind and towers.weights_ and towers.route_.sentence.count('.') >= 1
    rates = {group['lr'] for group in make_optimiser(towers, towers.net_).param_groups}
    assert {2e-5, 2e-3} <= rates   # one for the encoder, one for the rest
    again = Towers.load(towers.save(tmp_path / 'model'))
    assert (again.predict_proba(rows) == towers.predict_proba(rows)).all() and again.predict_proba(frame).shape == (120, 4)
    assert str(tiny('bert')) not in (tmp_path / 'model' / 'towers.json').read_text()

def test_an_id_of_another_model_is_named(rows):
    towers = Towers(encoder=str(tiny('bert')), **SMALL)
    train = rows[0][:64]
    features = TowerFeatures(source=str(tiny('bert')))
    vars(features).update({**vars(train.features), 'source_': str(tiny('bert'))})
    with pytest.raises(ValueError, match=r'id \d+: expected ids below \d+'): towers.fit(replace(train, features=features))

def test_wrong_settings_and_labels(rows):
    with pytest.raises(ValueError, match="combine='sum': expected one of 'concat'"): Towers(combine='sum').fit(rows[0])
    with pytest.raises(ValueError, match='training: 560 rows but 3 rows of labels'): Towers(**SMALL).fit(rows[0], np.eye(3)[:, :1])
    with pytest.raises(ValueError, match='no label is both true and false'):
        Towers(**SMALL).fit(rows[0][:64], validation=(rows[1], np.zeros((140, 1))))

def test_four_labels_and_kept_negatives(frame):
    features = TowerFeatures(labels=LABELS, max_length=24).fit(frame)
    rows = features.transform(frame)
    towers = Towers(negatives=1, **SMALL).fit(rows)
    y = rows.labels
    shares = np.minimum(1, y.sum(0) / (1 - y).sum(0))
    assert np.allclose(towers.downsampled_, shares) and towers.predict_proba(rows).shape == (len(frame), 4)
    labels, _ = downsample(y, 1)
    assert ((labels == 0).sum(0) == np.minimum(y.sum(0), (1 - y).sum(0))).all() and ((labels == 1).sum(0) == y.sum(0)).all()
    towers.predict(rows)

def test_the_best_epoch_is_kept(rows):
    "A last epoch at a wild rate is worse than the first; the model is that of the best one."
    towers = Towers(**SMALL | dict(epochs=4, learning_rate=.3, space_rate=.3, schedule='constant')).fit(rows[0], validation=(rows[1], None))
    values = [entry['validation'] for entry in towers.history_]
    assert abs(validation_rce(rows[1].labels, towers.decision_function(rows[1]), towers.downsampled_) - max(values)) < 1e-3
    assert towers.best_epoch_ == 1 + int(np.argmax(values))


SCRIPT = '''
import json, os, signal, sys
import numpy as np
from transformers import TrainerCallback
from socialprof.retweet.rows import TowerFeatures, tower_rows
from socialprof.retweet.towers import Towers
from socialprof.retweet.world import simulate

folder, what = sys.argv[1], sys.argv[2]
frame = simulate('four', seed=3, rows=700)

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.epoch > 2.3: os.kill(os.getpid(), signal.SIGKILL)

if what == 'load': towers = Towers.load(folder + '/whole')
else:
    features = TowerFeatures(labels=('retweet',), max_length=24).fit(frame[:560])
    train, test = tower_rows(frame[:560], features), tower_rows(frame[560:], features)
    more = dict(whole={}, killed=dict(output_dir=folder, callbacks=[Kill()]), resumed=dict(output_dir=folder, resume=True))[what]
    towers = Towers(layers=1, hidden=16, width=16, dim=8, epochs=4, batch_size=32, **more).fit(train, validation=(test, None))
    towers.save(folder + '/' + what)
print(json.dumps(dict(scores=towers.predict_proba(frame[560:]).tolist(), best=towers.best_epoch_, history=towers.history_)))
'''

def test_killed_and_resumed(python, tmp_path):
    "kill -9 in the third epoch, then resume: the model of a training that was not disturbed; and the same after reload elsewhere."
    (tmp_path / 'fit.py').write_text(SCRIPT)
    def run(what): return python('-W', 'ignore', tmp_path / 'fit.py', tmp_path, what)
    done = {what: run(what) for what in ('whole', 'killed', 'resumed', 'load')}
    assert done['killed'].returncode == -signal.SIGKILL and any(tmp_path.glob('job-*/checkpoint-*'))
    told = {what: json.loads(done[what].stdout) for what in ('whole', 'resumed', 'load') if not done[what].returncode}
    assert set(told) == {'whole', 'resumed', 'load'}, '\n'.join(d.stderr[-2000:] for d in done.values())
    assert told['resumed'] == told['whole'] == told['load']
