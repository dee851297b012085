"Vectors, captions and alignment of pictures: nothing is computed twice, nothing missing is made up, and leaks are found out."
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from socialprof.core.models import MissingWeights, find
from socialprof.engagement import captions as captioning
from socialprof.engagement import images
from socialprof.engagement.alignment import identity_probe, identity_warning, own_picture_rank
from socialprof.engagement.captions import captions, tiny_blip
from socialprof.engagement.data import load
from socialprof.engagement.views import joined
from socialprof.engagement.images import (UnreadPictures, image_vectors, lite_network, missing_flag,
                                          open_picture, picture_speed, tiny_network)


@pytest.fixture(scope='module')
def posts():
    "Simulated posts with drawn pictures, those with a picture first."
    frame, _ = load('picture', rows=240, seed=3)
    folder = Path(frame.attrs['pictures'])
    frame['path'] = [str(folder / name) if name else '' for name in frame.picture]
    return frame

@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SOCIALPROF_CACHE', str(tmp_path / 'cache'))
    return tmp_path

@pytest.fixture
def drawn(tmp_path):
    "Three pictures of one colour each."
    paths = []
    for name, colour in dict(sea=(20, 60, 200), sand=(230, 200, 120), night=(5, 5, 15)).items():
        Image.new('RGB', (60, 40), colour).save(tmp_path / f'{name}.png')
        paths.append(str(tmp_path / f'{name}.png'))
    return paths


def test_rows_keep_their_order_whatever_is_missing_or_twice_there(drawn):
    single = image_vectors(drawn)
    mixed = image_vectors([drawn[2], '', drawn[0], drawn[2], '/nowhere/x.png', drawn[1]])
    assert np.array_equal(mixed[[0, 2, 3, 5]], single[[2, 0, 2, 1]])
    assert np.isnan(mixed[[1, 4]]).all()
    assert missing_flag([drawn[0], '', '/nowhere/x.png']).tolist() == [0, 1, 1]

def test_a_stored_picture_is_never_computed_again_under_any_name(own_cache, drawn, monkeypatch):
    model = tiny_network('EfficientNet')
    first = image_vectors(drawn, model)
    logits = image_vectors(drawn[:1], model, 'logits', store=False)
    renamed = [shutil.copy(path, own_cache / f'{k}-renamed') for k, path in enumerate(drawn)]
    def refuse(*_): raise AssertionError('computed again')
    monkeypatch.setattr(images, 'computed', refuse)
    assert np.array_equal(image_vectors(list(map(str, renamed)), model), first)
    assert np.allclose(image_vectors(drawn[:1], model, 'logits'), logits, atol=1e-5)   # the same pass stored them
    with pytest.raises(AssertionError, match='computed again'): image_vectors(drawn, model, store=False)

def test_changed_content_under_the_same_name_is_computed_anew(own_cache, drawn):
    model = tiny_network('CLIP')
    before = image_vectors(drawn, model)
    shutil.copy(drawn[1], drawn[0])
    after = image_vectors(drawn, model)
    assert np.array_equal(after[0], before[1]) and not np.array_equal(after[0], before[0])

def test_a_damaged_file_is_nan_until_it_is_mended(own_cache, drawn):
    model = tiny_network('CLIP')
    whole = Path(drawn[0]).read_bytes()
    expected = image_vectors(drawn, model)
    Path(drawn[0]).write_bytes(whole[:len(whole) // 2])
    with pytest.warns(UnreadPictures, match='1 of 3'): vectors = image_vectors(drawn, model)
    assert np.isnan(vectors[0]).all() and np.array_equal(vectors[1:], expected[1:])
    with pytest.warns(UnreadPictures): image_vectors(drawn, model)     # nothing was stored for it
    Path(drawn[0]).write_bytes(whole)
    assert np.array_equal(image_vectors(drawn, model), expected)

@pytest.mark.parametrize('content', [b'', b'<html>403</html>', b'\x89PNG\r\n\x1a\n', b'GIF89a'])
def test_what_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / 'post.jpg'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='post.jpg: expected a whole picture'): open_picture(str(path))

@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'CMYK', '1', 'LA', 'I;16'])
def test_all_modes_of_pictures_are_read_as_three_colours(tmp_path, mode):
    suffix = 'tiff' if mode == 'CMYK' else 'png'
    path = tmp_path / f'picture.{suffix}'
    Image.new(mode, (30, 20)).save(path)
    picture = open_picture(str(path))
    assert picture.mode == 'RGB' and picture.size == (30, 20)

def test_a_moving_picture_is_read_by_its_first_frame(tmp_path):
    frames = [Image.new('RGB', (20, 20), colour) for colour in ('red', 'blue')]
    frames[0].save(tmp_path / 'moving.gif', save_all=True, append_images=frames[1:])
    assert open_picture(str(tmp_path / 'moving.gif')).getpixel((5, 5)) == (255, 0, 0)

def test_pytorch_and_openvino_agree_and_either_will_do(drawn, monkeypatch):
    weights = find('efficientnet-lite0')
    plain = lite_network(weights, 'PyTorch')
    monkeypatch.setattr(images, 'has_openvino', lambda: False)
    assert lite_network(weights).engine == 'PyTorch'
    with pytest.raises(ValueError, match='OpenVINO that agrees'): lite_network(weights, 'OpenVINO')
    pixels = plain.prepare(open_picture(drawn[0]))[None]
    assert np.allclose(plain.compute(pixels)['features'][0], image_vectors(drawn)[0], atol=1e-3)

def test_a_graph_that_does_not_agree_is_not_taken(own_cache, monkeypatch):
    if not images.has_openvino(): pytest.skip('OpenVINO is not installed')
    monkeypatch.setattr(images, 'agreement', lambda *_: .99)
    assert lite_network(find('efficientnet-lite0')).engine == 'PyTorch'

def test_a_vector_does_not_depend_on_its_neighbours(posts):
    paths = [path for path in posts.path if path][:40]
    together = image_vectors(paths, store=False)
    alone = image_vectors(paths[7:8], store=False)
    assert np.allclose(alone[0], together[7], atol=1e-4)

def test_unknown_models_and_outputs_are_refused_with_what_there_is(drawn):
    with pytest.raises(MissingWeights, match='hf download openai/clip-vit-base-patch32'):
        image_vectors(drawn, 'openai/clip-vit-base-patch32')
    with pytest.raises(LookupError, match='features'): image_vectors(drawn, what='feature')
    with pytest.raises(ValueError, match='expected a network for pictures'):
        image_vectors(drawn, 'sentence-transformers/all-MiniLM-L6-v2')

def test_clip_reads_pictures_as_its_own_library_does(drawn):
    from transformers import AutoImageProcessor, CLIPModel
    folder = tiny_network('CLIP')
    net = CLIPModel.from_pretrained(folder).eval()
    batch = AutoImageProcessor.from_pretrained(folder, backend='pil')([Image.open(drawn[0])], return_tensors='pt')
    out = net.get_image_features(**batch)
    expected = getattr(out, 'pooler_output', out).detach().numpy()[0]
    assert np.allclose(image_vectors(drawn, folder)[0], expected, atol=1e-5)

def test_kinds_of_simulated_pictures_can_be_told_apart(posts):
    there = posts[posts.path != '']
    vectors = image_vectors(there.path.tolist())
    half = len(there) // 2
    probe = LogisticRegression(max_iter=300).fit(vectors[:half], there.kind[:half])
    assert probe.score(vectors[half:], there.kind[half:]) > .9

def test_joined_vectors_flag_what_is_missing(posts):
    paths = [*posts.path[:20], '']
    vectors = image_vectors(paths)
    both = joined(np.ones((21, 4)), vectors)
    assert np.array_equal(both[:, -1], missing_flag(paths)) and np.isfinite(both).all()
    assert not both[-1, 4:-1].any()

def test_decoding_is_told_apart_from_the_network(posts):
    speed = picture_speed([path for path in posts.path if path][:16], tiny_network('EfficientNet'))
    assert 0 < speed['both'] <= min(speed['decode'], speed['network'])
    assert np.isclose(1 / speed['both'], 1 / speed['decode'] + 1 / speed['network'], rtol=.1)


def test_captions_say_colours_and_brightness(drawn):
    sea, none, night = captions([drawn[0], '', drawn[2]])
    assert ', blue, ' in sea and none == '' and night.endswith('black, dark')

def test_captions_of_simulated_pictures_differ_by_kind(posts):
    there = posts[posts.path != ''].head(60)
    texts = captions(there.path.tolist())
    assert all(texts) and len(set(texts)) > 10

def test_a_stored_caption_is_not_written_again(own_cache, drawn, monkeypatch):
    first = captions(drawn, tiny_blip())
    def refuse(*_): raise AssertionError('written again')
    monkeypatch.setattr(captioning.Captioner, 'write', refuse)
    assert captions([drawn[1], '', drawn[0]], tiny_blip()) == [first[1], '', first[0]]

def test_captions_of_a_stopped_run_go_on(own_cache, drawn, monkeypatch):
    blip = captioning.Captioner(find(tiny_blip()))
    files = {str(k): path for k, path in enumerate(drawn)}
    write = blip.write
    calls = []
    def stops(pictures):
        calls.append(len(pictures))
        if len(calls) == 2: raise KeyboardInterrupt
        return write(pictures)
    monkeypatch.setattr(blip, 'write', stops)
    with pytest.raises(KeyboardInterrupt): captioning.written_for(files, blip, size=1)
    assert len(captioning.written_for(files, blip, size=1)) == 3
    assert calls == [1, 1, 1, 1]       # the first of the three was not written again

def test_blip_2_writes_captions_too(tmp_path, drawn):
    from transformers import (AutoTokenizer, Blip2Config, Blip2ForConditionalGeneration, Blip2Processor,
                              BlipImageProcessorPil)
    from socialprof.core.models import quiet, tiny
    tokenizer = AutoTokenizer.from_pretrained(tiny('bloom'))
    small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    text = small | dict(model_type='opt', vocab_size=len(tokenizer) + 1, ffn_dim=32, word_embed_proj_dim=16,
                        max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
                        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    config = Blip2Config(text_config=text, num_query_tokens=4, image_token_index=len(tokenizer),
                         vision_config=small | dict(intermediate_size=32, image_size=32, patch_size=8),
                         qformer_config=small | dict(vocab_size=99, intermediate_size=32, encoder_hidden_size=16))
    with quiet():
        Blip2ForConditionalGeneration(config).save_pretrained(tmp_path / 'blip2')
        pictures = BlipImageProcessorPil(size=dict(height=32, width=32))
        Blip2Processor(pictures, tokenizer, num_query_tokens=4).save_pretrained(tmp_path / 'blip2')
    texts = captions([drawn[0], ''], tmp_path / 'blip2')
    assert len(texts) == 2 and isinstance(texts[0], str) and texts[1] == ''
    assert captions([drawn[0], ''], tmp_path / 'blip2') == texts


def test_a_vector_with_the_account_in_it_is_found_out():
    rng = np.random.default_rng(1)
    accounts = rng.integers(10, size=500)
    content = rng.normal(size=(500, 32))
    hidden = content.copy()
    hidden[:, 0] = accounts / 10 + .001 * rng.normal(size=500)       # in a single column
    hidden[:, 1] = np.sin(accounts * 2.4)
    blind = identity_probe(content, accounts)
    leaky = identity_probe(np.column_stack([content, np.eye(10)[accounts] * 2]), accounts)
    assert identity_warning(blind) == '' and 'may be the account' in identity_warning(leaky)
    assert identity_probe(hidden, accounts)['low'] > blind['majority'] and leaky['accuracy'] > .95

def test_the_probe_repeats_and_follows_its_seed():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(200, 8))
    accounts = rng.integers(4, size=200)
    assert identity_probe(vectors, accounts, 5) == identity_probe(vectors, accounts, 5)
    assert any(identity_probe(vectors, accounts, 5) != identity_probe(vectors, accounts, seed) for seed in (6, 7, 8))

def test_blind_vectors_raise_no_warning_more_often_than_they_should():
    rng = np.random.default_rng(4)
    accounts = rng.integers(6, size=240)
    warned = [bool(identity_warning(identity_probe(rng.normal(size=(240, 12)), accounts, k))) for k in range(12)]
    assert sum(warned) <= 2

def test_pictures_of_accounts_give_the_account_away_in_the_simulated_world(posts):
    there = posts[posts.path != '']
    probe = identity_probe(image_vectors(there.path.tolist()), there.account)
    assert probe['low'] <= probe['accuracy'] <= probe['high'] and probe['n'] > 20

def test_copies_of_a_picture_share_the_first_place():
    rng = np.random.default_rng(3)
    text = rng.normal(size=(200, 6))
    same = np.ones((200, 9))                            # one picture for all: nothing can be found
    rank = own_picture_rank(text, same)
    assert np.isclose(rank['recall'], rank['chance'])
