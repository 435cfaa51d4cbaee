# ruff: noqa
# Appended to bin/paths.py of a private copy of the real Mailman 2.1 (Python 2): gives it the same
# places to die or to stand still that the stand-in has (program/Mailman/steps.py), under the same
# two environment variables.  It wraps the calls from outside; without the variables it does nothing.
import os as _os

if _os.environ.get('MAILMAN_STANDIN_CRASH') or _os.environ.get('MAILMAN_STANDIN_PAUSE'):
    import signal as _signal

    _STEPS = {
        'lock': ('create', 'write', 'touch', 'link', 'touch-held'),
        'unlock': ('touch', 'unlink-lock', 'unlink-claim'),
        'break': ('touch', 'unlink-lock', 'unlink-claim'),
        'transfer': ('touch', 'link', 'truncate', 'write', 'unlink-old', 'touch-new'),
        'clear': ('unlink-lock', 'unlink-claim'),
        'fork': ('child',),
        'master': ('possession', 'pid-file', 'session', 'runners', 'handlers'),
        'save': ('create', 'half', 'write', 'unlink-last', 'keep-last', 'rename'),
        'dequeue': ('rename',),
        'deliver': ('sent',),
        'finish': ('unlink',),
    }

    def _wanted(variable):
        text = _os.environ.get(variable)
        if not text:
            return None
        parts = (text.split(':', 2) + ['', ''])[:3]
        if parts[1].isdigit():
            parts[1] = _STEPS[parts[0]][int(parts[1]) - 1]
        return parts

    _orders = [(_wanted('MAILMAN_STANDIN_CRASH'), _signal.SIGKILL),
               (_wanted('MAILMAN_STANDIN_PAUSE'), _signal.SIGSTOP)]

    def _step(operation, which, name):
        for wanted, number in _orders:
            if wanted and wanted[0] == operation and wanted[1] == which \
                    and wanted[2] in ('', name):
                _os.kill(_os.getpid(), number)

    # The operation under way, its name, and the steps it has still to do.
    _under_way = []

    def _begin(operation, name):
        _under_way.append([operation, name, list(_STEPS[operation])])

    def _end():
        _under_way.pop()

    def _did(kind):
        """A system call of `kind` was made: it is the next step of what is under way, if it fits."""
        if not _under_way:
            return False
        operation, name, left = _under_way[-1]
        while left and left[0] == 'half':
            left.pop(0)
        if left and _KIND[left[0]] == kind:
            _step(operation, left.pop(0), name)
            return True
        return False

    _KIND = {'create': 'create', 'truncate': 'create', 'write': 'write', 'touch': 'utime',
             'touch-held': 'utime', 'touch-new': 'utime', 'link': 'link', 'keep-last': 'link',
             'unlink-lock': 'unlink', 'unlink-claim': 'unlink', 'unlink-old': 'unlink',
             'unlink-last': 'unlink', 'unlink': 'unlink', 'rename': 'rename'}

    class _WatchedFile:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def close(self):
            self._file.close()
            _did('write')

    def _open(path, mode='r', *rest):
        file = open(path, mode, *rest)
        if 'w' in mode:
            _did('create')
            return _WatchedFile(file)
        return file

    def _watch(kind):
        real = getattr(_os, kind)

        def call(path, *rest):
            try:
                real(path, *rest)
            except OSError:
                # A save and a break go on where a file was gone already; other calls failed.
                if _under_way and _under_way[-1][0] in ('save', 'break'):
                    _did(kind)
                raise
            if not _did(kind) and kind == 'unlink' and not _under_way:
                _clearing(path)
        setattr(_os, kind, call)

    for _kind in ('unlink', 'link', 'utime', 'rename'):
        _watch(_kind)

    def _clearing(path):
        """mailmanctl -s unlinks lock and claim itself, outside of any lock operation."""
        name = _os.path.basename(path)
        if name == 'master-qrunner':
            _step('clear', 'unlink-lock', 'master-qrunner')
        elif name.startswith('master-qrunner.') and not name.endswith('.pid'):
            _step('clear', 'unlink-claim', 'master-qrunner')

    def _wrap(owner, method, operation, name_of):
        real = getattr(owner, method)

        def call(self, *args, **kws):
            _begin(operation, name_of(self, *args, **kws))
            try:
                return real(self, *args, **kws)
            finally:
                _end()
        setattr(owner, method, call)

    def _instrument():
        from Mailman import LockFile
        lock = LockFile.LockFile
        LockFile.open = _open

        def name_of(self, *ignored, **kws):
            return _os.path.basename(self._LockFile__lockfile)

        for method, operation in (('lock', 'lock'), ('unlock', 'unlock'),
                                  ('_LockFile__break', 'break'), ('_transfer_to', 'transfer')):
            _wrap(lock, method, operation, name_of)

        real_take = lock._take_possession

        def take(self):
            _step('fork', 'child', name_of(self))
            real_take(self)
            _step('master', 'possession', '')
        lock._take_possession = take

        _watch_master()

        wanted = [order[0][0] for order in _orders if order[0]]
        if 'save' in wanted:
            from Mailman import MailList
            MailList.open = _open
            _wrap(MailList.MailList, '_MailList__save', 'save',
                  lambda self, *ignored: self.internal_name())
        if 'dequeue' in wanted or 'finish' in wanted:
            from Mailman.Queue import Switchboard

            def queue_of(self, *ignored, **kws):
                return _os.path.basename(self.whichq())
            _wrap(Switchboard.Switchboard, 'dequeue', 'dequeue', queue_of)
            _wrap(Switchboard.Switchboard, 'finish', 'finish', queue_of)

    def _watch_master():
        """The master's own steps: its pid file, its session, and its last signal handler."""
        real_setsid, real_signal = _os.setsid, _signal.signal

        def setsid():
            _step('master', 'pid-file', '')
            return real_setsid()

        def signal(number, handler):
            if number == _signal.SIGALRM:
                _step('master', 'runners', '')
            result = real_signal(number, handler)
            if number == _signal.SIGINT and _os.getpid() == _os.getsid(0):
                _step('master', 'handlers', '')
            return result
        _os.setsid, _signal.signal = setsid, signal

    _instrument()
