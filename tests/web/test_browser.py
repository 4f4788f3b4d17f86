"""The page in a real browser: every control, keys, two tabs, a damaged file, a worker that is killed, no network."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exposurediffusion.cli.main import main
from exposurediffusion.dng.writer import write_dng
from tests.frames import capture

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")]
PATIENCE = 60_000  # milliseconds
expect = playwright.expect


def processes_below(parent: int) -> list[int]:
    """All of them, by /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = stat.read_text().split(" ", 1)
        except OSError:
            continue
        parents[int(number)] = int(rest.rpartition(")")[2].split()[1])
    found = [parent]
    for one in found:
        found += [number for number, above in parents.items() if above == one]
    return found[1:]


class Served:
    """`expose web` as a process of its own."""

    def __init__(self, folder: Path, weights: Path, *options: str) -> None:
        words = [
            sys.executable,
            "-m",
            "exposurediffusion",
            "web",
            folder,
            "--weights",
            weights,
            "--port",
            "0",
            *options,
        ]
        self.process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def signal_workers(self, number: signal.Signals) -> None:
        """Send one to all that compute, who are children of the fork server."""
        children = processes_below(self.process.pid)
        for one in children:
            if processes_below(one) == [] and b"forkserver" in Path(f"/proc/{one}/cmdline").read_bytes():
                os.kill(one, number)

    def stop(self) -> int:
        """As Ctrl-C does; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def album(tmp_path_factory, dark_dng) -> Path:
    folder = tmp_path_factory.mktemp("album")
    for name in ("a night.dng", "b later.dng"):
        shutil.copy(dark_dng, folder / name)
    (folder / "c torn.dng").write_bytes(dark_dng.read_bytes()[:3000])
    write_dng(folder / "d large.dng", capture(rows=1424, columns=2132))  # 12 megapixels
    return folder


@pytest.fixture(scope="module")
def served(album, tiny_weights):
    page = Served(album, tiny_weights, "--max-upload", "1")
    yield page
    assert page.stop() == 130


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as library:
        chromium = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, served):
    """Opens tabs; at the end none of them asked for anything elsewhere, and no script failed."""
    contexts, asked, wrong = [], [], []

    def open_tab(photograph: str | None = None, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(served.address)
        if photograph:
            choose(page, photograph)
        return page

    yield open_tab
    for context in contexts:
        context.close()
    outside = [url for url in asked if not url.startswith((served.address, f"blob:{served.address}"))]
    assert (outside, wrong) == ([], [])
    assert asked


def choose(page, photograph: str) -> None:
    page.get_by_role("button", name=photograph).click()
    settled(page)


def settled(page) -> None:
    """Wait until nothing is being computed."""
    page.wait_for_timeout(700)  # longer than the page waits for more changes
    expect(page.locator("#busy")).to_have_text("", timeout=PATIENCE)


def pixels(page, which: str = "after") -> str:
    """What an image shows."""
    return page.evaluate(
        """async id => {
        const image = document.getElementById(id), canvas = document.createElement("canvas");
        await image.decode();
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        canvas.getContext("2d").drawImage(image, 0, 0);
        return canvas.toDataURL(); }""",
        which,
    )


def zoom(page) -> None:
    page.get_by_role("button", name="100 %").click()
    settled(page)


def test_every_control_changes_the_part_and_outlives_a_reload(tab):
    page = tab("a night")
    page.locator("#pictures").click(position={"x": 100, "y": 100})
    settled(page)
    assert "x=" in page.url
    before = pixels(page)
    for name, value in (
        ("ratio", "20"),
        ("steps", "3"),
        ("samples", "2"),
        ("luma", "0.5"),
        ("chroma", "0.5"),
        ("ev", "1"),
        ("faithful", "off"),
        ("white_balance", "daylight"),
        ("black", "400"),
    ):
        control = page.locator(f"[name={name}]")
        control.select_option(value) if name in ("steps", "samples", "faithful") else control.fill(value)
        settled(page)
        assert f"{name}=" in page.url
        assert pixels(page) != before, name
        before = pixels(page)
    expect(page.locator("#message")).to_be_hidden()
    address = page.url
    page.reload()
    settled(page)
    assert (page.url, pixels(page)) == (address, before)
    assert page.locator("[name=luma]").input_value() == "0.5"
    page.get_by_role("button", name="All as usual").click()
    settled(page)
    assert "ratio" not in page.url
    page.go_back()
    settled(page)
    assert (page.url, pixels(page)) == (address, before)
    page.locator("[name=ratio]").fill("many")
    settled(page)
    expect(page.get_by_role("alert")).to_contain_text("ratio")


def test_maps_and_the_slider(tab):
    page = tab("a night")
    zoom(page)
    for name in ("mended", "overruled"):
        page.locator("#over").select_option(name)
        settled(page)
        expect(page.locator("#map")).to_be_visible()
        expect(page.locator("#legend")).not_to_have_text("")
    page.locator("#over").select_option("spread")
    settled(page)
    expect(page.get_by_role("alert")).to_contain_text("samples")
    page.locator("#at").fill("20")
    assert page.evaluate("() => document.getElementById('pictures').style.getPropertyValue('--at')") == "20%"
    box = page.locator("#line").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 30, steps=4)
    page.mouse.up()
    assert float(page.locator("#at").input_value()) > 25
    assert "at=" in page.url
    assert "x=0.5" in page.url  # the slider moved, not the part


def test_the_exposure_develops(tab):
    page = tab("a night")
    zoom(page)
    result = pixels(page, "before")
    page.get_by_role("button", name="Develop").click()
    expect(page.locator("#time")).to_have_value("4", timeout=PATIENCE)
    settled(page)
    shown = []
    for number in range(5):
        page.locator("#time").fill(str(number))
        page.wait_for_timeout(300)
        shown.append((page.locator("#exposed").inner_text(), pixels(page, "before"), pixels(page)))
    assert len({state for _, state, _ in shown}) == len({exposed for exposed, _, _ in shown}) == 5
    page.get_by_role("button", name="play the exposure").click()
    expect(page.locator("#time")).to_have_value("4", timeout=PATIENCE)
    page.get_by_role("button", name="Back to the result").click()
    settled(page)
    assert pixels(page, "before") == result
    expect(page.locator("#development")).to_be_hidden()


def test_keys(tab):
    page = tab("a night")
    page.locator("#stage").focus()
    page.keyboard.press("Enter")
    settled(page)
    assert "x=0.5" in page.url
    page.keyboard.press("Escape")
    settled(page)
    assert "x=" not in page.url
    page.keyboard.press("j")
    settled(page)
    expect(page.locator("#title")).to_have_text("b later.dng")
    page.keyboard.press("k")
    settled(page)
    expect(page.locator("#title")).to_have_text("a night.dng")
    for value in ("0", "100", "50"):
        page.keyboard.press("b")
        assert page.locator("#at").input_value() == value
    page.keyboard.press("d")
    expect(page.locator("#development")).to_be_visible()
    settled(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.go_back()
    settled(page)
    assert "x=" in page.url or "b%20later" in page.url or "photo=" in page.url


def test_saving_one_and_all_with_the_bytes_of_the_command(tab, album, tiny_weights, tmp_path):
    page = tab("a night")
    page.locator("[name=ratio]").fill("40")
    settled(page)
    for form, suffix in (("dng", ".dng"), ("jpeg", ".jpg"), ("tiff", ".tif")):
        page.locator("#format").select_option(form)
        page.get_by_role("button", name="Save this one").click()
        line = page.locator("#orders li", has_text=f"a night-enhanced{suffix}")
        expect(line).to_have_class("done", timeout=PATIENCE)
        with page.expect_download() as download:
            line.get_by_role("link").click()
        assert download.value.suggested_filename == f"a night-enhanced{suffix}"
        path = tmp_path / f"x{suffix}"
        assert (
            main(
                [
                    "enhance",
                    str(album / "a night.dng"),
                    "-o",
                    str(path),
                    "--ratio",
                    "40",
                    "--weights",
                    str(tiny_weights),
                ]
            )
            == 0
        )
        assert path.read_bytes() == Path(download.value.path()).read_bytes()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#orders li")).to_have_count(0)
    page.locator("#format").select_option("jpeg")
    page.get_by_role("button", name="Save all").click()
    page.get_by_role("button", name="cancel d large-enhanced.jpg").click()
    expect(page.locator("#orders .waiting, #orders .running")).to_have_count(0, timeout=PATIENCE)
    assert sorted(line.get_attribute("class") for line in page.locator("#orders li").all()) == [
        "cancelled",
        "done",
        "failed",
        "kept",
    ]
    expect(page.locator("#orders .failed")).to_contain_text("c torn.dng")
    assert not list(album.glob("d*enhanced*"))
    page.reload()
    expect(page.locator("#orders li")).to_have_count(4)


def test_a_damaged_file_is_a_message_and_the_next_click_works(tab):
    page = tab("c torn")
    expect(page.get_by_role("alert")).to_contain_text("c torn.dng")
    choose(page, "a night")
    expect(page.locator("#message")).to_be_hidden()
    expect(page.locator("#pictures")).to_be_visible()


def test_a_killed_worker_is_a_message_and_the_next_click_works(tab, served):
    page = tab("a night")
    served.signal_workers(signal.SIGSTOP)
    page.get_by_role("button", name="100 %").click()
    page.wait_for_timeout(500)
    served.signal_workers(signal.SIGKILL)
    expect(page.get_by_role("alert")).to_contain_text("try again", timeout=PATIENCE)
    choose(page, "b later")
    expect(page.locator("#message")).to_be_hidden()
    served.signal_workers(signal.SIGKILL)  # while nothing is to be done nobody notices
    page.wait_for_timeout(1000)
    choose(page, "a night")
    expect(page.locator("#message")).to_be_hidden()
    assert pixels(page)


def test_two_tabs_and_one_that_goes_away(tab):
    first, second, third = tab(), tab(), tab()
    third.get_by_role("button", name="d large").click()
    third.wait_for_timeout(300)
    third.close()
    first.get_by_role("button", name="a night").click()
    second.get_by_role("button", name="b later").click()
    for page in (first, second):
        settled(page)
        page.get_by_role("button", name="100 %").click()
    for page, title in ((first, "a night.dng"), (second, "b later.dng")):
        settled(page)
        expect(page.locator("#title")).to_have_text(title)
        expect(page.locator("#message")).to_be_hidden()
        assert pixels(page)


def test_twelve_megapixels(tab):
    page = tab("d large")
    width, height = page.evaluate(
        "() => [document.getElementById('after').naturalWidth, document.getElementById('after').naturalHeight]"
    )
    assert (width, height) == (1066, 712)
    page.locator("#pictures").click(position={"x": 300, "y": 200})
    settled(page)
    expect(page.locator("#facts")).to_contain_text("4264 × 2848", timeout=PATIENCE)
    place = page.url
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    assert page.url != place
    expect(page.locator("#message")).to_be_hidden()


def test_dropped_files_are_taken_within_the_limit(tab, dark_dng, tmp_path):
    page = tab()
    new, large = tmp_path / "new one.dng", tmp_path / "too large.dng"
    shutil.copy(dark_dng, new)
    large.write_bytes(bytes(1_100_000))
    page.locator("#files").set_input_files([new])
    expect(page.locator("#title")).to_have_text("new one.dng", timeout=PATIENCE)
    settled(page)
    page.locator("#files").set_input_files([large])
    expect(page.get_by_role("alert")).to_contain_text("limit")
    page.locator("#files").set_input_files([tmp_path / "new one.dng"])
    settled(page)


@pytest.mark.parametrize(
    "options",
    [{"viewport": {"width": 390, "height": 800}, "has_touch": True}, {"forced_colors": "active", "contrast": "more"}],
)
def test_on_a_phone_and_in_high_contrast_all_is_there_and_has_a_name(tab, options):
    page = tab("a night", **options)
    assert page.evaluate("() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth") <= 0
    for control in page.locator("button:visible, select:visible, input:visible").all():
        name = control.evaluate(
            "it => it.getAttribute('aria-label') || it.textContent || [...it.labels].map(l => l.textContent).join()"
        )
        assert re.search(r"\w", name), control.evaluate("it => it.outerHTML")
    zoom(page)
    assert pixels(page)
