"""Named damages of good engagement files; `corrupt` and `corrupt_sheet` return what the refusal or the note must say."""
import csv, gzip, io, random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

Change = Callable[[bytes, random.Random], bytes]
CODE = "__import__('pathlib').Path('made-by-code').touch()"


def records(change: Callable[[list[dict], random.Random], None], drop: str = '') -> Change:
    "Change the rows of a CSV file, which are dicts; or leave a column out."
    def changed(data: bytes, rng: random.Random) -> bytes:
        rows = list(csv.DictReader(io.StringIO(data.decode(), newline='')))
        names = [name for name in rows[0] if name != drop]
        change(rows, rng)
        out = io.StringIO(newline='')
        writer = csv.DictWriter(out, list(dict.fromkeys([*names, *(key for row in rows for key in row if key != drop)])),
                                extrasaction='ignore', lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue().encode()
    return changed

def value(key: str, new) -> Change:
    "Change one value of a random row."
    def change(rows: list[dict], rng: random.Random) -> None:
        row = rng.choice(rows)
        row[key] = new(row[key]) if callable(new) else new
    return records(change)

def every(key: str, new: Callable) -> Change:
    "Change a value in every row."
    def change(rows: list[dict], rng: random.Random) -> None:
        for row in rows: row[key] = new(row[key])
    return records(change)

def header(old: str, new: str) -> Change:
    def changed(data: bytes, rng: random.Random) -> bytes:
        first, rest = data.split(b'\n', 1)
        return first.replace(old.encode(), new.encode(), 1) + b'\n' + rest
    return changed

def same_id(rows: list[dict], rng: random.Random) -> None:
    first, second = rng.sample(range(len(rows)), 2)
    rows[max(first, second)]['id'] = rows[min(first, second)]['id']

def line(new: Callable[[bytes], bytes]) -> Change:
    "Change the bytes of a row, which is the second line, or what comes before it."
    def changed(data: bytes, rng: random.Random) -> bytes:
        first, second, rest = data.split(b'\n', 2)
        return first + b'\n' + new(second) + b'\n' + rest
    return changed

def again(data: bytes, rng: random.Random) -> bytes:
    "Two files that were joined."
    return data + data.split(b'\n', 1)[0] + b'\n'

def days(word: str) -> str:
    "A time as the number of days since 30 December 1899."
    return repr((datetime.fromisoformat(word) - datetime(1899, 12, 30)) / timedelta(days=1))

# a file that cannot be read at all: name → (change, words of the refusal)
FILES: dict[str, tuple[Change, str]] = {
    'UTF-16': (lambda data, rng: data.decode().encode('utf-16'), 'UTF-16'),
    'UTF-16 without a mark': (lambda data, rng: data.decode().encode('utf-16-le'), 'two bytes a character'),
    'carriage returns only': (lambda data, rng: data.replace(b'\n', b'\r'), 'carriage return'),
    'Parquet called CSV': (lambda data, rng: b'PAR1' + data, 'Parquet'),
    'a spreadsheet called CSV': (lambda data, rng: b'PK\x03\x04' + data, 'spreadsheet'),
    'half a gzip file': (lambda data, rng: gzip.compress(data)[:-20], 'cut short'),
    'no likes': (records(lambda rows, rng: None, drop='likes'), 'a column "likes"'),
    'no content': (records(lambda rows, rng: None, drop='content'), 'a column "content"'),
    'no id': (records(lambda rows, rng: None, drop='id'), 'a column "id"'),
    'a column that is called otherwise': (header('username', 'user_name_'), 'rename "user_name_" to "username"'),
    'a column twice': (header('sector', 'likes'), 'each column once'),
    'nothing but the header': (lambda data, rng: data.split(b'\n', 1)[0] + b'\n', 'at least one post'),
    'empty': (lambda data, rng: b'', 'at least one post'),
}
# a row that cannot be used: name → (change, words of the refusal)
ROWS: dict[str, tuple[Change, str]] = {
    'negative likes': (value('likes', '-4'), 'found "-4"'),
    'half a like': (value('likes', '1.5'), 'a whole number'),
    'likes in words': (value('likes', 'many'), '"many"'),
    'likes shortened': (value('likes', '1.2K'), '"1.2K"'),
    'a decimal comma': (value('likes', '1,23'), '"1,23"'),
    'endless likes': (value('likes', 'inf'), '"inf"'),
    'likes that are no number': (value('likes', 'nan'), '"nan"'),
    'an error of a spreadsheet': (value('likes', '#N/A'), '"#N/A"'),
    'no likes in a row': (value('likes', ''), 'something in likes'),
    'no user': (value('username', ' '), 'something in username'),
    'no id in a row': (value('id', ''), 'something in id'),
    'an id twice': (records(same_id), 'each id once'),
    'no time': (value('date', ''), 'something in date'),
    'a time in words': (value('date', 'noon'), '"noon"'),
    'a day that could be two': (value('date', '06/07/2019'), '"06/07/2019"'),
    'a day that is none': (value('date', '2019-02-30 10:00:00'), 'a time from 2000'),
    'a number that is no time': (value('date', '12'), 'a time from 2000'),
    'a day without dashes': (value('date', '20190630'), 'a time from 2000'),
    'a time long ago': (value('date', '1899-12-31 00:00:00'), 'a time from 2000'),
    'NUL in a text': (value('content', lambda text: text + '\0'), 'NUL'),
    'the header again': (again, 'the header again'),
    'a field too many': (line(lambda row: row + b',more'), 'fields'),
    'a field too few': (line(lambda row: b'1,2019-06-30'), 'fields'),
    'Latin-1': (line(lambda row: row + b'\xe9'), '0xE9'),
    'a quote inside': (line(lambda row: row.replace(b',', b',x"y', 1)), 'quotes'),
}
# what changes no result: name → (change, words of the note; '' for none)
ODDITIES: dict[str, tuple[Change, str]] = {
    'commas between thousands': (every('likes', lambda word: f'{int(word):,}'), 'commas'),
    'likes as floats': (every('likes', lambda word: f'{word}.0'), ''),
    'ids as floats': (every('id', lambda word: f'{word}.0'), 'end with .0'),
    'days of a spreadsheet': (every('date', days), 'numbers of days'),
    'times with a T': (every('date', lambda word: word.replace(' ', 'T')), ''),
    'times with a zone': (every('date', lambda word: word + '+00:00'), ''),
    'seconds since 1970': (every('date', lambda word: str(int(datetime.fromisoformat(word + '+00:00').timestamp()))), ''),
    'blanks around likes': (every('likes', lambda word: f' {word} '), ''),
    'names in capitals': (lambda data, rng: data.split(b'\n', 1)[0].upper() + b'\n' + data.split(b'\n', 1)[1], 'another spelling'),
    'an underscore in a name': (header('inferred company', 'inferred_company'), 'another spelling'),
    'byte order mark': (lambda data, rng: b'\xef\xbb\xbf' + data, 'byte order mark'),
    'carriage returns and line feeds': (lambda data, rng: data.replace(b'\n', b'\r\n'), ''),
    'semicolons': (lambda data, rng: _separated(data, ';'), 'between fields'),
    'gzip under a plain name': (lambda data, rng: gzip.compress(data), ''),
    'without the last line feed': (lambda data, rng: data.rstrip(b'\n'), ''),
    'blank lines': (lambda data, rng: data + b'\n\n', ''),
}
# what is read, and changes the column that is named: name → (change, words of the note, column)
CHANGES: dict[str, tuple[Change, str, str]] = {
    'media that are code': (every('media', lambda text: CODE), 'no list of Photo', 'media'),
    'media that are cut': (every('media', lambda text: text[:-3] or '['), 'no list of Photo', 'media'),
    'no company': (records(lambda rows, rng: None, drop='inferred company'), 'without a column "inferred company"', 'company'),
    'no media': (records(lambda rows, rng: None, drop='media'), 'without a column "media"', 'media'),
    'no text in a row': (value('content', ''), 'without a text', 'text'),
    'no extra column': (records(lambda rows, rng: None, drop='sector'), '', 'sector'),
}
KINDS = FILES | ROWS


def _separated(data: bytes, separator: str) -> bytes:
    out = io.StringIO(newline='')
    csv.writer(out, delimiter=separator, lineterminator='\n').writerows(csv.reader(io.StringIO(data.decode(), newline='')))
    return out.getvalue().encode()

def corrupt(path: Path, kind: str, kinds: dict[str, tuple], seed: int = 0) -> str:
    "Damage a good file; the words that the refusal or the note must hold."
    change, words, *_ = kinds[kind]
    path.write_bytes(change(path.read_bytes(), random.Random(seed)))
    return words


def _title(page) -> None: page.insert_rows(1); page['A1'] = 'Our posts'
def _merge_company(page) -> None:
    page['G3'] = None
    page.merge_cells('G2:G3')
def _merge_sideways(page) -> None: page.merge_cells('D2:E2')
def _numbers(page) -> None:
    for row in page.iter_rows(min_row=2):
        row[0].value = float(row[0].value)
        row[1].value = (datetime.fromisoformat(row[1].value) - datetime(1899, 12, 30)) / timedelta(days=1)
def _dates(page) -> None:
    for row in page.iter_rows(min_row=2): row[1].value = datetime.fromisoformat(row[1].value)
def _commas(page) -> None:
    for row in page.iter_rows(min_row=2): row[2].value = f'{row[2].value:,}'
def _negative(page) -> None: page['C3'] = -7
def _twice(page) -> None: page['A3'] = page['A2'].value
def _header_again(page) -> None: page.append([cell.value for cell in page[1]])
def _empty_rows(page) -> None: page.insert_rows(4, 2)
def _second_sheet(page) -> None: page.parent.create_sheet('notes').append(['a', 'b'])
def _formula_error(page) -> None: page['C2'] = '#REF!'

# a spreadsheet: name → (change of its page, words, 'refused' or 'noted')
SHEETS: dict[str, tuple[Callable, str, str]] = {
    'a title above the header': (_title, 'above the header', 'noted'),
    'a company over two rows': (_merge_company, 'merged', 'noted'),
    'days as numbers': (_numbers, 'numbers of days', 'noted'),
    'days as dates': (_dates, '', 'noted'),
    'likes as texts with commas': (_commas, 'commas', 'noted'),
    'empty rows': (_empty_rows, '', 'noted'),
    'a second sheet': (_second_sheet, 'further sheets', 'noted'),
    'cells merged sideways': (_merge_sideways, 'cells merged over 2 columns', 'refused'),
    'negative likes': (_negative, 'found "-7"', 'refused'),
    'an id twice': (_twice, 'each id once', 'refused'),
    'the header again': (_header_again, 'the header again', 'refused'),
    'an error in a cell': (_formula_error, 'something in likes', 'refused'),
}

def corrupt_sheet(path: Path, kind: str) -> str:
    "Damage a good spreadsheet; the words that the refusal or the note must hold."
    import openpyxl
    book = openpyxl.load_workbook(path)
    change, words, _ = SHEETS[kind]
    change(book.active)
    book.save(path)
    return words
