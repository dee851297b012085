"""Damage to a good folder of PAN'23 files, in every named way: `corrupt(folder, kind, seed)`."""
from pathlib import Path

from socialprof.core.formats import DAMAGES, HARMLESS, change_record, damage
from socialprof.influencer.data import CLASS, ID, IDS, TEXT, TEXTS, USER


def _renamed(old, new): return lambda record: {new if key == old else key: value for key, value in record.items()}

def _without(key): return lambda record: {k: v for k, v in record.items() if k != key}

def _first_post(post): return lambda record: record | {TEXTS: [post, *record[TEXTS][1:]]}

# kind: (what it does, file, change of one record, what the message must hold)
RECORDS = {
    'user key missing': ('no user id', 'train_text.json', _without(USER), f'expected the key "{USER}"'),
    'user key misspelt': ('a letter less in a key', 'train_text.json', _renamed(USER, 'twiter user id'), f'rename "twiter user id" to "{USER}"'),
    'texts misspelt': ('a letter less in a key', 'test_text.json', _renamed(TEXTS, 'text'), f'rename "text" to "{TEXTS}"'),
    'class misspelt': ('a letter less in a key', 'train_truth.json', _renamed(CLASS, 'clas'), f'rename "clas" to "{CLASS}"'),
    'post key misspelt': ('a wrong key in a post', 'train_text.json', _first_post({'txt': 'gm'}), f'rename "txt" to "{TEXT}"'),
    'bare post': ('a string for a post', 'train_text.json', _first_post('gm'), 'wrap the string'),
    'post is null': ('null for a text', 'train_text.json', _first_post({TEXT: None}), f'expected a string for "{TEXT}"'),
    'texts is a string': ('a string for the list', 'train_text.json', lambda r: r | {TEXTS: 'gm'}, f'expected a list for "{TEXTS}", found a string'),
    'empty posts only': ('blanks in all posts', 'test_text.json', lambda r: r | {TEXTS: [{TEXT: ' \n\u3000'}] * len(r[TEXTS])}, 'empty texts only'),
    'no posts': ('an empty list', 'train_text.json', lambda r: r | {TEXTS: [], IDS: []}, 'at least one post'),
    'user twice': ('a line twice', 'train_text.json', lambda r: [r, r], 'each user once'),
    'truth twice': ('a line twice', 'train_truth.json', lambda r: [r, r], 'each user once'),
    'user without truth': ('a line less in the truth', 'train_truth.json', lambda r: [], 'train_truth.json, found none'),
    'truth without user': ('a line less in the texts', 'train_text.json', lambda r: [], 'train_text.json, found none'),
    'test truth without user': ('a line less in the texts', 'test_text.json', lambda r: [], 'test_text.json, found none'),
    'test user without truth': ('a line less in the truth', 'test_truth.json', lambda r: [], 'test_truth.json, found none'),
    'unknown class': ('a class nobody knows', 'train_truth.json', lambda r: r | {CLASS: 'whale'}, 'found "whale"'),
    'class misspelt value': ('a class with a typing error', 'train_truth.json', lambda r: r | {CLASS: 'No-influencr'}, 'write "no influencer"'),
    'class null': ('the name that the task page has', 'test_truth.json', lambda r: r | {CLASS: 'null'}, 'write "no influencer"'),
    'class of another task': ('a class of interest', 'train_truth.json', lambda r: r | {CLASS: 'gaming'}, 'name that task'),
    'class is a number': ('a number for a class', 'train_truth.json', lambda r: r | {CLASS: 3}, f'expected a string for "{CLASS}"'),
}

# what changes no result; the last column is what the note must hold
ODD_RECORDS = {
    'ids misspelt': ('underscores in a key', 'train_text.json', _renamed(IDS, 'tweet_ids'), 'nothing uses them'),
    'ids missing': ('a key less', 'test_text.json', _without(IDS), 'nothing uses them'),
    'too few ids': ('an id less than posts', 'train_text.json', lambda r: r | {IDS: r[IDS][1:]}, 'do not fit their texts'),
    'too many ids': ('an id more than posts', 'test_text.json', lambda r: r | {IDS: [*r[IDS], {ID: 'e'}]}, 'do not fit their texts'),
    'id is a number': ('a number for an id', 'train_text.json', lambda r: r | {IDS: [{ID: 7}] * len(r[IDS])}, 'do not fit their texts'),
    'empty post': ('a post more', 'train_text.json', lambda r: r | {TEXTS: [*r[TEXTS], {TEXT: ''}], IDS: [*r[IDS], {ID: 'e'}]}, 'empty texts'),
    'blank post': ('a post more', 'test_text.json', lambda r: r | {TEXTS: [*r[TEXTS], {TEXT: ' \n'}], IDS: [*r[IDS], {ID: 'e'}]}, 'empty texts'),
    'class in capitals': ('letters of another case', 'train_truth.json', lambda r: r | {CLASS: r[CLASS].upper()}, 'other spellings'),
    'class with a blank': ('a blank behind a class', 'test_truth.json', lambda r: r | {CLASS: r[CLASS] + ' '}, 'other spellings'),
    'a key more': ('a key that nobody knows', 'train_text.json', lambda r: r | {'followers': 9}, 'not used (followers)'),
}

def _leak(folder: Path):
    "A training user in the test split, too."
    lines = (folder / 'test_text.json').read_bytes()
    (folder / 'test_text.json').write_bytes((folder / 'train_text.json').read_bytes().splitlines(True)[0] + lines)

def _huge(folder: Path):
    "One line of 2 GB, sparse on the disk."
    with open(folder / 'train_text.json', 'wb') as file: file.truncate(2**31)

# kind: (what it does, change of the folder, what the message must hold)
FOLDERS = {
    'no texts': ('a file less', lambda folder: (folder / 'train_text.json').unlink(), 'train_text.json: expected this file'),
    'no truth': ('a file less', lambda folder: (folder / 'train_truth.json').unlink(), 'train_truth.json: expected this file'),
    'test truth alone': ('a file less', lambda folder: (folder / 'test_text.json').unlink(), 'test_text.json: expected this file'),
    'file misnamed': ('the name that the task page has', lambda folder: (folder / 'train_text.json').rename(folder / 'train-texts.json'),
                      'if train-texts.json is this file under a wrong name, rename it'),
    'user in both splits': ('a training user in the test', _leak, 'of train_text.json; remove one'),
    'a line of 2 GB': ('texts in one line', _huge, 'found 2,147,483,648 bytes'),
}
KINDS = {kind: row[0] for rows in (RECORDS, FOLDERS, DAMAGES) for kind, row in rows.items() if kind not in HARMLESS}
ODDITIES = (*ODD_RECORDS, *HARMLESS)
# kinds that leave rows which can be used, and none that is too long to be kept
ROWS = [*RECORDS, 'not json', 'encoding', 'surrogate', 'truncated', 'key twice', 'user in both splits']
# what `read` says of damage to a whole file
MESSAGES = {
    'not json': 'expected a JSON object', 'array': 'a JSON array', 'spread': 'goes on in the next line', 'encoding': 'byte 0xE9', 'utf-16': 'UTF-16',
    'surrogate': 'half of a surrogate pair', 'byte order mark': 'byte order mark', 'carriage returns': 'carriage return', 'truncated': 'cut short',
    'empty': 'an empty file', 'key twice': 'the key "note" twice', 'long line': 'expected a line of at most',
}


def corrupt(folder, kind: str, seed: int = 0) -> str:
    "Damage a good folder in the way `kind`; what the message or the note of `read` must hold."
    folder = Path(folder)
    if kind in RECORDS or kind in ODD_RECORDS:
        _, name, change, message = (RECORDS | ODD_RECORDS)[kind]
        change_record(folder / name, change, seed)
    elif kind in FOLDERS:
        _, change, message = FOLDERS[kind]
        change(folder)
    else:
        damage(folder / ('train_text.json', 'train_truth.json', 'test_text.json', 'test_truth.json')[seed % 4], kind, seed)
        message = MESSAGES[kind]
    return message
