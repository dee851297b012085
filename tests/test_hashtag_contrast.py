"""Encoders that hashtags taught: exact cached gradients of a real model, resuming, BART, hidden tokens, several processes."""
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BartConfig, BartModel, TrainerCallback

from socialprof.core.encode import encode
from socialprof.core.models import tiny
from socialprof.hashtag.contrast import ContrastiveEncoder, pretrained, start
from socialprof.hashtag.gradients import Contrast, cached_step, pieces_of, plain_step
from socialprof.hashtag.pairs import Pairing
from socialprof.hashtag.tags import tags_of

DISHES = ['lentil', 'leek', 'pumpkin', 'tomato', 'onion', 'noodle', 'barley', 'pea', 'carrot', 'bean', 'mushroom', 'cabbage']
POSTS = [f'{dish} {rest}' for dish in DISHES
         for rest in ('soup tonight #soupnight', 'market opened lower #stocks', 'match and a late goal #derby')]
TAGS = [tags_of(post) for post in POSTS]
POST = Pairing('post', (1, 1), least=5, shuffles=2, noise='always delete')


def settings(kind='bert', **changes):
    common = dict(model=tiny(kind, pooling=None), pooling='mean', pairing=POST, batch_size=3, epochs=2, max_length=32,
                  precision='fp32', tuning='full', learning_rate=1e-3)
    return common | changes


@pytest.mark.parametrize('tuning', ['full', 'lora'])
@pytest.mark.parametrize('symmetric', [False, True])
def test_cached_gradients_are_the_plain_ones(tuning, symmetric):
    "Loss and every gradient, dropout included, within 1e-5, for parts of any size."
    encoder = ContrastiveEncoder(**settings(tuning=tuning, body_dropout=.2))
    torch.manual_seed(0)
    model, tokenizer = start(encoder)
    model.train()
    inputs = tokenizer([' '.join(POSTS[:1 + i % 3]) for i in range(24)], padding=True, truncation=True, max_length=48, return_tensors='pt')
    same = torch.rand(12, 12) < .2
    results = []
    for step in (plain_step, cached_step):
        model.zero_grad()
        torch.manual_seed(1)
        loss = step(model, pieces_of(inputs, 150), Contrast(.05, symmetric, block=5), same)
        results.append((loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, torch.rand(2)))
    (plain, expected, dice), (cached, gradients, other) = results
    assert abs(plain - cached) < 1e-5 and torch.equal(dice, other)
    assert expected.keys() == gradients.keys() and len(gradients) > 5
    assert max(float((expected[name] - gradients[name]).abs().max()) for name in expected) < 1e-5
    assert max(float(value.abs().max()) for value in gradients.values()) > 1e-3


def test_a_cached_fit_gives_the_weights_of_a_plain_one():
    vectors = [ContrastiveEncoder(**settings(cached=cached, mlm=.1)).fit(POSTS, TAGS).transform(POSTS) for cached in (False, True)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-4


class Stop(TrainerCallback):
    "Kills the fit after some updates."
    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 11: raise KeyboardInterrupt


@pytest.mark.parametrize('tuning', ['full', 'lora'])
def test_a_killed_fit_goes_on_to_the_same_weights(tmp_path, tuning):
    "Killed in the middle of an epoch, three updates after a checkpoint."
    whole = ContrastiveEncoder(**settings(tuning=tuning)).fit(POSTS, TAGS)
    killed = ContrastiveEncoder(**settings(tuning=tuning, output_dir=str(tmp_path), save_steps=8, callbacks=(Stop(),)))
    with pytest.raises(KeyboardInterrupt): killed.fit(POSTS, TAGS)
    assert list(tmp_path.glob('job-*/checkpoint-8'))
    resumed = ContrastiveEncoder(**settings(tuning=tuning, output_dir=str(tmp_path), save_steps=8, resume=True)).fit(POSTS, TAGS)
    assert np.abs(resumed.transform(POSTS) - whole.transform(POSTS)).max() < 1e-6


def tiny_bart(folder):
    "A tiny random BART with the tokenizer of a tiny RoBERTa."
    tokenizer = AutoTokenizer.from_pretrained(tiny('roberta', pooling=None))
    config = BartConfig(vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
                        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
                        eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.eos_token_id,
                        forced_eos_token_id=tokenizer.eos_token_id)
    torch.manual_seed(0)
    BartModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize('tuning', ['full', 'lora'])
def test_bart(tmp_path, tuning):
    start_folder = tiny_bart(tmp_path / 'bart')
    encoder = ContrastiveEncoder(**settings(model=start_folder, tuning=tuning, pooling=None, epochs=1)).fit(POSTS, TAGS)
    folder = encoder.save(tmp_path / 'encoder')
    assert np.isfinite(encoder.transform(POSTS)).all() and encoder.facts_['pooling'] == 'mean'
    assert type(AutoModel.from_pretrained(folder)).__name__ == 'BartModel'
    assert np.abs(encode(POSTS, model=folder, store=False) - encoder.transform(POSTS)).max() < 1e-5
    assert str(tmp_path) not in (folder / 'contrast.json').read_text()
    with pytest.raises(ValueError, match='mlm is for encoders'): start(ContrastiveEncoder(**settings(model=start_folder, mlm=.1, pooling=None)))


def test_the_snippet_of_the_card_runs(tmp_path):
    folder = ContrastiveEncoder(**settings('roberta', pooling='pooler', mlm=.1)).fit(POSTS, TAGS).save(tmp_path / 'encoder')
    hashencoder = AutoModel.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tweet = "here's a sample tweet for encoding"
    input_ids = torch.tensor([tokenizer.encode(tweet)])
    with torch.no_grad(): features = hashencoder(input_ids)
    expected = encode([tweet], model=folder, store=False)
    assert np.abs(torch.nn.functional.normalize(features.pooler_output).numpy() - expected).max() < 1e-6
    text = (folder / 'README.md').read_text()
    record = json.loads((folder / 'contrast.json').read_text())
    for part in (record['facts']['weights'], record['facts']['data'], 'masked language modelling', 'pooler_output', 'Licence'): assert part in text
    assert hashencoder.config.model_type == 'roberta' and len(record['history']) > 3


def test_one_of_several_makes_the_folder():
    changes = settings(epochs=1, seed=77)
    with ThreadPoolExecutor(3) as workers:
        folders = list(workers.map(lambda _: pretrained(POSTS, TAGS, **changes), range(3)))
    assert len(set(folders)) == 1 and encode(POSTS[:2], model=folders[0]).shape == (2, 32)


def test_noise_decides_the_pairs():
    one = ContrastiveEncoder(**settings(epochs=1))
    other = ContrastiveEncoder(**settings(epochs=1, pairing=replace(POST, noise='none')))
    assert not np.allclose(one.fit(POSTS, TAGS).transform(POSTS), other.fit(POSTS, TAGS).transform(POSTS), atol=1e-4)
