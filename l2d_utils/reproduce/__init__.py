"""Runs the book and keeps its generated parts true: see `python -m l2d_utils.reproduce --help`."""
