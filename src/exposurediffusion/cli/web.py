"""`expose web`: its arguments, and the server."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal
from urllib.parse import quote

import tyro

from exposurediffusion.cli.console import Inputs, UsageError, as_usage, note
from exposurediffusion.datasets.listing import find_raws
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.physics.cameras.known import user_cameras
from exposurediffusion.weights.file import load


def web(
    inputs: Inputs,
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR", help_behavior_hint="")] = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Annotated[str | None, tyro.conf.arg(metavar="WORD", help_behavior_hint="")] = None,
    weights: str = "default",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    max_upload: float = 500.0,
) -> int:
    """Look at dark raw photographs, and enhance them, on a page in a browser.

    The page needs no network. It listens on this machine alone, unless another host is given, and then asks for the
    token. Ctrl-C ends it.

    Examples:
        expose web PHOTOS/
        expose web PHOTOS/ -o CLEAN/ --host 0.0.0.0 --token "a few words of your own"

    Args:
        inputs: raw files, or folders of them; without any they are dropped on the page.
        output: folder for the results; without it beside each photograph, as NAME-enhanced.
        host: address to listen on; 0.0.0.0: all of this machine's.
        port: to listen on.
        token: that the page asks for; a must for all hosts but 127.0.0.1 and localhost.
        weights: of `expose enhance`.
        device: where the network runs.
        max_upload: of a file that is dropped, MB.
    """
    try:
        import uvicorn

        from exposurediffusion.web.app import make_app
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        raise UsageError("the page needs the extra `web`: pip install 'exposurediffusion[web]'") from error
    if not _is_local(host) and not token:
        raise UsageError(f"--host {host}: others can reach this page, so it needs a --token that they do not know")
    if max_upload <= 0 or not 0 <= port <= 65535:
        raise UsageError("--max-upload is more than 0 MB" if max_upload <= 0 else "--port lies between 0 and 65535")
    for path in inputs:
        _check(path)
    if output is not None:
        make_folder(output)
    user_cameras(note)
    with as_usage():
        load(weights)
    with _listening(host, port) as listener, TemporaryDirectory(prefix="expose-") as uploads:
        inputs = tuple(Path(os.path.abspath(path)) for path in inputs)
        where = {"weights": weights, "device": device, "output": None if output is None else output.absolute()}
        app = make_app(inputs, Path(uploads), token=token, limit=int(max_upload * 1e6), **where)
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listener.getsockname()[1]}/{f'?token={quote(token)}' if token else ''}", flush=True)
        note("open this address in a browser; Ctrl-C ends the page")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
        server.run([listener])
    return 0


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(path: Path) -> None:
    """Raise UsageError where there is nothing to look at."""
    try:
        if path.is_dir():
            if not find_raws(path):
                raise UsageError(
                    f"{path}: no raw files in this folder; name another, or none and drop them on the page"
                )
        elif not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        else:
            with open(path, "rb"):
                pass
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); allow it, or name another") from error


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the port is taken, or not allowed, or there is no such host.
    """
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--host {host}: no address of this machine ({error.strerror})") from error
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        remedy = "choose one from 1024 on" if isinstance(error, PermissionError) else "choose another, or 0 for any"
        raise UsageError(f"--port {port} of {host}: {error.strerror}; {remedy}") from error
    return listener
