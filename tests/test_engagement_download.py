"""Pictures are downloaded politely and safely: only from a server on this machine here, and never without leave."""
import http.server, io, socketserver, subprocess, sys, threading, time

import pandas as pd
import pytest
from PIL import Image

from socialprof.engagement.download import (
    CAUSES, COLUMNS, LEDGER, Download, availability, download, download_source, picture_files, read_ledger)
from socialprof.engagement.media import picture_name

FAST = Download(per_second=1e6, pause=.01, timeout=.5, longest=3, most_bytes=200_000, most_pixels=1_000_000)


def png(width=8, height=6, mode='RGB') -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, 'PNG')
    return file.getvalue()

GOOD = png()
NOISE = io.BytesIO()
Image.effect_noise((99, 99), 50).save(NOISE, 'PNG')
BODIES = {'bomb': png(12_000, 12_000, '1'), 'huge': b'x' * 300_000, 'stream': b'x' * 300_000, 'broken': NOISE.getvalue()[:2000],
          'text': b'<svg/>', 'page': b'<html>'}


class Handler(http.server.BaseHTTPRequestHandler):
    "The first word of a path says what happens."
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def log_message(self, *_): pass

    def do_GET(self):
        word = self.path.strip('/').split('/')[0]
        with self.server.lock: self.server.asked.append((self.path, time.monotonic(), self.headers))
        first = sum(path == self.path for path, _, _ in self.server.asked) == 1
        if word == 'slow': time.sleep(1.2)
        if word == 'drop':
            self.close_connection = True
            return self.connection.shutdown(2)
        status = {'gone': 404, 'left': 410, 'private': 403, 'down': 500, 'limited': 429, 'away': 302, 'circle': 302}.get(word, 200)
        if word in ('once', 'wait') and first: status = 500 if word == 'once' else 429
        if word == 'revived' and not self.server.alive: status = 503
        body = BODIES.get(word, GOOD) if status == 200 else b''
        self.send_response(status)
        self.send_header('Content-Type', 'text/html' if word == 'page' else 'image/png')
        if word in ('wait', 'limited'): self.send_header('Retry-After', '1' if word == 'wait' else '3600')
        if word in ('away', 'circle'): self.send_header('Location', 'file:///etc/passwd' if word == 'away' else '/circle')
        self.send_header('Content-Length', str(len(body) + 50 * (word == 'short'))) if word != 'stream' else self.send_header('Connection', 'close')
        self.end_headers()
        if word == 'drip':
            for _ in range(20): self.wfile.write(body[:1]); self.wfile.flush(); time.sleep(.3)
        self.wfile.write(body)
        if word in ('short', 'stream'): self.close_connection = True


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    def handle_error(self, *_): pass   # clients that hang up


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv('SOCIALPROF_ONLINE', raising=False)
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'): monkeypatch.delenv(name, raising=False)
    one = Server(('127.0.0.1', 0), Handler)
    one.asked, one.lock, one.alive = [], threading.Lock(), False
    one.top = f'http://127.0.0.1:{one.server_port}'
    threading.Thread(target=one.serve_forever, kwargs=dict(poll_interval=.02), daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


WORDS = {  # what the server does → (cause, tries)
    'good': ('', 1), 'once': ('', 2), 'wait': ('', 2), 'gone': ('not there', 1), 'left': ('not there', 1), 'private': ('refused', 1),
    'down': ('server error', 3), 'limited': ('too many requests', 1), 'slow': ('timeout', 3), 'drop': ('no connection', 3),
    'short': ('no connection', 3), 'page': ('no picture', 1), 'text': ('no picture', 1), 'huge': ('too many bytes', 1),
    'stream': ('too many bytes', 1), 'bomb': ('too many pixels', 1), 'broken': ('broken picture', 1), 'away': ('no address', 1),
    'circle': ('refused', 1),
}

@pytest.mark.parametrize('word', WORDS)
def test_each_answer_has_its_cause_and_its_tries(server, tmp_path, word):
    url = f'{server.top}/{word}'
    row = download([url], tmp_path, FAST, online=True).iloc[0]
    assert (row.cause, row.tries) == WORDS[word]
    pictures = [path for path in tmp_path.iterdir() if path.suffix == '.png']
    if row.cause: assert not pictures and row.file == ''
    else: assert [path.name for path in pictures] == [row.file] == [f'{picture_name(url)}.png'] and pictures[0].read_bytes() == GOOD
    before = len(server.asked)
    again = download([url], tmp_path, FAST, online=True).iloc[0]
    assert (len(server.asked) > before) == CAUSES.get(row.cause, False), 'passing errors are tried again, others are not'
    assert again.cause == row.cause

def test_no_server_is_a_passing_error(tmp_path):
    assert download(['http://127.0.0.1:9/a'], tmp_path, FAST, online=True).cause[0] == 'no connection'

@pytest.mark.parametrize('url', ['file:///etc/passwd', 'ftp://127.0.0.1/a', 'javascript:1', 'http://', 'http://[::', 'a.jpg'])
def test_other_addresses_are_not_asked(tmp_path, url):
    row = download([url], tmp_path, FAST, online=True).iloc[0]
    assert (row.cause, row.tries) == ('no address', 0)
    assert download([url], tmp_path, FAST, online=False).cause[0] == 'no address'

def test_a_drip_ends(server, tmp_path):
    begin = time.monotonic()
    settings = Download(**{**vars(FAST), 'longest': .5, 'tries': 1})
    assert download([f'{server.top}/drip'], tmp_path, settings, online=True).cause[0] == 'timeout'
    assert time.monotonic() - begin < 4

def test_what_was_down_comes_with_the_next_run(server, tmp_path):
    url = f'{server.top}/revived'
    assert download([url], tmp_path, FAST, online=True).cause[0] == 'server error'
    server.alive = True
    row = download([url], tmp_path, FAST, online=True).iloc[0]
    assert (row.cause, row.tries) == ('', 4)

def test_a_deleted_picture_is_fetched_again_and_a_foreign_one_is_taken(server, tmp_path):
    urls = [f'{server.top}/a', f'{server.top}/b']
    (tmp_path / f'{picture_name(urls[1])}.png').write_bytes(GOOD)
    table = download(urls, tmp_path, FAST, online=True)
    assert table.cause.tolist() == ['', ''] and table.tries.tolist() == [1, 0]
    (tmp_path / table.file[0]).unlink()
    assert download(urls, tmp_path, FAST, online=True).cause.tolist() == ['', '']
    assert [path for path, _, _ in server.asked] == ['/a', '/a']

def test_nothing_is_sent_without_leave(server, tmp_path, monkeypatch):
    folder = tmp_path / 'new'
    for leave in (None, False):
        with pytest.raises(PermissionError, match='--online'): download([f'{server.top}/a'], folder, FAST, online=leave)
    assert not server.asked and not folder.exists()
    monkeypatch.setenv('SOCIALPROF_ONLINE', '1')
    with pytest.raises(PermissionError): download([f'{server.top}/a'], folder, FAST, online=False)
    assert not server.asked
    assert download([f'{server.top}/a'], folder, FAST).cause[0] == ''

def test_a_thousand_addresses_once_each(server, tmp_path):
    urls = [f'{server.top}/{"gone" if n % 10 == 0 else "good"}/{n}' for n in range(1000)]
    begin = time.monotonic()
    table = download(urls + urls, tmp_path, FAST, online=True)
    seconds = time.monotonic() - begin
    print(f'{1000 / seconds:.0f} a second')
    assert list(table.columns) == COLUMNS and table.url.tolist() == urls
    assert (table.cause == '').sum() == 900 and (table.cause == 'not there').sum() == 100
    assert len(server.asked) == 1000 and seconds < 60
    pd.testing.assert_frame_equal(read_ledger(tmp_path).set_index('url').loc[urls].reset_index(), table)
    assert download(urls, tmp_path, FAST, online=False).equals(table)

def test_requests_to_a_host_keep_their_distance(server, tmp_path):
    settings = Download(per_second=20, workers=8)
    download([f'{server.top}/{n}' for n in range(11)], tmp_path, settings, online=True)
    times = sorted(moment for _, moment, _ in server.asked)
    assert times[-1] - times[0] >= .45
    assert {headers['Accept-Encoding'] for _, _, headers in server.asked} == {'identity'}

def test_a_host_that_asks_for_a_wait_gets_it_from_all(server, tmp_path):
    settings = Download(**{**vars(FAST), 'workers': 1})
    download([f'{server.top}/wait', f'{server.top}/a'], tmp_path, settings, online=True)
    times = [moment for _, moment, _ in server.asked]
    assert times[1] - times[0] >= .95

def test_a_host_that_asks_for_an_hour_is_left_alone(server, tmp_path):
    settings = Download(**{**vars(FAST), 'workers': 1})
    table = download([f'{server.top}/limited/{n}' for n in range(50)], tmp_path, settings, online=True)
    assert set(table.cause) == {'too many requests'} and len(server.asked) == 1

CHILD = '''
import sys
from socialprof.engagement.download import Download, download
download([f'{sys.argv[1]}/good/{n}' for n in range(300)], sys.argv[2], Download(per_second=60, workers=4), online=True)
'''

def test_a_killed_download_goes_on(server, tmp_path):
    child = subprocess.Popen([sys.executable, '-c', CHILD, server.top, str(tmp_path)])
    end = time.monotonic() + 60
    while len(server.asked) < 60 and time.monotonic() < end: time.sleep(.02)
    child.kill()
    child.wait()
    sent = len(server.asked)
    assert 60 <= sent < 300
    assert len(read_ledger(tmp_path)) >= sent - 8, 'a row is written as soon as it is settled'
    table = download([f'{server.top}/good/{n}' for n in range(300)], tmp_path, FAST, online=True)
    assert (table.cause == '').all()
    assert len(server.asked) <= 300 + 8, 'at most what was under way is sent twice'
    assert len(list(tmp_path.glob('[0-9a-f]*.png'))) == 300

def test_an_interruption_ends_at_once_and_loses_nothing(server, tmp_path, monkeypatch):
    import socialprof.engagement.download as module
    urls = [f'{server.top}/good/{n}' for n in range(200)]
    rows = module._rows
    def stops(*args):
        for n, row in enumerate(rows(*args)):
            if n == 40: raise KeyboardInterrupt
            yield row
    monkeypatch.setattr(module, '_rows', stops)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt): download(urls, tmp_path, Download(per_second=200), online=True)
    assert time.monotonic() - begin < 5 and len(read_ledger(tmp_path)) == 40
    monkeypatch.setattr(module, '_rows', rows)
    assert (download(urls, tmp_path, FAST, online=True).cause == '').all()

@pytest.mark.parametrize('tail', ['http://b,,time', '"http://b\nc', 'http://b,,,1,2,3', ''])
def test_a_torn_ledger_is_read_up_to_the_tear(tmp_path, tail):
    (tmp_path / LEDGER).write_text(','.join(COLUMNS) + '\nhttp://a,,not there,0,0,0,1,t\n' + tail)
    assert read_ledger(tmp_path).url.tolist() == ['http://a']

def frame(server) -> pd.DataFrame:
    "Posts of two years: one kind of medium each, one without, one whose media are code."
    media = [f"[Photo(previewUrl='{server.top}/small', fullUrl='{server.top}/good')]", f"[Video(thumbnailUrl='{server.top}/film', variants=[])]",
             f"[Gif(thumbnailUrl='{server.top}/gone', variants=[])]", '', "[__import__('os').system('touch x')]"]
    return pd.DataFrame(dict(media=media, time=pd.to_datetime(['2019-01-01', '2020-01-01', '2020-02-01', '2020-03-01', '2020-04-01'], utc=True)))

def test_pictures_of_a_frame(server, tmp_path):
    posts = frame(server)
    assert picture_files(posts, tmp_path / 'nowhere') == [''] * 5
    assert download_source(posts, tmp_path, FAST, online=True) == '2 of 3 pictures are there; missing: 1 not there'
    assert {path for path, _, _ in server.asked} == {'/good', '/film', '/gone'}
    paths = picture_files(posts, tmp_path)
    assert [bool(path) for path in paths] == [True, True, False, False, False]
    assert all(open(path, 'rb').read() == GOOD for path in paths if path)

def test_availability_by_year(server, tmp_path):
    posts = frame(server)
    table = availability(posts, download(posts, tmp_path, FAST, online=True))
    assert table.loc[2019, ['posts', 'link', 'there', 'share', 'not there']].tolist() == [1, 1, 1, 1, 0]
    assert table.loc[2020, ['posts', 'link', 'there', 'share', 'not there']].tolist() == [4, 2, 1, .5, 1]
    nothing = availability(posts, read_ledger(tmp_path / 'nowhere'))
    assert nothing['not tried'].tolist() == [1, 2] and nothing.there.tolist() == [0, 0]

@pytest.mark.parametrize('end', ['\u2028', '\x85', '"', ',', '\n', '\r', '=1', ' é'])
def test_odd_addresses_keep_one_row_each(tmp_path, end):
    urls = [f'ftp://a/{n}{end}{n}' for n in range(3)]
    table = download(urls, tmp_path, FAST, online=True)
    assert table.url.tolist() == urls and set(table.cause) == {'no address'}
    assert download(urls, tmp_path, FAST, online=False).equals(table)

def test_without_httpx_its_line_to_install_is_named(tmp_path, monkeypatch):
    from socialprof.core.config import MissingPackage
    monkeypatch.setitem(sys.modules, 'httpx', None)
    with pytest.raises(MissingPackage, match='httpx'): download(['http://127.0.0.1:9/a'], tmp_path, FAST, online=True)
