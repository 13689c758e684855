"""python -m reproduce: the command line stands in command.py; here Ctrl-C is made to work from the first moment."""

import os
import signal
import sys

# nbformat needs jsonschema, which imports this package if it is there, to check the syntax of IRIs. That takes seconds
# in every process that reads a notebook, and the schema of notebooks has no IRI in it.
sys.modules.setdefault("rfc3987_syntax", None)


def _leave(signum, frame):
    print("interrupted", file=sys.stderr)
    os._exit(130)


if __name__ == "__main__":
    if heeded := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)  # while the libraries load, which takes seconds
    from .command import main, obey_signals

    obey_signals(interrupt=heeded)
    sys.exit(main())
