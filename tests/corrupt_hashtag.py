"""Named damages of good hashtag files; `corrupt` returns what the refusal or the note must say."""
import bz2, gzip, json, random
from collections.abc import Callable
from pathlib import Path

Change = Callable[[bytes, random.Random], bytes]


def records(change: Callable[[list[dict], random.Random], None]) -> Change:
    "Change the entries of a file of JSON lines."
    def changed(data: bytes, rng: random.Random) -> bytes:
        entries = [json.loads(line) for line in data.splitlines()]
        change(entries, rng)
        return b''.join(json.dumps(entry).encode() + b'\n' for entry in entries)
    return changed

def value(key: str, new) -> Change:
    "Change one value of a random entry."
    def change(entries: list[dict], rng: random.Random) -> None:
        entry = rng.choice(entries)
        entry[key] = new(entry[key]) if callable(new) else new
    return records(change)

def renamed(old: str, new: str) -> Change:
    def change(entries: list[dict], rng: random.Random) -> None:
        entry = rng.choice(entries)
        entry[new] = entry.pop(old)
    return records(change)

def all_labels(new: Callable) -> Change:
    def change(entries: list[dict], rng: random.Random) -> None:
        for entry in entries: entry['labels'] = new(entry['labels'])
    return records(change)

def line_start(data: bytes, rng: random.Random) -> int:
    "The place behind the brace of a random line."
    return rng.choice([i + 1 for i, byte in enumerate(data) if byte == ord('{') and (i == 0 or data[i - 1:i] == b'\n')])

def inserted(what: bytes) -> Change:
    def changed(data: bytes, rng: random.Random) -> bytes:
        place = line_start(data, rng)
        return data[:place] + what + data[place:]
    return changed

def before_line(what: bytes) -> Change:
    def changed(data: bytes, rng: random.Random) -> bytes:
        place = line_start(data, rng) - 1
        return data[:place] + what + data[place:]
    return changed

def joined(data: bytes, rng: random.Random) -> bytes: return b'[' + b',\n'.join(data.splitlines()) + b']\n'

EMOTIONS = ('anger', 'joy', 'optimism', 'sadness')
# a benchmark file that cannot be read at all: name → (change, words of the refusal)
FILES: dict[str, tuple[Change, str]] = {
    'UTF-16': (lambda data, rng: data.decode().encode('utf-16'), 'UTF-16'),
    'UTF-16 without a mark': (lambda data, rng: data.decode().encode('utf-16-le'), 'two bytes a character'),
    'carriage returns only': (lambda data, rng: data.replace(b'\n', b'\r'), 'carriage return'),
    'Parquet called JSON': (lambda data, rng: b'PAR1' + data, 'Parquet'),
    'a zip archive called JSON': (lambda data, rng: b'PK\x03\x04' + data, 'zip'),
    'half a gzip file': (lambda data, rng: gzip.compress(data)[:-20], 'cut short'),
    'half a bzip2 file': (lambda data, rng: bz2.compress(data)[:-20], 'cut short'),
    'an array cut short': (lambda data, rng: joined(data, rng)[:-20], 'JSON array'),
    'objects over several lines': (lambda data, rng: data.replace(b'{', b'{\n').replace(b'}', b'\n}'), 'jq -c'),
}
# a line that cannot be used: name → (change, words of the refusal)
ROWS: dict[str, tuple[Change, str]] = {
    'a label that is none': (value('labels', '9'), '"9"'),
    'a negative label': (value('labels', -1), 'found -1'),
    'a label that is a word': (value('labels', 'fear'), '"fear"'),
    'a label that is a list': (value('labels', ['1']), '["1"]'),
    'a label that is true': (value('labels', True), 'true'),
    'a label that is empty': (value('labels', ''), '""'),
    'two labels': (value('label', 'joy?'), 'one label'),
    'no text': (renamed('text', 'txt'), 'rename "txt"'),
    'a text that is a number': (value('text', 7), 'a string for "text"'),
    'a text that is null': (value('text', None), 'null'),
    'NUL in a text': (value('text', lambda text: text + '\0'), 'NUL'),
    'half a surrogate pair': (value('text', lambda text: text + '\ud83c'), 'surrogate'),
    'a time that is none': (value('time', 'noon'), '"noon"'),
    'no JSON': (inserted(b'user: '), 'column'),
    'a raw NUL': (inserted(b'\0'), 'JSON'),
    'Latin-1': (inserted(b'"caf\xe9": 1, '), '0xE9'),
    'a key twice': (inserted(b'"text": "x", '), 'twice'),
    'a list in a line': (before_line(b'["x"]\n'), 'a list'),
    'cut short': (lambda data, rng: data[:-rng.randint(3, 12)], 'cut short'),
}
# what changes no result: name → (change, words of the note; '' for none)
ODDITIES: dict[str, tuple[Change, str]] = {
    'labels as numbers': (all_labels(int), 'numbers'),
    'labels as floats': (all_labels(float), 'numbers'),
    'labels as names': (all_labels(lambda code: EMOTIONS[int(code)]), 'names of classes'),
    'labels as names, otherwise spelt': (all_labels(lambda code: f' {EMOTIONS[int(code)].upper()}'), 'names of classes'),
    'blanks around a label': (value('labels', lambda code: f' {code} '), 'blanks'),
    'the key label': (renamed('labels', 'label'), 'the key "label"'),
    'another key': (value('id', '17'), 'not used ("id")'),
    'a JSON array': (joined, 'JSON array'),
    'blank lines': (before_line(b'\n \r\n'), 'blank lines'),
    'byte order mark': (lambda data, rng: b'\xef\xbb\xbf' + data, 'byte order mark'),
    'carriage returns and line feeds': (lambda data, rng: data.replace(b'\n', b'\r\n'), 'carriage return'),
    'without the last line feed': (lambda data, rng: data.rstrip(b'\n'), ''),
    'gzip under a plain name': (lambda data, rng: gzip.compress(data), ''),
    'bzip2 under a plain name': (lambda data, rng: bz2.compress(data), ''),
}
KINDS = FILES | ROWS

# a store: name → (change, words of the refusal)
STORES: dict[str, tuple[Change, str]] = {
    'no tag at all': (lambda data, rng: data.replace(b'#', b''), 'posts with tags'),
    'empty': (lambda data, rng: b'', 'no post'),
    'only blank lines': (lambda data, rng: b'\n\n \n', 'no post'),
    'half a gzip file': (lambda data, rng: gzip.compress(data)[:-20], 'cut short'),
    'half a bzip2 file': (lambda data, rng: bz2.compress(data)[:-20], 'cut short'),
    'UTF-16': (lambda data, rng: data.decode().encode('utf-16'), 'UTF-16'),
    'Latin-1 in a line': (lambda data, rng: data.replace(b'\n', b' caf\xe9\n', 1), '0xE9'),
    'Parquet called text': (lambda data, rng: b'PAR1' + data, 'Parquet'),
}
# name → (change, words of the note; '' for none)
STORE_ODDITIES: dict[str, tuple[Change, str]] = {
    'blank lines': (lambda data, rng: data.replace(b'\n', b'\n\n', 2), 'blank lines'),
    'byte order mark': (lambda data, rng: b'\xef\xbb\xbf' + data, ''),
    'carriage returns and line feeds': (lambda data, rng: data.replace(b'\n', b'\r\n'), ''),
    'gzip under a plain name': (lambda data, rng: gzip.compress(data), ''),
    'bzip2 under a plain name': (lambda data, rng: bz2.compress(data), ''),
    'without the last line feed': (lambda data, rng: data.rstrip(b'\n'), ''),
}


def corrupt(path: Path, kind: str, kinds: dict[str, tuple[Change, str]], seed: int = 0) -> str:
    "Damage a good file; the words that the refusal or the note must hold."
    change, words = kinds[kind]
    path.write_bytes(change(path.read_bytes(), random.Random(seed)))
    return words
