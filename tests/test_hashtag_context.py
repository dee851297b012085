"""In-context fine-tuning of the hashtag paper: joint truncation, what each stage moves, who decides, saved, and found by search."""
from pathlib import Path
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import classification_report
from transformers import BartConfig, BartModel

from socialprof.core.models import load_classifier, quiet, tiny
from socialprof.hashtag.context import ContextTuner, METRICS
from socialprof.hashtag.triggers import Search
from socialprof.learn.tokens import longest_input

QUICK = dict(learning_rate=3e-3, epochs=2, first_dev_epoch=1, batch_size=8, max_length=16, body_dropout=0., patience=None)
MODELS = ('bert', 'roberta', 'bart')


def posts(n: int, seed: int):
    "Rows (text, [neighbours]) and labels; the word of the class stands in the first neighbour alone."
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    def words(*more): return ' '.join([*rng.choice(['the', 'market', 'paper', 'call'], 3), *more])
    return [(words(), [words('moon' if label else 'gm'), words()]) for label in y], np.array(['no', 'yes'])[y].tolist()

def scripted(values):
    "A metric that gives these values, one a call."
    values = iter(values)
    return lambda *_: next(values)

def weights(tuner) -> dict: return {name: p.detach().clone() for name, p in tuner.model_.state_dict().items()}


@pytest.fixture(scope='module')
def folders(tmp_path_factory) -> dict:
    "Tiny random models of three kinds; BERTweet's 130 positions for the RoBERTa."
    folder = tmp_path_factory.mktemp('models') / 'bart'
    tokenizer = load_classifier(tiny('roberta'), num_labels=2)[1]
    ends = dict(pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    config = BartConfig(vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.eos_token_id, d_model=32, encoder_layers=1, decoder_layers=1,
                        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=128, **ends)
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        BartModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return dict(bert=tiny('bert', max_length=128), roberta=tiny('roberta', max_length=128), bart=folder)


@pytest.mark.parametrize('kind', MODELS)
def test_two_long_posts_and_five_triggers_fit(kind, folders):
    "128 + 5 + 128 tokens are 261, and the models have 128 positions: cut jointly, or, if asked, read whole on a longer table."
    X = [('gm ' * 300, ['frens ' * 300]), ('gm', []), ('so', ['frens ' * 300])] * 2
    y = ['a', 'b', 'a'] * 2
    job = QUICK | dict(max_length=128, epochs=1, stages=1, batch_size=3)
    short = ContextTuner(folders[kind], **job).fit(X, y)
    assert longest_input(short.model_.config) == 128 and short.rows(X)[0].lengths.max() == 128
    so = len(short.tokenizer_('so')['input_ids'])
    assert short.truncated_['tokens_jointly'] == 2 * (128 + 5 + 128 - 128) + 2 * (so + 5 + 128 - 128)
    row = short.rows(X)[0][0]
    assert [number for number in row['input_ids'] if number in short.trigger_ids_] == short.trigger_ids_
    assert row['input_ids'].count(short.tokenizer_.sep_token_id) == 2 and set(row['attention_mask']) == {1} and 'token_type_ids' not in row
    longer = ContextTuner(folders[kind], **job, extend_positions=300).fit(X, y)
    assert longer.rows(X)[0].lengths.max() == 261 and longer.truncated_['tokens_jointly'] == 0
    assert np.isfinite(longer.predict_proba(X)).all()


@pytest.mark.parametrize('kind', MODELS)
def test_new_positions_leave_the_old_ones_alone(kind, folders):
    from socialprof.hashtag.context import with_positions
    model, tokenizer = load_classifier(folders[kind], num_labels=2)
    batch = {name: value for name, value in tokenizer('gm frens', return_tensors='pt').items() if name != 'token_type_ids'}
    with torch.no_grad():
        before = model(**batch).logits
        assert with_positions(model, 200) and torch.equal(model(**batch).logits, before)


@pytest.mark.parametrize(('kind', 'tuning'), [('bert', 'full'), ('roberta', 'full'), ('bart', 'full'), ('bert', 'lora'), ('bart', 'lora')])
def test_second_stage_moves_trigger_rows_alone(kind, tuning, folders):
    (X, y), dev = posts(16, 0), posts(8, 1)
    job = QUICK | dict(tuning=tuning)
    first = ContextTuner(folders[kind], **job, stages=1, metric=scripted([.1, .2])).fit(X, y, dev)
    both = ContextTuner(folders[kind], **job, metric=scripted([.1, .2, .3, .4])).fit(X, y, dev)
    assert both.stage_ == 2 and both.scores_ == [.2, .4] and [entry['stage'] for entry in both.history_] == [1, 1, 2, 2]
    before = weights(first)
    after = weights(both)
    table = both.model_.get_input_embeddings().weight
    rows = (first.model_.get_input_embeddings().weight != table).any(dim=1).nonzero().flatten().tolist()
    assert rows == both.trigger_ids_ and len(rows) == 5
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    names = ('word_embeddings.weight', 'shared.weight', 'embed_tokens.weight')   # BART has several names for one table
    assert changed and all(name.endswith(names) and torch.equal(after[name], table) for name in changed)


@pytest.mark.parametrize('second', ['triggers', 'all'])
@pytest.mark.parametrize('tuning', ['full', 'lora'])
def test_dev_decides_and_a_tie_is_not_enough(second, tuning, folders):
    (X, y), dev = posts(16, 0), posts(8, 1)
    job = QUICK | dict(tuning=tuning)
    first = ContextTuner(folders['bert'], **job, stages=1, metric=scripted([.4, .5])).fit(X, y, dev)
    for later in ([.5, .5], [.1, .2]):
        tuner = ContextTuner(folders['bert'], **job, second=second, metric=scripted([.4, .5, *later])).fit(X, y, dev)
        assert tuner.stage_ == 1 and tuner.best_epoch_ == 2 and np.array_equal(tuner.predict_proba(X), first.predict_proba(X))
    better = ContextTuner(folders['bert'], **job, second=second, metric=scripted([.4, .5, .6, .5])).fit(X, y, dev)
    assert better.stage_ == 2 and better.best_epoch_ == 1 and not np.array_equal(better.predict_proba(X), first.predict_proba(X))


def test_no_text_but_training_and_dev_is_read_by_a_fit(folders, monkeypatch):
    "L12: the second stage is chosen on dev; a fit meets no other text, and its measure gets the labels of dev."
    (X, y), dev = posts(16, 0), posts(8, 1)
    import socialprof.hashtag.context as context
    texts = []
    honest = context.tokenise
    def spy(rows, *more):
        rows = list(rows)
        texts.extend(rows)
        return honest(rows, *more)
    monkeypatch.setattr(context, 'tokenise', spy)
    labels = []
    def metric(truth, predicted, classes):
        labels.append(list(truth))
        return .5
    ContextTuner(folders['bert'], **QUICK, metric=metric).fit(X, y, dev)
    assert set(texts) <= {text for pair in X + dev[0] for text in (pair[0], *pair[1])} and len(labels) == 4
    assert all(measured == dev[1] for measured in labels)


def test_dev_is_measured_from_an_epoch_on_and_patience_counts_from_there(folders):
    (X, y), dev = posts(16, 0), posts(8, 1)
    job = QUICK | dict(epochs=9, first_dev_epoch=4, patience=2, stages=1)
    tuner = ContextTuner(folders['bert'], **job, metric=scripted([.5, .4, .3, .2])).fit(X, y, dev)
    assert [entry.get('validation') for entry in tuner.history_] == [None] * 3 + [.5, .4, .3] and tuner.best_epoch_ == 4
    rates = [entry['learning_rate'] for entry in tuner.history_]
    assert rates[-1] == rates[2] == pytest.approx(3e-3)   # constant after the warm-up


def test_class_weights_change_a_fit(folders):
    X, y = posts(16, 0)
    y = ['no'] * 12 + ['yes'] * 4
    plain, weighted = (ContextTuner(folders['bert'], **QUICK, stages=1, class_weights=weights).fit(X, y).predict_proba(X)[:, 1].mean()
                       for weights in (False, True))
    assert weighted > plain


@pytest.mark.parametrize('kind', MODELS)
def test_discrete_search_never_raises_the_loss(kind, folders):
    (X, y), dev = posts(24, 0), posts(8, 1)
    search = Search(iterations=4, candidates=30, accumulation=2, batch_size=6, eval_batch=12, eval_batches=1)
    job = QUICK | dict(triggers='discrete', search=search)
    fits = [ContextTuner(folders[kind], **job, metric=scripted([.1, .1, .2, .3, .4, .5])).fit(X, y, dev) for _ in range(2)]
    losses = [entry['loss'] for entry in fits[0].history_ if entry['stage'] == 2]
    assert len(losses) == 5 and (np.diff(losses) <= 0).all() and fits[0].history_ == fits[1].history_
    assert losses[-1] < losses[0] and fits[0].stage_ == 2 and fits[0].trigger_ids_ == fits[1].trigger_ids_
    assert not set(fits[0].trigger_ids_) & set(fits[0].tokenizer_.all_special_ids) - {fits[0].tokenizer_.mask_token_id}
    size = len(load_classifier(folders[kind], num_labels=2)[0].get_input_embeddings().weight)
    assert max(fits[0].trigger_ids_) < size == len(fits[0].model_.get_input_embeddings().weight)
    other = ContextTuner(folders[kind], **job, metric=lambda *_: .5).fit(X, y, dev)
    assert other.stage_ == 1 and set(other.trigger_ids_) == {other.tokenizer_.mask_token_id}


READ = '''
import json, sys
from socialprof.hashtag.context import ContextTuner
folders, X = json.loads(open(sys.argv[1]).read())
print(json.dumps([ContextTuner.load(folder, model=model).predict_proba(X).tolist() for folder, model in folders]))
'''

def test_saved_and_loaded_in_a_new_process(folders, tmp_path, python):
    (X, y), dev = posts(16, 0), posts(8, 1)
    folders = {kind: Path(folder) for kind, folder in folders.items()}
    cases = [('bert', 'full'), ('roberta', 'lora'), ('bart', 'lora'), ('bart', 'full')]
    fits = [ContextTuner(folders[kind], **QUICK | dict(tuning=tuning), template='121', top=2).fit(X, y, dev) for kind, tuning in cases]
    saved = [(str(fit.save(tmp_path / str(i))), str(folders[kind]) if tuning == 'lora' else None)
             for i, (fit, (kind, tuning)) in enumerate(zip(fits, cases, strict=True))]
    (tmp_path / 'job.json').write_text(json.dumps([saved, X]), encoding='utf-8')
    run = python('-c', READ, tmp_path / 'job.json')
    assert run.returncode == 0, run.stderr
    for fit, probabilities in zip(fits, json.loads(run.stdout), strict=True):
        assert np.array_equal(fit.predict_proba(X), np.array(probabilities, dtype=np.float32))
    names = {path.suffix for path in tmp_path.rglob('*') if path.is_file()}
    assert not names & {'.pkl', '.pickle', '.bin', '.pt', '.joblib'}, names
    assert not [path for path in tmp_path.glob('*/*.json') if str(folders['bert'].parent) in path.read_text(encoding='utf-8')]
    with pytest.raises(FileNotFoundError, match=r'expected tuner\.json'): ContextTuner.load(tmp_path / 'nothing')


def test_metrics_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    for _ in range(5):
        y, predicted = rng.integers(0, 3, (2, 40)).astype(str)
        report = classification_report(y, predicted, output_dict=True)
        values = {name: metric(y, predicted, ['0', '1', '2']) for name, metric in METRICS.items()}
        both = (report['1']['f1-score'] + report['2']['f1-score']) / 2
        assert values == pytest.approx({'macro_f1': report['macro avg']['f1-score'], 'f1_of_one': report['1']['f1-score'], 'f1_of_favor_and_against': both})


def test_more_positions_need_all_weights(folders):
    with pytest.raises(ValueError, match="needs tuning='full'"):
        ContextTuner(folders['bert'], **QUICK | dict(tuning='lora'), stages=1, extend_positions=300).fit(*posts(8, 0))
