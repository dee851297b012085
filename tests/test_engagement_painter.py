"""A small diffusion model learns two planted kinds of picture; the report's path through SDXL's classes; what is kept and read again."""
import json, subprocess, sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw

from socialprof.core.folds import Cell
from socialprof.engagement import fidelity, painter, paintings, protocol
from socialprof.engagement.views import Views
from socialprof.lab.predictions import check
from socialprof.lab.protocol import Task, Work

SMALL = dict(batch_size=8, paint_steps=10)


def drawn(kind: str, rng) -> np.ndarray:
    "Red bars on a light ground, or green discs on a dark one, 32 × 32."
    light = [int(value) for value in rng.integers(200, 250, 3)]
    picture = Image.new('RGB', (32, 32), tuple(light) if kind == 'bars' else tuple(value // 5 for value in light))
    pen = ImageDraw.Draw(picture)
    for left, top in rng.integers(0, 24, (4, 2)).tolist():
        if kind == 'bars': pen.rectangle([left, 0, left + 3, 32], fill=(210, 60, 40))
        else: pen.ellipse([left, top, left + 9, top + 9], fill=(90, 220, 150))
    return np.asarray(picture)

def posts(n: int, seed: int = 0, **changes) -> tuple[pd.DataFrame, np.ndarray]:
    "Posts of four accounts, two a kind, and their pictures."
    rng = np.random.default_rng(seed)
    kinds = np.array(['bars', 'discs'])[np.arange(n) % 2]
    frame = pd.DataFrame(dict(
        id=[str(place) for place in range(n)], time=pd.date_range('2020-01-01', periods=n, tz='UTC'), company='',
        likes=rng.integers(0, 900, n).astype(float), text=[' '.join(rng.choice(['new', 'today', 'watch'], 3)) for _ in range(n)],
        account=[f'{kind}_{place % 4}' for place, kind in enumerate(kinds)], kind=kinds)).assign(**changes)
    return frame, np.stack([drawn(kind, rng) for kind in kinds])

@pytest.fixture(scope='module')
def world():
    "(training pictures, prompts, held-out pictures, prompts)"
    frame, pictures = posts(96)
    other, unseen = posts(48, seed=1)
    return pictures, painter.picture_prompts(frame), unseen, painter.picture_prompts(other)

@pytest.fixture(scope='module')
def tuned(world):
    pictures, prompts, unseen, others = world
    return painter.Painter(steps=80, **SMALL).fit(pictures, prompts, (unseen, others))

@pytest.fixture
def views(tmp_path):
    frame, pictures = posts(72)
    names = [f'{place}.png' for place in range(len(frame))]
    for name, picture in zip(names, pictures, strict=True): Image.fromarray(picture).save(tmp_path / name)
    frame = frame.assign(picture=names)
    frame.attrs['pictures'] = str(tmp_path)
    return Views(frame, Task('picture', ()))

CELL = Cell(0, 0, 'time', np.arange(56), np.arange(56, 72))


def test_held_out_loss_falls(tuned):
    losses = [entry['held_out'] for entry in tuned.history_ if 'held_out' in entry]
    assert losses[-1] <= .8 * losses[0], losses
    assert tuned.bad_updates_ == 0 and np.isfinite([entry['loss'] for entry in tuned.history_[1:]]).all()

def test_distance_is_below_that_of_the_untrained(tuned, world):
    pictures, prompts, unseen, others = world
    untrained = painter.Painter(tuning='none', **SMALL).fit(pictures, prompts)
    real = fidelity.vectors_shown(unseen)
    distances = {name: fidelity.kid(fidelity.vectors_shown(one.paint(others)), real)
                 for name, one in dict(untrained=untrained, tuned=tuned).items()}
    assert distances['tuned'].value < distances['untrained'].value
    half = fidelity.kid(real[:24], real[24:])
    assert half.low < 0 < half.high and distances['tuned'].value > half.value   # real pictures are nearer to each other

def test_a_wrong_sign_of_the_loss_is_noticed(world, monkeypatch):
    "What the test above finds can fail: a painter that unlearns does not pass it."
    pictures, prompts, unseen, others = world
    right = painter.noise_loss
    def unlearned(body, shown, *rest): return (-1 if torch.is_grad_enabled() and not torch.is_inference_mode_enabled() else 1) * right(body, shown, *rest)
    monkeypatch.setattr(painter, 'noise_loss', unlearned)
    losses = [entry['held_out'] for entry in painter.Painter(steps=5, **SMALL).fit(pictures, prompts, (unseen, others)).history_ if 'held_out' in entry]
    assert losses[-1] > losses[0]

def test_same_seed_same_pictures(tuned, world):
    prompts = world[3][:4]
    first = tuned.paint(prompts, seed=4)
    assert np.array_equal(first, tuned.paint(prompts, seed=4)) and not np.array_equal(first, tuned.paint(prompts, seed=5))
    assert (painter.picture_faults(first) == '').all()

def test_read_again_in_another_process(tuned, world, tmp_path):
    prompts = world[3][:2]
    tuned.save(tmp_path / 'kept')
    assert not [path for path in (tmp_path / 'kept').rglob('*') if path.suffix in ('.pkl', '.pt', '.pth', '.bin')]
    (tmp_path / 'prompts.json').write_text(json.dumps(prompts))
    code = ('import json, sys, numpy as np; from socialprof.engagement.painter import Painter; '
            'np.save(sys.argv[3], Painter.load(sys.argv[1]).paint(json.load(open(sys.argv[2])), seed=2))')
    command = [sys.executable, '-c', code, tmp_path / 'kept', tmp_path / 'prompts.json', tmp_path / 'painted.npy']
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    assert np.array_equal(np.load(tmp_path / 'painted.npy'), tuned.paint(prompts, seed=2))

def test_prompts_are_read_unless_switched_off(world):
    pictures, prompts, _, others = world
    for prompted in (True, False):
        model = painter.Painter(steps=3, prompted=prompted, **SMALL).fit(pictures, prompts)
        assert np.array_equal(model.paint(others[:1]), model.paint(others[1:2])) != prompted

@pytest.mark.parametrize('tuning', ['lora', 'full'])
def test_sdxl_classes(tuning, world, tmp_path):
    pictures, prompts, unseen, others = world
    pipeline = painter.random_xl(tmp_path / 'xl')
    settings = painter.REPORT | dict(model=str(pipeline), size=32, steps=2, tuning=tuning, precision='fp32', learning_rate=1e-3)
    model = painter.Painter(**settings, paint_steps=2).fit(pictures[:6], prompts[:6], (unseen[:4], others[:4]))
    frozen = [*model.body_.pipeline.text_encoder.parameters(), *model.body_.pipeline.text_encoder_2.parameters(), *model.body_.pipeline.vae.parameters()]
    assert not any(weight.requires_grad for weight in frozen) and model.history_[-1]['held_out'] != model.history_[0]['held_out']
    model.save(tmp_path / 'kept')
    assert np.array_equal(painter.Painter.load(tmp_path / 'kept').paint(prompts[:2]), model.paint(prompts[:2]))
    painter.random_xl(pipeline, seed=1)   # the model was replaced by another one of that name
    with pytest.raises(ValueError, match='other weights of that name'): painter.Painter.load(tmp_path / 'kept')

def test_black_pictures_are_refused(world):
    pictures, prompts = world[:2]
    model = painter.Painter(steps=1, **SMALL).fit(pictures, prompts)
    for weight in model.body_.unet.parameters(): weight.data.fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='diverged'): model.paint(prompts[:2])

def test_a_loss_that_is_not_finite_ends_training(world, monkeypatch):
    pictures, prompts = world[:2]
    right = painter.noise_loss
    monkeypatch.setattr(painter, 'noise_loss', lambda *inputs: right(*inputs) * float('nan'))
    with pytest.raises(FloatingPointError, match='lower learning_rate'): painter.Painter(steps=30, most_bad=3, **SMALL).fit(pictures, prompts)

def test_one_bad_update_is_left_out(world, monkeypatch):
    pictures, prompts = world[:2]
    right = painter.noise_loss
    calls = iter(range(1000))
    monkeypatch.setattr(painter, 'noise_loss', lambda *inputs: right(*inputs) * (float('nan') if next(calls) == 1 else 1.))
    model = painter.Painter(steps=4, **SMALL).fit(pictures, prompts)
    assert model.bad_updates_ == 1 and all(torch.isfinite(weight).all() for weight in model.body_.unet.parameters())

def test_methods(views):
    fitted = protocol.fit_methods(list(paintings.METHODS), views, [CELL], Work('notebook', dict(steps=2, paint_steps=2)))
    rows = fitted.predictions
    check(rows)
    assert set(rows.method) == set(paintings.METHODS) and set(rows.y) <= set(views.account)
    assert not (rows.pretrained == True).any() and rows.tokens[rows.method == 'LoRA'].eq(64).all()   # noqa: E712
    right = rows.assign(right=rows.kind_true == rows.kind_shown).groupby('method').right.mean()
    assert right['own picture'] == right['nearest old picture'] == 1 > right['random old picture']

def test_test_pictures_and_likes_are_not_read(views):
    "What is shown for test posts does not change with their pictures, or with anybody's kind."
    names = ['nearest old picture', 'random old picture', 'LoRA']
    work = Work('notebook', dict(steps=2, paint_steps=2))
    before = paintings.shown_in(protocol.fit_methods(names, views, [CELL], work))
    frame = views.frame.copy()
    frame.loc[CELL.test, 'picture'] = frame.picture[CELL.test[::-1]].to_numpy()
    frame['kind'] = frame.kind[::-1].to_numpy()
    frame.attrs = views.frame.attrs
    after = paintings.shown_in(protocol.fit_methods(names, Views(frame, views.task), [CELL], work))
    assert all(np.array_equal(before[name][0], after[name][0]) for name in names)

def test_judges_are_not_shown(views):
    parts = paintings.parts_of(views, CELL)
    nearest = paintings.fit_nearest(views, CELL, Work('notebook'))
    shown = {picture.tobytes() for picture in nearest.show(CELL.test)[0]}
    judges = {picture.tobytes() for picture in paintings.pictures_at(views, parts.judges, 32)}
    assert not shown & judges and not {*parts.shown} & {*parts.judges}

def test_interval_of_the_distance_covers():
    "The distance of two large samples lies in the interval of small ones about as often as it should."
    rng = np.random.default_rng(0)
    big = [rng.normal(shift, size=(3000, 6)) for shift in (0, .4)]
    truth = fidelity.kid(*big, resamples=1).value
    pairs = [(rng.normal(0, size=(50, 6)), rng.normal(.4, size=(50, 6))) for _ in range(60)]
    inside = [one.low <= truth <= one.high for one in (fidelity.kid(*pair, resamples=80) for pair in pairs)]
    assert .85 <= np.mean(inside)
