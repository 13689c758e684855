"""Runs the book and keeps its generated parts true: see `python -m reproduce --help`."""

import sys

# nbformat needs jsonschema, which imports this package if it is there, to check the syntax of IRIs. That takes seconds
# in every process that reads a notebook, and the schema of notebooks has no IRI in it.
sys.modules.setdefault("rfc3987_syntax", None)
