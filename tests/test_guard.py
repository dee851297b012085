"""The network is blocked in the tests, in the processes and in the kernels that they start."""
import nbclient, nbformat, pytest, socket

FAR = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"   # an address kept for documentation
NAME = "import socket; socket.getaddrinfo('example.org', 80)"
DATAGRAM = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'?', ('192.0.2.1', 53))"
BY_LIBRARY = "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)"
BY_ASYNCIO = "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 80))"
ATTEMPTS = dict(far=FAR, name=NAME, datagram=DATAGRAM, by_library=BY_LIBRARY, by_asyncio=BY_ASYNCIO)


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    "Attempts made on purpose are noted apart from those that a test makes by mistake."
    monkeypatch.setenv('SOCIALPROF_GUARD_LOG', str(tmp_path / 'attempts'))
    return tmp_path / 'attempts'


@pytest.mark.parametrize('attempt', ATTEMPTS.values(), ids=ATTEMPTS)
def test_here(attempt, attempts):
    with pytest.raises(OSError, match='the network is blocked'): exec(attempt, {})
    assert 'asked for by' in attempts.read_text()


def test_in_a_process(python, attempts):
    done = python('-c', FAR)
    assert done.returncode and 'Blocked: the network is blocked while tests run: 192.0.2.1' in done.stderr
    swallowed = python('-c', 'try:\n    import socket; socket.create_connection(("192.0.2.1", 80))\nexcept OSError: pass')
    assert swallowed.returncode == 0
    assert attempts.read_text().count('192.0.2.1 asked for by') == 2


def test_in_a_kernel(tmp_path, attempts):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FAR)])
    with pytest.raises(nbclient.exceptions.CellExecutionError, match='the network is blocked'):
        nbclient.NotebookClient(notebook, kernel_name='python3', timeout=60).execute()


def test_this_machine_is_reached():
    with socket.create_server(('127.0.0.1', 0)) as server:
        with socket.create_connection(('localhost', server.getsockname()[1]), timeout=5) as client:
            peer, _ = server.accept()
            with peer: peer.sendall(b'here')
            assert client.recv(4) == b'here'
