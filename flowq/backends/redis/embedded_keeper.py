"""The parent of an embedded redis-server: starts it, and stops it when its last user is gone, however that user ended.

Run by ``embedded`` as a script of its own (``python -I -S embedded_keeper.py USERS_LOCK LOCK_FD redis-server …``), so it imports nothing
of flowq. It detaches first: it must outlive the user that started it, and a Ctrl-C in that user's terminal is none of its business.

``LOCK_FD`` is open on ``server.lock`` and locked; the server inherits it and so holds the lock for exactly as long as it lives. The
server's process id is written into that file.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading


def main(users_lock: str, lock_fd: int, command: list[str]) -> None:
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(lock_fd,))
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, str(server.pid).encode(), 0)
    os.close(lock_fd)

    def stop_when_unused() -> None:
        users = os.open(users_lock, os.O_RDWR)
        # each user holds it shared
        fcntl.flock(users, fcntl.LOCK_EX)
        server.terminate()
        # a user who comes meanwhile waits for this lock, and then starts the server anew
        server.wait()
        os._exit(0)

    threading.Thread(target=stop_when_unused, daemon=True).start()
    server.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
