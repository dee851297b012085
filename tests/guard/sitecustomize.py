"""No test reaches the network: Python imports this file at its start when the folder is on PYTHONPATH.

Sockets of this machine (loopback, unix) work as ever, so kernels, workers and local servers run.
Anything else raises `Blocked`, and is noted in the file that $SOCIALPROF_GUARD_LOG names,
so that an attempt which the caller swallows is found all the same.
"""
import ipaddress, os, socket, sys


class Blocked(ConnectionError):
    "A test, or something that it started, asked for the network."


def _address(host):
    "`host` as an IP address, or None where it is a name."
    try: return ipaddress.ip_address(str(host).split('%')[0])
    except ValueError: return None


def _local(host) -> bool:
    "Does `host` (a name or an address) mean this machine?"
    if isinstance(host, (bytes, bytearray)): host = host.decode('utf-8', 'replace')
    if host in (None, '', 'localhost', '0.0.0.0', '::', '<broadcast>', socket.gethostname()): return True
    return bool((found := _address(host)) and found.is_loopback)


def _refuse(host, noted=True):
    "Note the attempt and raise."
    log = os.environ.get('SOCIALPROF_GUARD_LOG')
    if log and noted:
        with open(log, 'a', encoding='utf-8') as file: file.write(f'{host} asked for by {" ".join(sys.argv)[:200]!r} in {os.getcwd()}\n')
    raise Blocked(f'the network is blocked while tests run: {host} was asked for')


def _checked(owner, name, host_of, noted=lambda *args: True):
    "Replace `owner.name` by one that refuses every host but this machine."
    original = getattr(owner, name)
    def guarded(*args, **kwargs):
        host = host_of(*args, **kwargs)
        if not _local(host): _refuse(host, noted(*args))
        return original(*args, **kwargs)
    guarded.__name__, guarded.unguarded = name, original
    setattr(owner, name, guarded)


def _of_address(sock, *args):
    "The host in a socket call: the last argument that is a (host, port) pair; unix sockets have none."
    if sock.family not in (socket.AF_INET, socket.AF_INET6): return None
    pairs = [a for a in args if isinstance(a, tuple)]
    return pairs[-1][0] if pairs else None


def _of_name(host=None, *_, **__):
    "The host to be looked up; an address needs no look-up."
    return None if isinstance(host, str) and _address(host) else host


def install():
    "Guard this process; a second call changes nothing."
    if hasattr(socket.socket.connect, 'unguarded'): return
    # connecting a datagram socket sends nothing: some libraries do it to learn their own address
    for name in ('connect', 'connect_ex'): _checked(socket.socket, name, _of_address, lambda sock, *_: sock.type == socket.SOCK_STREAM)
    _checked(socket.socket, 'sendto', _of_address)
    _checked(socket.socket, 'sendmsg', lambda sock, buffers, ancillary=(), flags=0, address=None: _of_address(sock, address))
    for name in ('getaddrinfo', 'gethostbyname', 'gethostbyname_ex'): _checked(socket, name, _of_name)


install()
