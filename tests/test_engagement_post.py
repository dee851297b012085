"""Writing posts: what a writer reads and learns, batches and reloads that change nothing, floors, and tests that find what was planted."""
import json, subprocess, sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from socialprof.core.folds import Cell
from socialprof.core.models import tiny
from socialprof.engagement import floors, probes, prompts, texts, writer
from socialprof.engagement.views import Views
from socialprof.engagement.writer import TINY, TUNINGS, PostWriter, Rows, WriterSettings, load_writer_model, padded, rows_of_posts
from socialprof.lab.predictions import check
from socialprof.lab.protocol import Task, Work, fit_methods, methods_named

ACCOUNTS = ['cnn', 'cisco', 'cbc', 'nba'] * 8
POSTS = [f'{account} says good morning <hyperlink>' for account in ACCOUNTS]
PROMPTS = [prompts.prompt_of(dict(account=account, likes=float(7 ** (i % 6)))) for i, account in enumerate(ACCOUNTS)]
SMALL = dict(model=TINY, steps=12, warmup=1, batch_size=8, accumulation=1, precision='fp32', max_new_tokens=24, learning_rate=1e-2)


def frame_of(n: int = 120, accounts: int = 6, seed: int = 0) -> pd.DataFrame:
    "Posts of accounts with words of their own."
    rng = np.random.default_rng(seed)
    account = rng.choice([f'account{i}' for i in range(accounts)], n)
    words = {name: rng.choice('news game city night road data team life'.split(), 3) for name in sorted(set(account))}
    return pd.DataFrame(dict(
        id=np.arange(n).astype(str), account=account, company=['company ' + name[-1] for name in account],
        time=pd.Timestamp('2020-01-01', tz='UTC') + pd.to_timedelta(rng.permutation(n), 'D'), likes=rng.poisson(50, n).astype(float),
        media='', part='train', caption=rng.choice(['a street', 'a dog'], n),
        text=[f'{" ".join(rng.permutation(words[name]))} <hyperlink>' for name in account]))


# --- prompts

@pytest.mark.parametrize('name', prompts.FIELDS)
def test_each_field_is_in_its_prompt_and_in_no_other(name):
    row = dict(company='Company', account='Account', time=pd.Timestamp('2019-04-03 16:20', tz='UTC'), caption='Caption', likes=77.)
    mark = {'time': '2019-04-03 16:20', 'likes': '77'}.get(name, name.title())
    assert mark in prompts.prompt_of(row) and mark in prompts.prompt_of(row, [name])
    others = prompts.prompt_of(row, [other for other in prompts.FIELDS if other != name])
    assert mark not in others and others.endswith(prompts.SEPARATOR)

def test_order_of_fields_is_the_reports():
    row = dict(likes=1., caption='caption', time=pd.Timestamp('2019-04-03', tz='UTC'), account='account', company='company')
    text = prompts.prompt_of(row, ['likes', 'caption', 'company', 'time', 'account'])
    places = [text.index(mark) for mark in ('company', 'account', '2019', 'caption', '1 likes', '->:')]
    assert places == sorted(places)


# --- what is learned

def test_table_4():
    settings = PostWriter()
    report = dict(rank=16, alpha=32, dropout=.05, batch_size=4, accumulation=4, warmup=100, steps=550)
    assert {name: getattr(settings, name) for name in report} == report and settings.peak_rate == 2e-4 and not settings.mask_prompt
    arguments = writer.writer_arguments(settings, Path('x'), 'fp32')
    assert (arguments.max_steps, arguments.gradient_accumulation_steps, arguments.per_device_train_batch_size) == (550, 4, 4)
    assert arguments.warmup_steps == 100 and arguments.learning_rate == 2e-4

def test_bloom_gets_the_reports_adapters():
    "On a tiny BLOOM: query_key_value in all layers, as many weights as rank 16 has; and in the first layer only."
    folder = tiny('bloom', hidden=32, layers=3, heads=2, pooling=None)
    model, _ = load_writer_model(folder)
    tuned = writer.tuned(model, WriterSettings(model=folder))
    names = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert len(names) == 6 and all('query_key_value.lora_' in name for name in names)
    assert writer.trainable(tuned)['trainable'] == 3 * (16 * 32 + 16 * 96)   # 7,864,320 at Bloom-7b1's 30 layers of 4,096
    assert 30 * (16 * 4096 + 16 * 3 * 4096) == 7_864_320
    for tuning, layer in (('first layers', '.h.0.'), ('last layers', '.h.2.')):
        part = writer.tuned(load_writer_model(folder)[0], WriterSettings(model=folder, tuning=tuning))
        names = [name for name, p in part.named_parameters() if p.requires_grad]
        assert len(names) == 2 and all(layer in name for name in names)

def test_8_bits_say_what_they_need():
    if torch.cuda.is_available(): pytest.skip('this machine has a CUDA device')
    with pytest.raises(RuntimeError, match=r'expected a CUDA device.*SmolLM2'): PostWriter(model=writer.BLOOM, bits=8).fit(PROMPTS, POSTS)

def test_masks_and_ends():
    "Prompt tokens have no label when masked; the end token has one even where it is also what pads."
    _, tokenizer = load_writer_model(TINY)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    for mask in (False, True):
        rows = rows_of_posts(tokenizer, PROMPTS[:2], POSTS[:2], WriterSettings(mask_prompt=mask, end_token=True))
        width = len(writer.prompt_tokens(tokenizer, PROMPTS[:1])[0])
        labels = rows[0]['labels']
        assert (np.array(labels[1:width]) == -100).all() == mask and labels[0] == -100 and labels[-1] == tokenizer.eos_token_id
    batch = padded([rows[0], rows[1]], tokenizer.pad_token_id)
    assert (batch['labels'] == tokenizer.eos_token_id).sum() == 2
    assert ((batch['labels'] != -100) <= batch['attention_mask'].bool()).all()

def test_accumulation_is_one_large_batch():
    "Eight posts at once, and twice four of other lengths, give the same weights after an update."
    settings = SMALL | dict(steps=1, warmup=0, tuning='full')
    texts = ['a ' * (i + 1) for i in range(8)]
    one = PostWriter(**settings).fit(PROMPTS[:8], texts)
    two = PostWriter(**settings | dict(batch_size=4, accumulation=2)).fit(PROMPTS[:8], texts)
    for (name, a), (_, b) in zip(one.model_.named_parameters(), two.model_.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-4), name

@pytest.mark.parametrize('tuning', [tuning for tuning in TUNINGS if tuning != 'none'])
def test_only_what_is_tuned_changes(tuning):
    base = dict(load_writer_model(TINY)[0].named_parameters())
    fitted = PostWriter(tuning=tuning, **SMALL).fit(PROMPTS, POSTS)
    assert fitted.history_[-1]['loss'] < fitted.history_[0]['loss'] and len(fitted.history_) == 12
    body = fitted.model_ if tuning == 'full' else fitted.model_.get_base_model()
    weights = {name.replace('.base_layer', ''): p for name, p in body.named_parameters()}
    same = [torch.equal(weights[name], value) for name, value in base.items()]
    assert len(same) > 30 and (not any(same) if tuning == 'full' else all(same))

def test_long_prompts_keep_the_separator():
    _, tokenizer = load_writer_model(TINY)
    row = rows_of_posts(tokenizer, ['far ' * 400 + '->:'], ['a post'], WriterSettings(max_length=64))
    assert row.cut == 1 and '->: a post' in tokenizer.decode(row[0]['input_ids'])


# --- writing

@pytest.fixture(scope='module')
def fitted(): return {tuning: PostWriter(tuning=tuning, **SMALL | dict(steps=6)).fit(PROMPTS, POSTS) for tuning in TUNINGS}

@pytest.mark.parametrize('tuning', TUNINGS)
def test_batches_write_what_prompts_write_alone(fitted, tuning):
    queries = [*PROMPTS[:8], 'A post ->:', prompts.prompt_of(dict(account='a' * 60, caption='a long street in the dark'))]
    alone = fitted[tuning].generate(queries, 1)
    for size in (3, 16):
        together = fitted[tuning].generate(queries, size)
        assert together.texts == alone.texts and (together.tokens == alone.tokens).all() and (together.stopped == alone.stopped).all()
    assert fitted[tuning].generate(queries[::-1], 4).texts == alone.texts[::-1]

@pytest.mark.parametrize('tuning', TUNINGS)
def test_greedy_is_the_likeliest_token(fitted, tuning):
    "A slow loop without a cache writes the same."
    one = fitted[tuning]
    ids = writer.prompt_tokens(one.tokenizer_, PROMPTS[:1])[0]
    written = writer.greedy(one.model_, one.tokenizer_, [ids], 6, 1, tuning == 'prefix')[0]
    slow = []
    while len(slow) < 6 and one.tokenizer_.eos_token_id not in slow:
        with torch.inference_mode(): logits = one.model_(input_ids=torch.tensor([ids + slow]), attention_mask=torch.ones(1, len(ids + slow), dtype=int)).logits
        slow.append(int(logits[0, -1].argmax()))
    assert written == slow

def test_reload_in_a_new_process(fitted, tmp_path):
    "With each tuning; the folders may be moved, and hold neither pickles nor a place of this machine."
    for tuning, one in fitted.items():
        folder = one.save(tmp_path / 'saved' / tuning)
        assert {path.suffix for path in folder.iterdir()} <= {'.json', '.safetensors', '.jinja'}
        assert not any(place in path.read_text() for path in folder.glob('*.json') for place in (str(tmp_path), str(writer.body_folder(TINY).parent)))
    moved = (tmp_path / 'saved').rename(tmp_path / 'moved')
    code = ('import json, sys; from socialprof.engagement.writer import PostWriter; queries = json.loads(sys.argv[2]); '
            'print(json.dumps([PostWriter.load(f"{sys.argv[1]}/{name}").generate(queries).texts for name in json.loads(sys.argv[3])]))')
    arguments = [str(moved), json.dumps(PROMPTS[:4]), json.dumps([*fitted])]
    answer = subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout.splitlines()[-1]) == [one.generate(PROMPTS[:4]).texts for one in fitted.values()]

def test_a_local_body_must_be_named(tmp_path):
    body = tiny('llama', hidden=32, layers=2, heads=2, max_length=512, pooling=None)
    one = PostWriter(**SMALL | dict(model=body, steps=2)).fit(PROMPTS, POSTS)
    folder = one.save(tmp_path / 'writer')
    assert str(body.parent) not in (folder / 'writer.json').read_text()
    with pytest.raises(ValueError, match='load\\(folder, model='): PostWriter.load(folder)
    assert PostWriter.load(folder, body).generate(PROMPTS[:2]).texts == one.generate(PROMPTS[:2]).texts
    other = tiny('llama', hidden=32, layers=2, heads=2, max_length=512, pooling=None, seed=1)
    with pytest.raises(ValueError, match='sha256'): PostWriter.load(folder, other)

def test_resumed_is_the_same(tmp_path):
    "A fit that was broken off and goes on from its checkpoint writes the same posts."
    class Stop(writer.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 7: raise KeyboardInterrupt
    settings = SMALL | dict(tuning='lora', steps=10, output_dir=str(tmp_path))
    whole = PostWriter(**settings | dict(output_dir=None)).fit(PROMPTS, POSTS)
    with pytest.raises(KeyboardInterrupt): PostWriter(**settings, callbacks=(Stop(),)).fit(PROMPTS, POSTS)
    again = PostWriter(**settings, resume=True).fit(PROMPTS, POSTS)
    assert [*tmp_path.iterdir()] and again.generate(PROMPTS[:6]).texts == whole.generate(PROMPTS[:6]).texts
    assert np.allclose([h['loss'] for h in again.history_], [h['loss'] for h in whole.history_])


# --- floors and tests of posts

def test_floors_look_at_earlier_posts_of_the_training_part_only():
    frame = frame_of()
    train = frame.sample(80, random_state=0)
    test = frame.drop(train.index)
    for kind in ('latest post', 'nearest caption'):
        places = floors.old_places(kind, floors.of_floors(train), floors.of_floors(test))
        old = train.iloc[places]
        usual = (train.groupby('account').time.min().reindex(test.account) < test.time.to_numpy()).to_numpy()
        assert usual.sum() > 20 and (old.time.to_numpy() < test.time.to_numpy())[usual].all()
        assert (old.account.to_numpy() == test.account.to_numpy())[usual].all()
        # what is later, and what the test posts say, does not count
        blind = floors.OldPosts(kind).fit(train)
        assert blind.write(test) == blind.write(test.assign(text='x')) == old.text.tolist()

def test_latest_is_the_latest():
    frame = frame_of(60, 3)
    places = floors.latest_posts(frame[:40].reset_index(drop=True), frame[40:].reset_index(drop=True))
    for row, place in zip(range(40, 60), places, strict=True):
        mine = frame[:40][(frame[:40].account == frame.account[row]) & (frame[:40].time < frame.time[row])]
        if len(mine): assert mine.time.idxmax() == place

def test_dose_is_found_and_not_found():
    "A writer that heeds likes changes its posts and a judge's likes rise; a deaf one changes nothing; noise rises nothing."
    frame = frame_of(300, 20)
    frame['likes'] = np.expm1(3 + 2 * frame.text.str.contains('game') + np.random.default_rng(1).normal(0, .1, 300))
    judge = floors.likes_judge(frame[:200])
    test = frame[200:].reset_index(drop=True)
    heeds = floors.dose_test(lambda posts: ['game tonight' if likes > 150 else 'road tonight' for likes in posts.likes], test, judge)
    deaf = floors.dose_test(lambda posts: ['game tonight'] * len(posts), test, judge)
    rng = np.random.default_rng(2)
    noise = floors.dose_test(lambda posts: rng.choice(['game tonight', 'road tonight'], len(posts)).tolist(), test, judge)
    assert heeds['low'] > 0 and heeds['changed'] > .5 and deaf['changed'] == 0 and deaf['rise'] == 0
    assert noise['changed'] > .3 and noise['low'] < 0 < noise['high']

def test_goodhart_both_ways():
    "Where words bring likes, the other judge sees the rise; where they do not, only the one that chose does."
    words = np.array('alpha beta gamma delta win loss news game day night city road tree lake'.split())
    rises = {}
    for effect in (0., 3.):
        rng = np.random.default_rng(4)
        posts = pd.DataFrame(dict(account=rng.choice([*'abcdefgh'], 400), text=[' '.join(rng.choice(words, 6)) for _ in range(400)]))
        posts['likes'] = np.expm1(np.maximum(rng.normal(4, 1, 400) + effect * posts.text.str.contains('win'), 0))
        judges = [floors.likes_judge(posts.iloc[rows]) for rows in floors.halves(posts, np.arange(300))]
        candidates = [[' '.join(rng.choice(words, 6)) for _ in range(100)] for _ in range(8)]
        table = floors.goodhart(posts[300:].reset_index(drop=True), candidates, *judges)
        rises[effect] = table.set_index(['chosen by', 'judged by'])
    assert rises[3.].low['A', 'B'] > .5 and rises[3.].low['B', 'A'] > .5
    assert rises[0.].low['A', 'A'] > 0 and rises[0.].rise['A', 'B'] < .5 * rises[0.].rise['A', 'A']

def test_account_shows_only_where_it_does():
    frame = frame_of(240, 6)
    train = frame[:160]
    test = frame[160:]
    rng = np.random.default_rng(0)
    rows = [dict(method='account words', predicted=test.text.tolist()), dict(method='of anyone', predicted=rng.permutation(test.text).tolist())]
    table = pd.concat([pd.DataFrame(dict(unit=test.account, y=test.text) | row) for row in rows])
    shown = floors.account_table(table, train.text.tolist(), train.account.tolist())
    assert shown.accuracy['(true posts)'] == shown.accuracy['account words'] > .6 and shown.accuracy['of anyone'] < .4

def test_faults_of_what_the_report_printed():
    "Its posts end in a row of placeholders, and do not stop."
    texts = ['Watch now ' + '<hyperlink> ' * 9] * 2 + ['A quiet post.']
    row = floors.faults(texts, ['Watch now <hyperlink>'] * 3, ['a quiet  post.'], np.array([False, False, True]))
    assert [row[name] for name in ('loops', 'four placeholders or more', 'doubles', 'never stopped')] == pytest.approx([2 / 3] * 4)
    assert row['copies of old posts'] == pytest.approx(1 / 3) and row['length ratio'] > 2


# --- methods and page

def test_methods_write_without_reading_the_text():
    frame = frame_of()
    cell = Cell(0, 0, 'random', np.arange(90), np.arange(90, 120))
    work = Work(settings=dict(steps=2, max_new_tokens=12))
    names = ['latest post', 'nearest caption', 'random old post', 'placeholders', 'untuned', 'LoRA, masked prompt, end token']
    tables = []
    for text in (frame.text, frame.text.where(frame.index < 90, 'changed')):
        table = fit_methods(methods_named(names, texts.METHODS), Views(frame.assign(text=text), Task('post', ())), [cell], work, texts.post_rows).predictions
        check(table)
        tables.append(table[~table.method.str.endswith(texts.PLAIN)])
    assert tables[0].predicted.tolist() == tables[1].predicted.tolist() and set(tables[1].y) == {'changed'}

def test_hidden_texts_score_nothing():
    frame = frame_of().assign(text=lambda posts: np.where(posts.index >= 90, '', posts.text))
    views = Views(frame, Task('post', ()))
    cell = Cell(-1, 0, 'official time', np.arange(90), np.arange(90, 120))
    fitted = fit_methods(methods_named(['latest post'], texts.METHODS), views, [cell], Work(), texts.post_rows)
    check(fitted.predictions)
    assert fitted.predictions.y.isna().all() and len(fitted.predictions) == 30 and (fitted.predictions.predicted != '').all()
    assert not len(texts.fault_page(fitted, views, cell)) and not len(texts.account_page(fitted, views, cell))

def test_judges_read_other_posts_than_writers():
    frame = frame_of()
    cell = Cell(0, 0, 'random', np.arange(90), np.arange(90, 120))
    parts = texts.parts_of(frame, cell)
    first, second = floors.halves(frame, parts.judges)
    assert not set(first) & set(second) and not set(parts.judges) & set(parts.writers) and not set(parts.judges) & set(cell.test)

def test_registry():
    names = ['latest post', 'nearest caption', 'random old post', 'placeholders', 'untuned', 'LoRA', 'LoRA, masked prompt, end token',
             'LoRA, no caption', 'LoRA, no likes', 'prefix', 'first layers', 'last layers', 'full']
    assert list(texts.METHODS) == names
    budgets = {name: method.budget(Views(frame_of(), Task('post', ())), Work('paper')) for name, method in texts.METHODS.items() if method.budget}
    assert budgets['untuned']['epochs'] == 0 < budgets['LoRA']['epochs'] == budgets['full']['epochs']
    with pytest.raises(LookupError, match='LoRA, no likes'): methods_named(['LoRA without likes'], texts.METHODS)

def test_ways_of_decoding(fitted):
    table = probes.decoding_table(fitted['full'], PROMPTS[:3])
    assert list(table.index) == list(probes.WAYS) and table['same text']['in batches'] == 1
    assert table.MB['8 bits, one by one'] < .6 * table.MB['one by one']
    before = [p.clone() for p in fitted['full'].model_.parameters()]
    probes.decoded(fitted['full'], PROMPTS[:1], 'half of the weights pruned, in batches')
    assert all(torch.equal(a, b) for a, b in zip(before, fitted['full'].model_.parameters(), strict=True))   # itself it is whole

def test_empty_rows_have_no_loss():
    model, tokenizer = load_writer_model(TINY)
    assert writer.total_loss(model, Rows([]), 0) == (0., 0) and np.isnan(PostWriter(**SMALL | dict(steps=0)).fit([], []).loss([], []))
