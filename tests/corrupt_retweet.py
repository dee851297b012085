"""Named damages of good retweet files; `corrupt` returns what the refusal must say, and how many lines are bad."""
import random
from collections.abc import Callable
from pathlib import Path

from socialprof.retweet.columns import BY_NAME, NAMES

Line = list[bytes]


def cell(column: str, value: bytes | Callable) -> Callable:
    "Change one cell of a line that has something in it."
    at = NAMES.index(column)
    def change(lines: list[Line], rng: random.Random) -> int:
        row = rng.choice([row for row in range(len(lines)) if lines[row][at]])
        lines[row][at] = value(lines[row][at]) if callable(value) else value
        return row
    return change

def emptied(column: str) -> Callable: return cell(column, b'')

def early(column: str) -> Callable:
    "An engagement a second before its post."
    at, post = NAMES.index(column), NAMES.index('tweet_time')
    def change(lines: list[Line], rng: random.Random) -> int:
        row = rng.randrange(len(lines))
        lines[row][at] = b'%d' % (int(lines[row][post]) - 1)
        return row
    return change

def one_more(lines: list[Line], rng: random.Random) -> int:
    row = rng.randrange(len(lines))
    lines[row].insert(rng.randrange(24), b'')
    return row

def one_less(lines: list[Line], rng: random.Random) -> int:
    row = rng.randrange(len(lines))
    del lines[row][rng.randrange(24)]
    return row

def without_labels(lines: list[Line], rng: random.Random) -> int:
    row = rng.randrange(1, len(lines))
    del lines[row][20:]
    return row

def twice(lines: list[Line], rng: random.Random) -> int:
    lines.append(list(rng.choice(lines)))
    return len(lines) - 1

def empty_line(lines: list[Line], rng: random.Random) -> int:
    row = rng.randrange(1, len(lines))
    lines.insert(row, [b''])
    return row

def feed_inside(lines: list[Line], rng: random.Random) -> int:
    "A line feed inside a line makes two lines of it, both of them bad."
    row, at = rng.randrange(1, len(lines)), rng.randrange(2, 20)
    lines[row][at:at + 1] = [lines[row][at] + b'\n' + b'x']
    return row

# name → (change of the fields, words of the refusal)
LINES: dict[str, tuple[Callable, str]] = {
    'a column more': (one_more, '25'),
    'a column less': (one_less, '23'),
    'labels missing in a line': (without_labels, 'mixed'),
    'a line feed inside a line': (feed_inside, '24 columns'),
    'a pair twice': (twice, 'once'),
    'a token no number': (cell('text_tokens', b'101\thello\t102'), 'hello'),
    'a token with a point': (cell('text_tokens', b'101\t7592.0\t102'), '7592.0'),
    'a token below 0': (cell('text_tokens', b'101\t-5\t102'), '-5'),
    'a token outside the vocabulary': (cell('text_tokens', b'101\t119547\t102'), '119547'),
    'a token outside every vocabulary': (cell('text_tokens', b'101\t99999999999999999999\t102'), '99999999999999999999'),
    'tokens with commas': (cell('text_tokens', lambda v: v.replace(b'\t', b',')), 'token ids'),
    'a tab twice': (cell('text_tokens', lambda v: v.replace(b'\t', b'\t\t', 1)), 'token ids'),
    'no [CLS]': (cell('text_tokens', lambda v: v.removeprefix(b'101\t')), '[CLS]'),
    'no [SEP]': (cell('text_tokens', lambda v: v.removesuffix(b'\t102')), '[SEP]'),
    '[CLS] twice': (cell('text_tokens', lambda v: b'101\t' + v), 'twice'),
    '[SEP] twice': (cell('text_tokens', lambda v: v + b'\t102'), 'twice'),
    'text missing': (emptied('text_tokens'), 'text_tokens'),
    'a short id': (cell('tweet_id', lambda v: v[:-1]), 'tweet_id'),
    'an id that is no hash': (cell('reader_id', lambda v: b'Z' + v[1:]), 'reader_id'),
    'an id with a blank': (cell('author_id', lambda v: v[:-1] + b' '), 'author_id'),
    'id missing': (emptied('reader_id'), 'reader_id'),
    'a hashtag that is no hash': (cell('hashtags', b'#love'), 'hashtags'),
    'a list with nothing in it': (cell('present_links', lambda v: v + b'\t'), 'present_links'),
    'media unknown': (cell('present_media', b'photo'), 'write Photo'),
    'type unknown': (cell('tweet_type', b'Retweeted'), 'write Retweet'),
    'language missing': (emptied('language'), 'language'),
    'a count with a point': (cell('author_followers', b'12.0'), '12.0'),
    'a count below 0': (cell('reader_following', b'-1'), '-1'),
    'a count with a plus': (cell('reader_following', b'+7'), '+7'),
    'a count a word': (cell('author_following', b'many'), 'many'),
    'count missing': (emptied('reader_followers'), 'reader_followers'),
    'a time in milliseconds': (cell('tweet_time', lambda v: v + b'000'), 'milliseconds'),
    'a time as a date': (cell('tweet_time', b'2020-02-06'), '2020-02-06'),
    'a time too early': (cell('tweet_time', b'12345'), '12345'),
    'an account from the future': (cell('author_created', b'9999999999'), '9999999999'),
    'True': (cell('reader_verified', b'True'), 'True'),
    '1 for true': (cell('engagee_follows_engager', b'1'), 'engagee_follows_engager'),
    'flag missing': (emptied('author_verified'), 'author_verified'),
    'a label of 0': (cell('like_time', b'0'), 'like_time'),
    'a label true': (cell('like_time', b'true'), 'like_time'),
    'a carriage return inside': (cell('language', lambda v: v + b'\r'), 'carriage return'),
    'Latin-1': (cell('language', lambda v: b'\xe9' + v), '0xE9'),
    'a letter that is not ASCII': (cell('tweet_type', 'TopLevél'.encode()), 'tweet_type'),
    'NUL': (cell('author_id', lambda v: v[:-1] + b'\0'), 'author_id'),
    'a quote': (cell('language', lambda v: b'"' + v + b'"'), 'language'),
}

def header(old: str, new: str) -> Callable:
    def change(data: bytes, rng: random.Random) -> bytes: return '\x01'.join(c.official for c in BY_NAME.values()).replace(old, new).encode() + b'\n' + data
    return change

# what changes no result: name → (change of the fields, words of the note)
ODD_LINES: dict[str, tuple[Callable, str]] = {
    'an empty line': (empty_line, 'empty lines'),
    'a like before its post': (early('like_time'), 'engagement before their post'),
    'a retweet before its post': (early('retweet_time'), 'engagement before their post'),
    'a carriage return at the end': (cell('like_time', lambda v: v + b'\r'), 'carriage return and line feed'),
}
# name → (change of the bytes of a file, words of the refusal)
FILES: dict[str, tuple[Callable, str]] = {
    'cut short': (lambda data, rng: data[:-rng.randint(60, 200)], 'cut'),
    'UTF-16': (lambda data, rng: data.decode().encode('utf-16'), 'UTF-16'),
    'compressed': (lambda data, rng: __import__('gzip').compress(data), 'decompress'),
    'commas for columns': (lambda data, rng: data.replace(b'\x01', b';'), '0x01'),
    'JSON': (lambda data, rng: b'{"text": "a"}\n' * 30, '0x01'),
    'a header misspelt': (header('tweet_type', 'tweet_tipe'), 'rename it to tweet_type'),
    'a header with a column twice': (header('hashtags', 'language'), 'once'),
    'a header without a column': (lambda data, rng: header('\x01hashtags', '')(data, rng), 'without hashtags'),
}
# name → (change of the bytes of a file, words of the note)
ODD_FILES: dict[str, tuple[Callable, str]] = {
    'carriage returns': (lambda data, rng: data.replace(b'\n', b'\r\n'), 'carriage return and line feed'),
    'byte order mark': (lambda data, rng: b'\xef\xbb\xbf' + data, 'byte order mark'),
    'a header': (header('', ''), 'with a header'),
}
KINDS = (*LINES, *FILES)
ODDITIES = (*ODD_LINES, *ODD_FILES)

def corrupt(folder: Path, kind: str, seed: int = 0) -> tuple[str, int | None]:
    "Damage a random file of a good folder; words that the refusal or the note must hold, and the line (None: the file) that it must name."
    rng = random.Random(f'{kind} {seed}')
    path = rng.choice(sorted(folder.glob('*.tsv')))
    if kind in FILES or kind in ODD_FILES:
        change, words = (FILES | ODD_FILES)[kind]
        path.write_bytes(change(path.read_bytes(), rng))
        return words, None
    change, words = (LINES | ODD_LINES)[kind]
    lines = [line.split(b'\x01') for line in path.read_bytes().split(b'\n')[:-1]]
    row = change(lines, rng)
    path.write_bytes(b''.join(b'\x01'.join(line) + b'\n' for line in lines))
    return words, row + 1
