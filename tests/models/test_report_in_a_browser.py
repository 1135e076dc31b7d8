# SPDX-License-Identifier: Apache-2.0
"""The report in headless Chromium: nothing loaded, nothing executed, readable when narrow."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import torch

pytest.importorskip("jinja2")
pytest.importorskip("torchvision")

from made_up import made_up
from PIL import Image

from ssad_models.evaluate import evaluate
from ssad_models.report import Report, Run, gallery, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
)

# What a page that is not our own may ask about the report: it has room for 360 px.
PROBE = """<!doctype html>
<iframe src="report.html" style="border: 0; width: 360px; height: 800px"></iframe>
<script>onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const small = [...page.querySelectorAll("body *")]
    .filter(e => e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 11);
  document.title = [page.documentElement.scrollWidth, page.scripts.length, page.title,
    page.querySelectorAll("td img, th img, h2 *").length, small.length].join("|");
}</script>"""


def browse(folder: Path, page: str, *flags: str) -> str:
    """Run Chromium on a page in the folder; return its standard output."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags]
    address = (folder / page).as_uri()
    done = subprocess.run([*command, address], capture_output=True, timeout=120, check=True)
    return done.stdout.decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of four methods on two categories, names hostile."""
    folder = tmp_path_factory.mktemp("report")
    runs = []
    for category in ("brick", "<script>document.title = 'owned'</script>" + "wide" * 40):
        kinds = ["good"] * 12 + ["hole", "<h1>dent</h1>"] * 6
        strengths = [0.0] * 12 + [4.0, 4.0, 8.0, 8.0] * 3
        test = made_up(kinds, strengths, side=64)
        for number in range(4):
            scores = torch.randn(24) + number * test.labels
            maps = torch.rand(24, 1, 64, 64)
            evaluation = evaluate(test, scores, maps, threshold=1.0, resamples=20)
            curves = {"train/loss": [(step, 1 / (1 + step)) for step in range(9)]}
            pictures = gallery(test, scores, maps, count=4)
            runs.append(Run(f"method {number}", category, evaluation, 0, curves, pictures))
    write_report(folder / "report.html", Report("A report", runs))
    return folder


def test_narrow_page_does_not_scroll_sideways_and_runs_no_script(folder: Path) -> None:
    (folder / "probe.html").write_text(PROBE)
    page = browse(folder, "probe.html", "--dump-dom", "--window-size=800,900")
    found = page.split("<title>")[1].split("</title>")[0]
    assert found == "360|0|A report|0|0"


def test_nothing_is_requested(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.png"
        page = (folder / "report.html").read_text(encoding="utf-8")
        # Even markup that found its way into the page could load nothing.
        smuggled = f'<img src="{address}"><link rel="stylesheet" href="{address}"><main>'
        (folder / "smuggled.html").write_text(page.replace("<main>", smuggled), encoding="utf-8")
        assert address in browse(folder, "smuggled.html", "--dump-dom")
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("width", [360, 1100])
def test_picture_of_the_page(folder: Path, width: int) -> None:
    picture = folder / f"{width}.png"
    browse(folder, "report.html", f"--screenshot={picture}", f"--window-size={width},1600")
    image = Image.open(picture).convert("RGB")
    assert image.size == (width, 1600)
    # A title, tables and charts in colour on white.
    ink = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1600, width, 3).int()
    assert 0.02 < float((ink.amin(2) < 160).float().mean()) < 0.3
    assert ((ink.amax(2) - ink.amin(2)) > 60).any()


def test_print_has_pages(folder: Path) -> None:
    browse(folder, "report.html", f"--print-to-pdf={folder / 'report.pdf'}")
    content = (folder / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= content.count(b"/Type /Page\n") <= 30
