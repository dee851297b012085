"""What all process-level tests share. They run with the network blocked, whoever starts them."""
import importlib.util, os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUARD = ROOT / 'tests' / 'guard'

# this process, and by PYTHONPATH every Python and every kernel that it starts
spec = importlib.util.spec_from_file_location('guard', GUARD / 'sitecustomize.py')
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
if str(GUARD) not in os.environ.get('PYTHONPATH', '').split(os.pathsep):
    os.environ['PYTHONPATH'] = os.pathsep.join(p for p in (str(GUARD), os.environ.get('PYTHONPATH')) if p)
for name, value in {'OMP_NUM_THREADS': '1', 'TOKENIZERS_PARALLELISM': 'false', 'HF_HUB_OFFLINE': '1', 'MPLBACKEND': 'agg'}.items():
    os.environ.setdefault(name, value)
os.environ.pop('SOCIALPROF_ONLINE', None)


@pytest.fixture(scope='session')
def root() -> Path:
    "The clone that is tested."
    return ROOT


@pytest.fixture(scope='session')
def python():
    "Run Python with these arguments in a process of its own; returns the finished process, output as text."
    def run(*args, timeout=300, cwd=ROOT, **env):
        return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, env={**os.environ, **env},
                              capture_output=True, text=True, timeout=timeout)
    return run
