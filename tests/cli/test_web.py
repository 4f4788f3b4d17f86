"""`expose web`: what stops it before it begins, in one line."""

import builtins
import socket
import sys

import pytest

from exposurediffusion.cli import web
from exposurediffusion.cli.main import main


def said(capsys, *words) -> str:
    """What `expose web` complains of; it does not begin."""
    assert main(["web", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.startswith("expose: ")) == ("", 1, True), err
    return err


@pytest.fixture(autouse=True)
def _never_serves(monkeypatch):
    pytest.importorskip("uvicorn")
    monkeypatch.setattr("uvicorn.Server.run", lambda *_: pytest.fail("it began"))


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port} of 127.0.0.1: Address already in use" in said(capsys, "--port", port)


def test_a_port_that_is_not_allowed(capsys, monkeypatch):
    class Refusing(socket.socket):
        def bind(self, address):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(web.socket, "socket", Refusing)
    assert "Permission denied; choose one from 1024 on" in said(capsys, "--port", 80)


def test_others_need_a_token(capsys):
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        assert "needs a --token" in said(capsys, "--host", host)
    assert "no address" in said(capsys, "--host", "no.such.host.invalid", "--token", "x")


def test_folders_and_files(capsys, tmp_path, monkeypatch):
    assert "no raw files in this folder" in said(capsys, tmp_path)
    assert "no such file" in said(capsys, tmp_path / "x.dng")
    (tmp_path / "x.dng").write_bytes(b"x")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(web, "find_raws", refuse)
    assert "cannot be read (Permission denied); allow it" in said(capsys, tmp_path)
    monkeypatch.setattr(builtins, "open", refuse)
    assert "cannot be read (Permission denied); allow it" in said(capsys, tmp_path / "x.dng")


@pytest.mark.parametrize("words", [("--port", "70000"), ("--max-upload", "0"), ("--weights", "none-such")])
def test_other_values(capsys, words):
    assert words[0].lstrip("-") in said(capsys, *words) or words[1] in said(capsys, *words)


def test_without_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'exposurediffusion[web]'" in said(capsys)
