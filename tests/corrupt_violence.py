"""Named damages of good violence folders; `corrupt` returns what the refusal or the note must say."""
import csv, gzip, io, random
from collections.abc import Callable
from pathlib import Path

Row = list[str]


def rows_of(path: Path) -> list[Row]:
    with open(path, encoding='utf-8', newline='') as file: return list(csv.reader(file))

def write_rows(path: Path, rows: list[Row]) -> None:
    held = io.StringIO(newline='')
    csv.writer(held, lineterminator='\n').writerows(rows)
    path.write_text(held.getvalue(), encoding='utf-8', newline='')

def cell(column: str, value: str | Callable) -> Callable:
    "Change one cell of a random row."
    def change(rows: list[Row], rng: random.Random) -> None:
        at, row = rows[0].index(column), rng.choice(rows[1:])
        row[at] = value(row[at]) if callable(value) else value
    return change

def header(old: str, new: str) -> Callable:
    def change(rows: list[Row], rng: random.Random) -> None: rows[0][rows[0].index(old)] = new
    return change

def without(column: str) -> Callable:
    def change(rows: list[Row], rng: random.Random) -> None:
        at = rows[0].index(column)
        for row in rows: del row[at]
    return change

def unnested(small: str, large: str) -> Callable:
    "A row that has the label of the smaller window and not that of the larger."
    def change(rows: list[Row], rng: random.Random) -> None:
        row = rng.choice(rows[1:])
        row[rows[0].index(small)], row[rows[0].index(large)] = '1', '0'
    return change

def one_more(rows: list[Row], rng: random.Random) -> None: rng.choice(rows[1:]).append('1')
def one_less(rows: list[Row], rng: random.Random) -> None: rng.choice(rows[1:]).pop()
def twice(rows: list[Row], rng: random.Random) -> None: rows.append(list(rng.choice(rows[1:])))
def only_header(rows: list[Row], rng: random.Random) -> None: del rows[1:]

def raw(change: Callable[[bytes, random.Random], bytes]) -> Callable:
    "Change the bytes of the file."
    change.raw = True
    return change

def inside(data: bytes, rng: random.Random) -> int:
    "The beginning of a random row that is not the header."
    return rng.choice([i + 1 for i, byte in enumerate(data[:-1]) if byte == 10 and data[:i].count(b'"') % 2 == 0])

def a_column_more(rows: list[Row], rng: random.Random) -> None:
    for row in rows: row.append('x')

def header_again(rows: list[Row], rng: random.Random) -> None: rows.insert(rng.randrange(1, len(rows) + 1), rows[0])

# a file that cannot be read at all: name → (change, words of the refusal)
FILES: dict[str, tuple[Callable, str]] = {
    'column misspelt': (header('geo_x', 'geox'), 'geo_x'),
    'column missing': (without('timestamp'), 'timestamp'),
    'label missing': (without('pre3geo30'), 'pre3geo30'),
    'column twice': (header('key', 'text'), 'text'),
    'UTF-16': (raw(lambda data, rng: data.decode().encode('utf-16')), 'UTF-16'),
    'carriage returns only': (raw(lambda data, rng: data.replace(b'\n', b'\r')), 'carriage return'),
    'Parquet called CSV': (raw(lambda data, rng: b'PAR1' + data), 'Parquet'),
    'a spreadsheet called CSV': (raw(lambda data, rng: b'PK\x03\x04' + data), 'spreadsheet'),
    'half a gzip file': (raw(lambda data, rng: gzip.compress(data)[:-20]), 'gzip'),
}
# a row that cannot be used: name → (change, words of the refusal)
ROWS: dict[str, tuple[Callable, str]] = {
    'a field more': (one_more, '51'),
    'a field less': (one_less, '49'),
    'label 2': (cell('post1geo10', '2'), 'post1geo10'),
    'label empty': (cell('pre7geo70', ''), 'pre7geo70'),
    'label a word': (cell('pre7geo20', 'yes'), 'pre7geo20'),
    'nesting of days': (unnested('post1geo70', 'post2geo70'), 'post1geo70'),
    'nesting of radii': (unnested('pre7geo10', 'pre7geo20'), 'pre7geo20 = 0'),
    'longitude out of range': (cell('geo_x', '200.5'), '200.5'),
    'latitude no number': (cell('geo_y', 'north'), 'north'),
    'date impossible': (cell('date', '2013-02-30'), '2013-02-30'),
    'timestamp no time': (cell('timestamp', 'noon'), 'noon'),
    'timestamp a year': (cell('timestamp', '2014'), '2014'),
    'timestamp of another day': (cell('timestamp', '2012-01-01 00:00:00'), 'the day of timestamp'),
    'key of another place': (cell('key', lambda key: '99_' + key.partition('_')[2]), '99_'),
    'id no number': (cell('tweetid', '12a'), '12a'),
    'id rounded': (cell('tweetid', '3.6E+17'), '3.6E+17'),
    'id empty': (cell('tweetid', ''), 'tweetid'),
    'retweeted id no number': (cell('retweetid', 'them'), 'them'),
    'id twice': (twice, 'once'),
    'the header again': (header_again, 'the header again'),
    'cut short': (raw(lambda data, rng: data[:-rng.randint(3, 40)]), 'cut'),
    'quote left open': (raw(lambda data, rng: data[:(i := inside(data, rng))] + b'"' + data[i:]), 'quote'),
    'a quote in a word': (raw(lambda data, rng: data[:(i := inside(data, rng))] + b'1"' + data[i:]), 'quote'),
    'Latin-1': (raw(lambda data, rng: data[:(i := inside(data, rng))] + b'\xe9' + data[i:]), '0xE9'),
    'NUL': (raw(lambda data, rng: data[:(i := inside(data, rng))] + b'\x00' + data[i:]), ''),
}
# what changes no result: name → (change, words of the note; '' for none)
ODDITIES: dict[str, tuple[Callable, str]] = {
    'language unknown': (cell('lang', 'zz'), 'not documented'),
    'language spelt out': (cell('lang', 'spanish'), 'not documented'),
    'a column more': (a_column_more, 'not used'),
    'no column key': (without('key'), 'without the columns "key"'),
    'byte order mark': (raw(lambda data, rng: b'\xef\xbb\xbf' + data), 'byte order mark'),
    'a line that names the separator': (raw(lambda data, rng: b'sep=,\r\n' + data), 'names the separator'),
    'a gzip file': (raw(lambda data, rng: gzip.compress(data)), ''),
    'carriage returns and line feeds': (raw(lambda data, rng: data.replace(b'\n', b'\r\n')), ''),
    'empty lines': (raw(lambda data, rng: b'\n' + data + b'\n\r\n'), ''),
    'without the last line feed': (raw(lambda data, rng: data.rstrip(b'\n')), ''),
}
# a day without posts
EMPTY: dict[str, tuple[Callable, str]] = {
    'only a header': (only_header, 'without a row'),
    'empty file': (raw(lambda data, rng: b''), 'without a row'),
}
KINDS = FILES | ROWS
EVERYTHING = KINDS | ODDITIES | EMPTY

def corrupt(folder: Path, kind: str, seed: int = 0) -> str:
    "Damage a random file of a good daily folder; the words that the refusal or the note must hold."
    rng, (change, words) = random.Random(seed), EVERYTHING[kind]
    path = rng.choice(sorted(folder.glob('*.csv')))
    if getattr(change, 'raw', False): path.write_bytes(change(path.read_bytes(), rng))
    else:
        rows = rows_of(path)
        change(rows, rng)
        write_rows(path, rows)
    return words
