"""Runs the book and keeps its generated parts true: `python -m reproduce --help`, from the folder above."""
