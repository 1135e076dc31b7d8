# SPDX-License-Identifier: Apache-2.0
"""Finding data sets of every layout, and saying what is wrong with one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("PIL")

from fake_data import make_image, make_mvtec, save

from ssad_models.data.images import DataError
from ssad_models.data.sources import LAYOUTS, FileSource, find
from ssad_models.data.split import Sample

HOSTILE = ("a b", 'it\'s "quoted"', "<script>alert(1)<", "a..ü", "naïve 日本", "-rf", "%s{0}$HOME")


def fill(folder: Path, *names: str) -> Path:
    """Images of four pixels."""
    for name in names:
        save(folder / name, make_image(name, 2)[0])
    return folder


def only(path: Path | str, *arguments: object, **options: object) -> FileSource:
    (source,) = find(path, *arguments, **options)
    assert isinstance(source, FileSource)
    return source


def test_mvtec(tmp_path: Path) -> None:
    make_mvtec(tmp_path, train=3, test=2)
    a_b, bottle = find(tmp_path)
    assert (a_b.name, bottle.name) == ("a b", "bottle")
    assert bottle.counts() == (3, 6)
    assert isinstance(bottle, FileSource)
    folder = tmp_path / "bottle"
    assert bottle.train_samples[0] == Sample(folder / "train/good/000.png", "good/000.png")
    assert [s.name for s in bottle.test_samples] == [
        f"{kind}/00{i}.png" for kind in ("broken", "good", "hole") for i in range(2)
    ]
    assert bottle.test_samples[1] == Sample(
        folder / "test/broken/001.png",
        "broken/001.png",
        "broken",
        True,
        folder / "ground_truth/broken/001_mask.png",
    )
    assert bottle.test_samples[2] == Sample(folder / "test/good/000.png", "good/000.png")


def test_one_category_of_mvtec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_mvtec(tmp_path, train=1, test=1)
    assert only(tmp_path / "a b").name == "a b"
    assert only(tmp_path, "mvtec", ["bottle"]).name == "bottle"
    assert [s.name for s in find(tmp_path, categories=["bottle", "a b"])] == ["bottle", "a b"]
    monkeypatch.chdir(tmp_path / "bottle")
    assert only(".").name == "bottle"


def test_a_link_has_a_name_of_its_own(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "disk", ["v1"], train=1, test=1)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("bottle", "cable"):
        (data / name).symlink_to(tmp_path / "disk/v1")
    assert [source.name for source in find(data)] == ["bottle", "cable"]
    assert only(data / "cable").name == "cable"
    assert only(data / "cable" / "train" / "..").name == "v1"
    with pytest.raises(DataError, match="a category must be named once, got cable again"):
        find(data, categories=["cable", "bottle", "cable"])


def test_a_misspelt_category_is_not_passed_over(tmp_path: Path) -> None:
    make_mvtec(tmp_path, train=1, test=1)
    (tmp_path / "bottle/train/good").rename(tmp_path / "bottle/train/Good")
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="bottle/train/good: must be a folder of images"):
        find(tmp_path)
    assert only(tmp_path, categories=["a b"]).name == "a b"
    shutil.rmtree(tmp_path / "bottle/train")
    with pytest.raises(DataError, match="bottle/train/good: must be a folder of images"):
        find(tmp_path)


def test_fingerprints_tell_files_apart(tmp_path: Path) -> None:
    folder = make_mvtec(tmp_path, ["c"], train=3, test=1) / "c"

    def prints() -> tuple[str, str]:
        source = only(folder)
        return source.fingerprint(), source.test_fingerprint()

    seen = [prints()]
    assert prints() == seen[0]
    (folder / "train/good/002.png").rename(folder / "train/good/003.png")
    seen.append(prints())
    os.utime(folder / "train/good/000.png", ns=(1, 1))
    seen.append(prints())
    (folder / "train/good/001.png").write_bytes(b"1")
    seen.append(prints())
    assert len({train for train, _ in seen}) == 4
    assert len({test for _, test in seen}) == 1
    os.utime(folder / "ground_truth/hole/000_mask.png", ns=(1, 1))
    assert prints()[0] == seen[-1][0]
    assert prints()[1] != seen[-1][1]
    (folder / "test/hole").rename(folder / "test/crack")
    (folder / "ground_truth/hole").rename(folder / "ground_truth/crack")
    assert prints()[1] not in (seen[-1][1], seen[0][1])


def test_mvtec_without_masks_or_test_set(tmp_path: Path) -> None:
    folder = make_mvtec(tmp_path, ["c"], train=1, test=1) / "c"
    shutil.rmtree(folder / "ground_truth")
    assert [s.mask for s in only(folder).test_samples] == [None] * 3
    shutil.rmtree(folder / "test")
    source = only(folder)
    assert source.counts() == (1, 0)
    assert source.test(8, 3) is None


def test_hidden_files_and_other_files_do_not_count(tmp_path: Path) -> None:
    folder = make_mvtec(tmp_path, ["c"], train=2, test=1) / "c"
    (folder / "train/good/._000.png").write_text("of another system")
    (folder / "train/good/notes.txt").write_text("x")
    (folder / "test/.cache").mkdir()
    fill(folder / "train/good", "UPPER.PNG")
    assert only(folder).counts() == (3, 3)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(tmp_path: Path, name: str) -> None:
    make_mvtec(tmp_path, [name], size=16, train=1, test=1, kinds=[name])
    source = only(tmp_path)
    assert source.name == name
    assert source.test_samples[-1].kind in (name, "good")
    test = source.test(8, 3)
    assert test is not None
    assert set(test.names) == {f"{name}/000.png", "good/000.png"}


def test_names_that_are_no_text(tmp_path: Path) -> None:
    # Linux allows any bytes in names; a message must still be printable.
    broken = tmp_path / os.fsdecode(b"\xff")
    try:
        broken.mkdir()
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    with pytest.raises(DataError, match=r"\\xff") as caught:
        find(broken)
    str(caught.value).encode()
    name = os.fsdecode(b"\xfe")
    make_mvtec(tmp_path / "data", [name], size=16, train=1, test=1, kinds=[name])
    for source in (only(tmp_path / "data"), only(tmp_path / "data", categories=[name])):
        assert source.name == "\\xfe"
        assert {s.name for s in source.test_samples} == {"good/000.png", "\\xfe/000.png"}
        source.test_fingerprint().encode()
        assert source.test(8, 3) is not None


def test_a_missing_mask(tmp_path: Path) -> None:
    folder = make_mvtec(tmp_path, ["c"], train=1, test=2) / "c"
    (folder / "ground_truth/hole/001_mask.png").unlink()
    with pytest.raises(
        DataError, match=r"hole/001\.png: must have a mask 001_mask\.png, .*, in .*/hole"
    ):
        find(tmp_path)
    shutil.rmtree(folder / "ground_truth/hole")
    with pytest.raises(DataError, match=r"hole/000\.png: must have a mask"):
        find(tmp_path)


@pytest.mark.parametrize("empty", ["train/good", "test/good", "test/broken"])
def test_an_empty_folder(tmp_path: Path, empty: str) -> None:
    folder = make_mvtec(tmp_path, ["c"], train=1, test=1) / "c"
    (folder / empty / "000.png").unlink()
    with pytest.raises(DataError, match=rf"c/{empty}: must be a folder of images .*got none"):
        find(tmp_path)


def test_a_broken_category_does_not_hinder_another(tmp_path: Path) -> None:
    make_mvtec(tmp_path, train=1, test=1)
    (tmp_path / "a b/train/good/000.png").unlink()
    assert only(tmp_path, categories=["bottle"]).counts() == (1, 3)


def test_unknown_categories_and_layouts(tmp_path: Path) -> None:
    make_mvtec(tmp_path, train=1, test=1)
    with pytest.raises(DataError, match="a category must be one of a b, bottle, got cable"):
        find(tmp_path, categories=["cable"])
    with pytest.raises(ValueError, match=r"`layout` must be auto or one of builtin, mvtec.*'visa'"):
        find(tmp_path, "visa")
    with pytest.raises(DataError, match="must be a folder, or the word builtin"):
        find(tmp_path / "nowhere")
    for layout in ("mvtec", "lists"):
        with pytest.raises(DataError, match=f"must have the layout {layout}"):
            find(tmp_path / "bottle" / "test", layout)
    with pytest.raises(DataError, match="NORMAL: must be a folder of images"):
        find(tmp_path, "oct2017")


def test_unclear_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one known layout, got none") as caught:
        find(tmp_path)
    assert all(layout in str(caught.value) for layout in LAYOUTS)
    fill(tmp_path, "normal/1.png", "train/NORMAL/1.png")
    with pytest.raises(DataError, match="got oct2017 and folders"):
        find(tmp_path)
    assert only(tmp_path, "folders").counts() == (1, 0)


def test_folders_with_usual_names(tmp_path: Path) -> None:
    fill(tmp_path / "normal", *(f"{i}.png" for i in range(10)))
    fill(tmp_path / "abnormal", "a.png", "b.png")
    source = only(tmp_path)
    assert source.name == tmp_path.name
    assert [s.name for s in source.train_samples] == [
        f"good/{i}.png" for i in range(10) if i % 5 < 4
    ]
    assert [s.name for s in source.test_samples] == [
        "good/4.png",
        "good/9.png",
        "abnormal/a.png",
        "abnormal/b.png",
    ]
    assert [s.anomalous for s in source.test_samples] == [False, False, True, True]
    fill(tmp_path / "masks", "a.png", "b_mask.png")
    fill(tmp_path / "normal_test", "x.jpg")
    source = only(tmp_path)
    assert source.counts() == (10, 3)
    assert [s.mask for s in source.test_samples] == [
        None,
        tmp_path / "masks/a.png",
        tmp_path / "masks/b_mask.png",
    ]


def test_folders_with_names_of_the_users_own(tmp_path: Path) -> None:
    fill(tmp_path, "ok/1.png", "ok 2/1.png", "bad/dent/1.png", "bad/scratch/1.png", "bad/2.png")
    fill(tmp_path / "truth", "dent/1.png", "scratch/1.png", "2.png")
    source = only(tmp_path, normal="ok", normal_test=str(tmp_path / "ok 2"), abnormal="bad")
    assert [s.kind for s in source.test_samples] == ["good", "abnormal", "dent", "scratch"]
    assert {s.mask for s in source.test_samples} == {None}
    source = only(tmp_path, normal="ok", abnormal="bad", masks="truth")
    assert source.test_samples[-1].mask == tmp_path / "truth/scratch/1.png"
    with pytest.raises(DataError, match="fine: must be a folder, got none; correct its name"):
        find(tmp_path, normal="fine")


def test_just_images(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.jpeg")
    source = only(tmp_path)
    assert source.counts() == (2, 0)
    assert source.train_samples[1].name == "good/2.jpeg"


def test_oct2017(tmp_path: Path) -> None:
    fill(tmp_path / "train", "NORMAL/1.jpeg", "CNV/1.jpeg", "DME/1.jpeg", "DRUSEN/1.jpeg")
    fill(tmp_path / "test", "NORMAL/2.jpeg", "CNV/2.jpeg", "DME/2.jpeg", "DRUSEN/2.jpeg")
    source = only(tmp_path)
    assert [s.name for s in source.train_samples] == ["good/1.jpeg"]
    assert [s.kind for s in source.test_samples] == ["CNV", "DME", "DRUSEN", "good"]
    assert [s.anomalous for s in source.test_samples] == [True, True, True, False]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Lists of two categories as NSA names them, and the images in another folder."""
    fill(tmp_path / "images", "a 1.png", "a2.png", "a3.png", "ü.png", "b1.png")
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, content in {
        "norm_MaleAdultPA_train_curated_list.txt": "\ufeffa 1.png\r\na2.png\r\n\r\n",
        "norm_MaleAdultPA_test_curated_list.txt": "a3.png",
        "anomaly_MaleAdultPA_test_curated_list.txt": "ü.png\n",
        "norm_FemaleAdultPA_train_curated_list.txt": "b1.png\n",
        "readme.txt": "lists",
    }.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_lists(lists: Path) -> None:
    female, male = find(lists, images="../images")
    assert (female.name, female.counts()) == ("FemaleAdultPA", (1, 0))
    assert isinstance(male, FileSource)
    assert [s.name for s in male.train_samples] == ["a 1.png", "a2.png"]
    assert male.test_samples == [
        Sample(lists / "../images/a3.png", "a3.png"),
        Sample(lists / "../images/ü.png", "ü.png", "anomaly", True),
    ]
    test = male.test(4, 1)
    assert test is not None
    assert test.masks is None


def test_lists_without_a_category_among_the_images(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "sub/2.png")
    (tmp_path / "normal_train.txt").write_text("1.png\n")
    (tmp_path / "abnormal_test.txt").write_text("sub/2.png\n")
    source = only(tmp_path)
    assert source.name == tmp_path.name
    assert source.test_samples[0].name == "sub/2.png"


def test_errors_in_lists_name_the_line(lists: Path) -> None:
    train = lists / "norm_FemaleAdultPA_train_curated_list.txt"

    def error(content: str) -> str:
        train.write_text(content)
        with pytest.raises(DataError) as caught:
            find(lists, categories=["FemaleAdultPA"], images="../images")
        return str(caught.value)

    assert "list.txt, line 2: must name an image in" in error("b1.png\nnone.png\n")
    assert "line 3: an image must be named once, got b1.png" in error("b1.png\n\nb1.png\n")
    assert "must name images, one a line, got none" in error("\n")
    (lists / "norm_FemaleAdultPA_test_list.txt").write_text("b1.png")
    assert "test_list.txt, line 1: an image must be named once" in error("b1.png")
    (lists / "b1.png").symlink_to("../images/b1.png")
    assert "line 2: an image must be named once" in error(f"b1.png\n{lists}/./b1.png")
    assert "test_list.txt, line 1: an image must be named once" in error("../images/b1.png")
    second = lists / "normal_FemaleAdultPA_train.txt"
    second.write_text("b1.png")
    with pytest.raises(DataError, match=r"must be the only list of its kind, got norm_F.*join"):
        find(lists)
    second.unlink()
    train.unlink()
    with pytest.raises(DataError, match=r"must have a list norm_…_train\.txt beside it"):
        find(lists, images="../images")


def test_builtin() -> None:
    pytest.importorskip("skimage")
    sources = find("builtin", categories=["ihc", "brick"])
    assert [source.name for source in sources] == ["ihc", "brick"]
    assert sources[0].counts()[0] > 0
    assert sources[0].fingerprint() != sources[0].test_fingerprint()
    with pytest.raises(DataError, match="one of brick, grass, gravel, ihc, got wood"):
        find("builtin", categories=["wood"])
