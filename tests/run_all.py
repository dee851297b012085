"""Everything that must hold: `make test`, or `python tests/run_all.py [--slow] [WORD ...]` for the checks whose name holds a word.

Notebooks are cleaned, exported and run in a copy, with the network blocked; the clone itself is only read.
The last line is `N passed, N failed`, over all checks and all tests of pytest; the exit code is 1 if anything failed.
"""
import argparse, difflib, os, shutil, signal, subprocess, sys, tempfile, time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
COPIED = ['nbs', 'socialprof', 'docs', 'settings.ini', 'setup.py', 'pyproject.toml', 'CONTRIBUTING.md', 'CITATION.cff', 'data/README.md',
          'reports/results-quick.csv']
AT_ONCE = min(2, os.cpu_count() or 1)
LIMIT = 1500    # seconds for one check, on a machine that others use, too


@dataclass
class Outcome:
    "How one check ended; pytest counts many."
    output: str = ''        # shown when something failed
    failed: int = 0
    passed: int = 1
    skipped: int = 0

def outcome(problems: str) -> Outcome: return Outcome(problems, int(bool(problems)), int(not problems))


def environment(folder: Path) -> dict[str, str]:
    "One thread a process, nothing online, figures without a screen; the clone's cache, which is known by content."
    path = [str(ROOT / 'tests' / 'guard'), os.environ.get('PYTHONPATH', '')]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, path)), 'SOCIALPROF_GUARD_LOG': str(folder / 'attempts'),
           'OMP_NUM_THREADS': '1', 'TOKENIZERS_PARALLELISM': 'false', 'HF_HUB_OFFLINE': '1', 'HF_DATASETS_OFFLINE': '1',
           'MPLBACKEND': 'agg', 'PYTHONDONTWRITEBYTECODE': '1', 'PATH': f'{BIN}{os.pathsep}{os.environ.get("PATH", "")}'}
    env.setdefault('SOCIALPROF_CACHE', str(ROOT / 'data' / 'cache'))
    for name in ('SOCIALPROF_ROOT', 'SOCIALPROF_ONLINE', 'IN_TEST'): env.pop(name, None)
    return env


class Checks:
    "The checks, by name; each is a function without arguments that returns an `Outcome`."
    def __init__(self, folder: Path, slow=False):
        self.folder, self.slow, self.copy, self.env = folder, slow, folder / 'copy', environment(folder)
        self.running = set()
        self.copy.mkdir()
        for name in COPIED:
            source, target = ROOT / name, self.copy / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir(): shutil.copytree(source, target, ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'))
            elif source.exists(): shutil.copy2(source, target)

    def first(self):
        "Checks that the others build on, one after the other."
        return {'notebooks clean': self.clean, 'export in sync': self.export}

    def others(self):
        "Checks that run beside each other: quick ones first, for the reader; then, for the clock, the long ones before the short."
        notebooks = [p.relative_to(ROOT).as_posix() for p in (ROOT / 'nbs').rglob('*.ipynb')
                     if not any(part[0] in '._' for part in p.relative_to(ROOT).parts)]
        notebooks.sort(key=lambda n: ({'core': 0, 'learn': 1, 'lab': 3}.get(Path(n).parts[1], 2), n))
        runs = [n for n in notebooks if Path(n).name.startswith('run_')]
        ruff = [BIN / 'ruff', 'check', '--no-cache', '--output-format', 'concise']
        return {
            'ruff socialprof': lambda: self.command(*ruff, 'socialprof'),
            'ruff tests docs': lambda: self.command(*ruff, 'tests', 'docs'),
            'README in sync': lambda: self.command(sys.executable, ROOT / 'docs' / 'readme.py', '--check'),
            'links': lambda: self.command(sys.executable, ROOT / 'docs' / 'links.py'),
            'docs': self.docs,
            **{f'pytest {p.name}': lambda p=p: self.pytest(p) for p in sorted((ROOT / 'tests').glob('test_*.py'))},
            **{f'nbdev_test {n}': lambda n=n: self.nbdev_test(n) for n in notebooks if n not in runs},
            **{f'papermill {n}': lambda n=n: self.papermill(n) for n in runs},
        }

    def command(self, *args, cwd=ROOT, **env) -> Outcome:
        "Run a command; a check passes if it exits with 0."
        process = subprocess.Popen([str(a) for a in args], cwd=cwd, env={**self.env, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors='replace', start_new_session=True)
        self.running.add(process)
        try: output = process.communicate(timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return outcome(f'{process.communicate()[0]}\nnot done after {LIMIT} s')
        finally: self.running.discard(process)
        return Outcome() if process.returncode == 0 else outcome(f'{output}\nexit code {process.returncode}')

    def stop(self):
        "End what is still running."
        for process in list(self.running): os.killpg(process.pid, signal.SIGKILL)

    def clean(self) -> Outcome:
        "nbdev_clean would change no notebook."
        done = self.command(BIN / 'nbdev_clean', cwd=self.copy)
        if done.failed: return done
        wrong = [n for n in self._files('nbs', '*.ipynb') if (ROOT / n).read_bytes() != (self.copy / n).read_bytes()]
        return outcome('not clean, run `make prepare`:\n' + '\n'.join(wrong) if wrong else '')

    def export(self) -> Outcome:
        "nbdev_export of the notebooks gives the package as it is, no module more or less."
        fresh = self.folder / 'fresh'
        shutil.copytree(self.copy, fresh, ignore=shutil.ignore_patterns('socialprof'))
        done = self.command(BIN / 'nbdev_export', cwd=fresh)
        if done.failed: return done
        exported = {p.relative_to(fresh).as_posix() for p in (fresh / 'socialprof').rglob('*.py')}
        wrong = ''
        for name in sorted({*exported, *self._files('socialprof', '*.py'), 'pyproject.toml'}):
            here, there = ((base / name).read_text(encoding='utf-8').splitlines() if (base / name).exists() else None for base in (ROOT, fresh))
            if there is None: wrong += f'{name}: no notebook exports it\n'
            elif here is None: wrong += f'{name}: missing\n'
            elif here != there: wrong += '\n'.join([*list(difflib.unified_diff(here, there, name, 'exported', lineterm='', n=1))[:40], ''])
        return outcome(wrong and f'not in sync, run `make prepare`:\n{wrong}')

    def _files(self, folder: str, pattern: str) -> list[str]:
        found = [p.relative_to(ROOT) for p in (ROOT / folder).rglob(pattern)]
        return sorted(p.as_posix() for p in found if not any(part[0] == '.' or part == '__pycache__' for part in p.parts))

    def docs(self) -> Outcome:
        "The site is built without a warning, and all its links lead somewhere."
        return self.command(sys.executable, self.copy / 'docs' / 'build.py', '--sphinx', cwd=self.copy)

    def nbdev_test(self, name: str) -> Outcome:
        "All cells of a notebook run, but for those flagged slow."
        return self.command(BIN / 'nbdev_test', '--path', name, '--n_workers', '0', *(['--flags', 'slow'] if self.slow else []), cwd=self.copy)

    def papermill(self, name: str) -> Outcome:
        "A run goes through with its own defaults, by plain papermill; what it writes lands in the copy."
        return self.command(sys.executable, '-m', 'papermill', '--no-progress-bar', name, self.folder / f'{name.replace("/", "-")}', cwd=self.copy)

    def pytest(self, file: Path) -> Outcome:
        "The tests of a file, each counted."
        report = self.folder / f'{file.stem}.xml'
        done = self.command(sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', f'--junit-xml={report}', file)
        if not report.exists(): return outcome(done.output or 'pytest wrote no report')
        counts = [{k: int(suite.get(k, 0)) for k in ('tests', 'failures', 'errors', 'skipped')} for suite in ET.parse(report).iter('testsuite')]
        total = {k: sum(c[k] for c in counts) for k in counts[0]}
        failed = total['failures'] + total['errors']
        return Outcome(done.output, max(failed, done.failed), total['tests'] - failed - total['skipped'], total['skipped'])

    def network(self) -> Outcome:
        "Nothing asked for the network, not even where the refusal was swallowed."
        log = self.folder / 'attempts'
        return outcome(log.read_text(encoding='utf-8') if log.exists() else '')


def timed(check) -> tuple[Outcome, float]:
    start = time.monotonic()
    try: found = check()
    except Exception as error: found = outcome(f'{type(error).__name__}: {error}')
    return found, time.monotonic() - start

def show(name: str, found: Outcome, seconds: float):
    "A line a check; what a failing one printed."
    more = f' ({found.passed} passed, {found.failed} failed, {found.skipped} skipped)' if found.passed + found.failed + found.skipped != 1 else ''
    print(f'{"FAILED" if found.failed else "ok":6} {seconds:6.1f} s  {name}{more}', flush=True)
    if found.failed: print('\n'.join(f'    {line}' for line in found.output.strip().splitlines()[-200:]), flush=True)

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('words', nargs='*', metavar='WORD', help='run only checks whose name holds one of these')
    parser.add_argument('--slow', action='store_true', help='run the cells flagged slow, too')
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))      # so that what was started is ended, too
    done = []
    def note(name, found, seconds):
        done.append(found)
        show(name, found, seconds)
    with tempfile.TemporaryDirectory(prefix='socialprof-test-') as folder:
        checks = Checks(Path(folder), told.slow)
        wanted = lambda name: not told.words or any(word in name for word in told.words)
        for name, check in checks.first().items():
            if wanted(name): note(name, *timed(check))
        chosen = {name: check for name, check in checks.others().items() if wanted(name)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            waiting = {pool.submit(timed, check): name for name, check in chosen.items()}
            try:
                for future in as_completed(waiting): note(waiting[future], *future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                checks.stop()
                raise
        if wanted('network not asked for'): note('network not asked for', *timed(checks.network))
    passed, failed, skipped = (sum(getattr(found, key) for found in done) for key in ('passed', 'failed', 'skipped'))
    if not done: print(f'no check is named like {told.words}')
    print(f'{passed} passed, {failed} failed' + (f', {skipped} skipped' if skipped else ''), flush=True)
    return int(failed > 0 or not done)

if __name__ == '__main__': sys.exit(main())
