"""The command line: parse, call once, print. All that ends a run is mapped to an exit code here and nowhere else."""

from __future__ import annotations

import os
import sys
import traceback
from io import TextIOWrapper

from homolog.errors import HomologError

__all__ = ["main"]

_USAGE, _INTERNAL, _INTERRUPTED, _PIPE_CLOSED = 2, 101, 130, 141
_THREAD_COUNTS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main() -> int:
    """Run the command line; returns the exit code.

    0 nothing found · 1 a relation found · 2 usage or input error · 3 inconclusive · 101 internal error.
    """
    # The matrices are small: more threads of BLAS take longer (ten times on a busy machine), and their number shows in the last bits.
    # It is read when numpy is loaded, so this comes first.
    for name in _THREAD_COUNTS:
        os.environ.setdefault(name, "1")
    for stream in (sys.stdout, sys.stderr):
        # a console or pipe that lacks a letter (an ASCII locale, a code page of Windows) shows a question mark in its place
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        # deferred, so that an interrupt during the imports ends as quietly as any other
        from homolog.cli.app import run

        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # the reader had enough; point stdout elsewhere so that the interpreter's last flush does not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (HomologError, OSError) as error:
        return _complain(str(error), _USAGE)
    except Exception as error:
        message = f"internal error: {type(error).__name__}: {error}"
        return _complain(f"{message} (HOMOLOG_DEBUG=1 shows the traceback; please report it)", _INTERNAL)
    return code


def _complain(message: str, code: int) -> int:
    """One line on stderr, whatever bytes the message quotes; the traceback before it if it was asked for."""
    from homolog.cli.output import note, printable

    if os.environ.get("HOMOLOG_DEBUG"):
        traceback.print_exc()
    note(f"homolog: {printable(message)}")
    return code
