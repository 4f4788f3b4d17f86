"""How far a batch is, in a table and in a line."""

import io

import pytest
from rich.console import Console

from exposurediffusion.cli.photographs import board as module
from exposurediffusion.cli.photographs.board import Board


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def board(clock):
    """Three of nine, after half a minute, by two machines, of which one is gone."""
    made = Board(9, lambda: {"north": 2})
    for machine, seconds, failed in (("north", 10.0, False), ("north", 12.0, False), ("south", 0.5, True)):
        made.add(machine, seconds, failed=failed)
    clock[0] += 30
    return made


def test_the_sums_foretell_the_end(board):
    assert board.sums == "3 of 9 in 0:00:30, 1 failed, 0.1 a second; left: 0:01:00"


def test_before_the_first_nothing_is_foretold(clock):
    board = Board(9, dict)
    clock[0] += 30
    assert board.sums.endswith("left: unknown")


def test_a_row_for_each_machine(board):
    console = Console(file=io.StringIO(), width=100)
    console.print(board)
    lines = [line.replace("│", " ").split() for line in console.file.getvalue().splitlines()]
    assert ["north", "2", "2", "0", "11.00"] in lines
    assert ["south", "0", "0", "1", "0.50"] in lines


def test_without_a_terminal_a_line_a_minute(board, clock, capsys):
    with board.shown() as show:
        for seconds in (1, 1, 60, 1, 61):
            clock[0] += seconds
            show()
    assert len(capsys.readouterr().err.splitlines()) == 2
