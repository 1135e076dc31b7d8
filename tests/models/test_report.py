# SPDX-License-Identifier: Apache-2.0
"""What the report says: figures, charts, pictures, escaping."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

pytest.importorskip("jinja2")
pytest.importorskip("torchvision")

from made_up import made_up
from PIL import Image

from ssad_models.evaluate import evaluate
from ssad_models.report import Report, Run, Table, charts, gallery, read_curves, write_report
from ssad_models.report.view import View

KINDS = ["good"] * 8 + ["hole", "dent"] * 4
STRENGTHS = [0.0] * 8 + [4.0, 4.0, 8.0, 8.0] * 2
HOSTILE = "../<script>alert(1)</script> & \"é' {{ 7 * 7 }}"


def run(
    method: str = "CutPaste", category: str = "brick", seed: int | None = 0, *, good: float = 1.0
) -> Run:
    test = made_up(KINDS, STRENGTHS, names=[f"{category}/{i}" for i in range(16)])
    scores = torch.arange(16.0) * good
    assert test.masks is not None
    maps = test.masks.float()
    return Run(
        method,
        category,
        evaluate(test, scores, maps, threshold=7.5, resamples=20),
        seed,
        curves={"train/loss": [(0, 1.0), (100, 0.5)]},
        pictures=gallery(test, scores, maps, count=4),
        settings={"lr": 0.03, "head": {"dims": [8, seed]}},
    )


class Page(HTMLParser):
    """Text, tags and addresses of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.tags, self.addresses = "", set[str](), list[str]()
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += f" {data.strip()}"


def written(folder: Path, *runs: Run, **parts: object) -> Page:
    path = folder / "report.html"
    write_report(path, Report("A report", runs, **parts))  # type: ignore[arg-type]
    return Page(path)


def test_page_holds_everything(tmp_path: Path) -> None:
    page = written(
        tmp_path,
        run(),
        lead="What was done.",
        tables=[Table("Beside the paper", ["category", "ours", "paper"], [["brick", "99", "98"]])],
        settings={"batch": 96},
        versions={"torch": "9.9"},
        notes=["How to read it."],
    )
    for text in ("What was done.", "Beside the paper", "How to read it.", "batch", "96", "9.9"):
        assert text in page.text
    for text in ("Image AUROC", "Pixel AUROC", "Detection rate", "100.0", "hole", "train/loss"):
        assert text in page.text
    assert page.source.count('<svg class="chart"') == 2 + 1 + 1 + 1  # ladders, ROC, loss, scores
    assert page.source.count("<img ") == 4 * 3


def test_nothing_is_loaded_and_no_name_becomes_markup(tmp_path: Path) -> None:
    page = written(tmp_path, run(HOSTILE, HOSTILE), lead=HOSTILE, settings={HOSTILE: HOSTILE})
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert HOSTILE in page.text
    assert all(a.startswith(("data:image/", "#")) for a in page.addresses)
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    page = written(tmp_path, run(category="caf\udce9"))
    assert r"caf\xe9" in page.text


def test_report_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold at least one run, got none"):
        written(tmp_path)
    assert not list(tmp_path.iterdir())


def test_means_over_categories_and_spread_over_seeds() -> None:
    worst = run(seed=1, good=-1.0)  # AUROC 0
    runs = [run(), worst, run(category="grass"), run(category="grass", seed=1)]
    view = View(Report("", [*runs, run("Other")]))
    (_, cutpaste), (_, other) = view.headlines
    assert cutpaste.value == pytest.approx(0.75)
    assert cutpaste.spread == pytest.approx(0.5 / 2**0.5)  # of 1 and 1/2
    assert other.value is None  # it lacks a category
    (brick, cells), _, (mean, _) = view.summary.rows
    assert (brick, mean) == ("brick", "mean")
    assert [cell.value for cell in cells] == [0.5, 1.0]
    assert view.settings == {"lr": "0.03"}
    assert [own for _, own in view.runs][:2] == ["head.dims [8, 0]", "head.dims [8, 1]"]


def test_ladder_groups_kinds_that_share_their_strengths() -> None:
    (section,) = View(Report("", [run()])).sections
    ((method, grids),) = section.ladders
    assert method == "CutPaste"
    assert [(grid.headings, [kind for kind, _ in grid.rows]) for grid in grids] == [
        (["4", "8"], ["hole", "dent"])
    ]


def test_charts_map_data_into_the_box() -> None:
    chart = charts.roc([(2, [(0, 0), (0, 1), (1, 1)])])
    right, bottom = charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM
    assert chart.lines[0].path == (
        f"M{charts.LEFT} {bottom}L{charts.LEFT} {charts.TOP}L{right} {charts.TOP}"
    )
    assert chart.lines[0].series == 2
    low = charts.ladder("hole", [(0, [(4, 0.1), (8, 1.0)])])
    assert [text for _, text in low.y_ticks] == ["0", "25", "50", "75", "100"]
    assert [text for _, text in low.x_ticks] == ["4", "8"]
    bars = charts.bars("hole", [(0, 0.75), (3, 0.4)])
    assert [text for _, text in bars.x_ticks] == ["75", "40"]
    (x, above), (_, below) = (line.path[1:].split("L") for line in bars.lines)
    chance, height = float(x.split()[1]), [float(end.split()[1]) for end in (above, below)]
    assert height[0] < chance < height[1]  # upwards is less
    loss = charts.curves("loss", [(0, [(0, 2.0), (65536, 0.5)])])
    assert [text for _, text in loss.x_ticks] == ["0", "20k", "40k", "60k"]
    flat = charts.curves("loss", [(0, [(5, 0.0)])])
    assert "nan" not in flat.lines[0].path


def test_gallery_shows_the_worst_mistakes_first() -> None:
    test = made_up(["good"] * 4 + ["hole"] * 4)
    assert test.masks is not None
    scores = torch.tensor([0.0, 1.0, 2.0, 9.0, 0.5, 3.0, 4.0, 10.0])
    pictures = gallery(test, scores, test.masks.float(), count=4)
    shown = ["good/003.png", "hole/004.png", "hole/005.png", "hole/007.png"]
    assert sorted(picture.name for picture in pictures) == shown
    errors = [picture.error for picture in pictures]
    assert errors == sorted(errors, reverse=True)
    everything = gallery(test, scores, count=100)
    assert len({picture.name for picture in everything}) == len(everything) == 8
    assert everything[0].heat is None


def test_pictures_are_small_images() -> None:
    test = made_up(KINDS, side=400)
    picture = gallery(test, torch.arange(16.0), torch.rand(16, 1, 400, 400), count=1)[0]
    for address in (picture.image, picture.mask, picture.heat):
        assert address is not None
        kind, content = address.split(",")
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        assert kind == f"data:image/{(image.format or '').lower()};base64"
        assert max(image.size) <= 192


def test_curves_are_read_from_the_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,lr\n0,9,1.5,\n0,9,,0.03\n1,19,0.5,\n")
    assert read_curves(path) == {"train/loss": [(9, 1.5), (19, 0.5)], "lr": [(9, 0.03)]}
