"""Damaged and hostile files by the thousand, and processes that are killed: `python -m tests.fuzz --help`."""
