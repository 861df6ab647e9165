"""The command line: ``flowq run``, ``flowq status`` and what an operator needs at night. One file a verb group.

What this room does: parse, call, print, and turn errors into one line and an exit code. What it will not do: anything that a program
could not do over ``flowq`` and ``flowq.backends.redis.admin``. Verbs other than ``run`` and ``demo`` need no code of the app.

Importing this package imports no verb: a worker process (``child``) lies in it too, and needs none of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; errors of flowq are one line on standard error."""
    from flowq._errors import FlowqError
    from flowq.cli.commands import app
    from flowq.cli.exits import Exit, exit_of
    from flowq.cli.loading import LoadError

    words = [_spelled_out(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        app(args=words, prog_name="flowq", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.FAILED
    except LoadError as error:
        return _told(error, Exit.USAGE)
    except FlowqError as error:
        return _told(error, exit_of(error))
    except BrokenPipeError:
        # `flowq ls … | head`: nobody reads on; and nothing may be flushed into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return Exit.OK


def _told(error: Exception, code: int) -> int:
    print(f"flowq: {error}", file=sys.stderr)
    return code


def _spelled_out(word: str) -> str:
    """``--embedded=DIR`` beside ``--embedded``: an option with and without a value is two options for the parser."""
    return word.replace("--embedded=", "--embedded-dir=", 1) if word.startswith("--embedded=") else word
