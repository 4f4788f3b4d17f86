"""The package as a whole: what importing it costs, what it offers, what it ships."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Any, cast

import jaxtyping
import pytest
import torch

import exposurediffusion
from exposurediffusion.evaluation.metrics import psnr
from exposurediffusion.physics.mosaic import CFA

ROOT = Path(__file__).parents[1]
HEAVY = ["rawpy", "gradio", "onnx", "onnxruntime", "matplotlib", "accelerate"]


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_light() -> None:
    assert imported_by("import exposurediffusion").isdisjoint(HEAVY)


def test_import_guard_sees_what_is_imported() -> None:
    assert "rawpy" in imported_by("import exposurediffusion, rawpy")


def test_offers_public_names() -> None:
    """The names of the contract's Python example, at least."""
    promised = {"read_raw", "load", "enhance", "write_dng", "render", "expose", "ExposureSchedule"}
    assert promised <= set(exposurediffusion.__all__) <= set(dir(exposurediffusion))


@pytest.mark.parametrize("name", getattr(exposurediffusion, "__all__", []))
def test_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(exposurediffusion, name)
    if inspect.isclass(thing) or inspect.isroutine(thing):
        text = inspect.getdoc(thing) or ""
        assert text, f"{name} has no docstring"
        assert not text.startswith(f"{name}("), f"{name} has only the docstring that dataclass gives it"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        exposurediffusion.no_such_name  # noqa: B018


def test_ships_its_data() -> None:
    package = resources.files("exposurediffusion")
    assert package.joinpath("py.typed").is_file()
    cameras = [file.name for file in package.joinpath("physics", "cameras", "calibrated").iterdir()]
    assert sum(name.endswith(".json") for name in cameras) == 5
    assert package.joinpath("weights", "pretrained", "default.safetensors").is_file()


def test_command_is_declared() -> None:
    (script,) = (entry for entry in metadata.entry_points(group="console_scripts") if entry.name == "expose")
    assert callable(script.load())


def test_the_citation_agrees_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    stated = [project["version"], project["license"], project["urls"]["Paper"], project["authors"][0]["name"]]
    assert [text for text in stated if text not in citation] == []


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_help_tells_of_every_target_and_the_demo_needs_no_tools() -> None:
    def make(*words: str) -> str:
        return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    told = re.findall(r"^  make (.*?)(?:  |$)", make("help"), re.MULTILINE)
    assert sorted(targets.split()) == sorted(word for line in told for word in line.split())
    assert ["[dev,baselines" in make("-nB", target) for target in ("demo", "test")] == [False, True]


def test_the_image_gets_what_the_package_is_built_from_and_runs_as_nobody_special() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    words = [line.split() for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if line]
    taken = {name for line in words if line[0] == "COPY" and "--from=build" not in line for name in line[1:-1]}
    assert {"pyproject.toml", "src", project["readme"], *project["license-files"]} <= taken
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[0] == "!"}
    assert taken == let_in == {name for name in taken if (ROOT / name).exists()}
    (user,) = (line[1] for line in words if line[0] == "USER")
    assert user not in ("root", "0")


def test_the_model_card_has_the_figures_of_the_readme() -> None:
    card, readme = ((ROOT / name).read_text("utf-8") for name in ("docs/model_card.md", "README.md"))
    figures = [line for line in card.splitlines() if line.startswith("| ") and " / 0." in line]
    assert len(figures) == 3
    assert [line for line in figures if line not in readme] == []


def inner_shapes(source: str) -> set[str]:
    """Names of functions within functions whose signature states a shape: these are not checked while tests run."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    inner = [node for f in functions for node in ast.walk(f) if isinstance(node, ast.FunctionDef) and node is not f]
    return {node.name for node in inner if any(map(_is_shape, _annotations(node)))}


def _is_shape(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and hasattr(jaxtyping, node.value.id)


def _annotations(function: ast.FunctionDef) -> list[ast.AST]:
    stated = [argument.annotation for argument in ast.walk(function.args) if isinstance(argument, ast.arg)]
    return [part for annotation in [*stated, function.returns] if annotation for part in ast.walk(annotation)]


def test_types_and_shapes_are_checked_while_tests_run() -> None:
    array, plane, wrong = CFA("RGGB"), torch.zeros(3, 4, 4), cast(Any, 0.5)
    assert psnr(plane, plane + 1) == 0
    with pytest.raises(TypeError):
        CFA(wrong)  # the field of a dataclass
    with pytest.raises(TypeError):
        array.shifted(wrong, 0)  # a method without shapes
    with pytest.raises(TypeError):
        psnr(plane, plane.long())
    with pytest.raises(TypeError):
        psnr(plane, plane[:, :3])  # each may be, both together not


def test_no_inner_function_states_a_shape() -> None:
    """Shapes of inner functions would go unchecked; see `tests/typechecking.py`."""
    twin = 'def outer():\n    def inner(x: Float[Tensor, "b"]): ...\n    def plain(x: Tensor) -> Tensor: ...\n'
    assert inner_shapes(twin) == {"inner"}
    package = Path(str(resources.files("exposurediffusion")))
    assert not {name for path in package.rglob("*.py") for name in inner_shapes(path.read_text("utf-8"))}
