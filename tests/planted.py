"""Data sets with faults that are known, to be found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from facetrain.fpenet_trainer.schemes import load_scheme

Planted = list[tuple[str, str]]  # stem of the file, kind of finding
FLIP = list(load_scheme("", 68).flip or ())
TURNED = 6  # EXIF: the stored picture is to be turned by 90 degrees clockwise


def write_pts(path: Path, points: np.ndarray) -> None:
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")


def read_points(path: Path) -> np.ndarray:
    lines = path.read_text().replace("{", "").replace("}", "").split("\n")
    return np.array([line.split() for line in lines if line.strip() and ":" not in line], float)


def truncate(picture: Path) -> None:
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2])


def misname(picture: Path) -> None:
    with Image.open(picture) as image:
        image.load()
    image.save(picture, "PNG" if picture.suffix == ".jpg" else "JPEG")


def make_transparent(picture: Path) -> None:
    with Image.open(picture) as image:
        clear = image.convert("RGBA")
    clear.putalpha(200)
    picture.unlink()
    clear.save(picture.with_suffix(".png"))


def deepen(picture: Path) -> None:
    with Image.open(picture) as image:
        grey = np.asarray(image.convert("L"), np.uint16) * 257
    picture.unlink()
    Image.fromarray(grey).save(picture.with_suffix(".png"))


def turn(picture: Path) -> None:
    """Stores the picture on its side, with a tag that says so."""
    with Image.open(picture) as image:
        lying = image.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    tag = Image.Exif()
    tag[0x0112] = TURNED
    picture.unlink()
    lying.save(picture.with_suffix(".jpg"), quality=95, exif=tag)


def print_in_inks(picture: Path) -> None:
    with Image.open(picture) as image:
        inks = image.convert("CMYK")
    picture.unlink()
    inks.save(picture.with_suffix(".jpg"))


def change_points(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def changed(picture: Path) -> None:
        label = picture.with_suffix(".pts")
        write_pts(label, change(read_points(label)))

    return changed


def swap_eyes(points: np.ndarray) -> np.ndarray:
    return points[[*range(36), *range(42, 48), *range(36, 42), *range(48, 68)]]


def swap_two(points: np.ndarray) -> np.ndarray:
    order = np.arange(len(points))
    order[[8, 30]] = [30, 8]
    return points[order]


def break_label(picture: Path) -> None:
    label = picture.with_suffix(".pts")
    label.write_text(label.read_text().replace(".", "x", 1))


def repeat_mirrored(picture: Path, into: Path) -> None:
    """The face once more in another split: mirrored, smaller, and strongly compressed."""
    points = read_points(picture.with_suffix(".pts"))
    with Image.open(picture) as image:
        image = image.convert("RGB")
        scale = 0.7
        small = image.resize((round(image.width * scale), round(image.height * scale)))
    small.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(into / f"again_{picture.stem}.jpg", quality=60)
    moved = (points + 0.5) * (small.width / image.width, small.height / image.height) - 0.5
    write_pts(into / f"again_{picture.stem}.pts", (moved * (-1, 1) + (small.width - 1, 0))[FLIP])


def repeat_encoded(picture: Path, into: Path) -> None:
    """The face once more in another split, as another file."""
    with Image.open(picture) as image:
        image.convert("RGB").save(into / f"again_{picture.stem}.jpg", quality=70)
    shutil.copy(picture.with_suffix(".pts"), into / f"again_{picture.stem}.pts")


def plant_in_faces(train: Path, test: Path) -> Planted:
    """20 faults of 10 kinds in two folders of pictures with .pts files; only `train`'s first 20 faces are touched."""
    kinds: list[tuple[str, Callable[[Path], None]]] = [
        ("picture unreadable", truncate),
        ("wrongly named", misname),
        ("transparency", make_transparent),
        ("16 bits", deepen),
        ("turned by EXIF", turn),
        ("collapsed points", change_points(lambda points: points.mean(axis=0) + 0.01 * (points - points.mean(axis=0)))),
        ("mirrored points", change_points(lambda points: points[FLIP])),
        ("wrong order", change_points(swap_eyes)),
        ("wrong order", change_points(swap_two)),
        ("broken label", break_label),
        ("duplicate across splits", lambda picture: repeat_mirrored(picture, test)),
        ("duplicate across splits", lambda picture: repeat_encoded(picture, test)),
    ]
    twice = [kind for kind in kinds if sum(kind[0] == other[0] for other in kinds) == 1]
    pictures = pictures_of(train)
    planted = []
    for picture, (kind, spoil) in zip(pictures, [*kinds, *twice], strict=False):
        spoil(picture)
        planted.append((picture.stem, kind))
    assert len(planted) == 20 and len({kind for _, kind in planted}) == 10
    return planted


def pictures_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))


def unfound(planted: Planted, findings: Iterable[dict]) -> Planted:
    """What was planted and not found."""
    found = {(Path(finding["file"]).stem, finding["kind"]) for finding in findings}
    return [fault for fault in planted if fault not in found]


def false_alarms(planted: Planted, findings: Iterable[dict]) -> set[str]:
    """Files that nothing was planted in and that are suspected all the same."""
    spoilt = {stem for stem, _ in planted}
    return {stem for finding in findings if (stem := Path(finding["file"]).stem) not in spoilt
            and stem.removeprefix("again_") not in spoilt}  # fmt: skip


Boxes = list[tuple[float, float, float, float]]


def write_kitti(path: Path, boxes: Boxes, name: str = "face") -> None:
    rows = (f"{name} 0 0 0 {' '.join(f'{edge:g}' for edge in box)} 0 0 0 0 0 0 0\n" for box in boxes)
    path.write_text("".join(rows))


def add_box(make: Callable[[float, float], tuple[float, float, float, float]]) -> Callable[[Path, Path], None]:
    """Adds a box that is made of the picture's width and height."""

    def added(picture: Path, label: Path) -> None:
        with Image.open(picture) as image:
            box = make(*image.size)
        label.write_text(label.read_text() + f"face 0 0 0 {' '.join(f'{edge:g}' for edge in box)} 0 0 0 0 0 0 0\n")

    return added


def double_box(picture: Path, label: Path) -> None:
    """Labels the largest face once more, a little larger."""
    boxes = np.array([line.split()[4:8] for line in label.read_text().splitlines()], float)
    box = boxes[np.argmax(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))] + [-0.2, -0.2, 0.2, 0.2]
    label.write_text(label.read_text() + f"face 0 0 0 {' '.join(f'{edge:g}' for edge in box)} 0 0 0 0 0 0 0\n")


def repeat_picture(picture: Path, label: Path) -> None:
    """The picture once more, mirrored, smaller, and strongly compressed, with its boxes."""
    with Image.open(picture) as image:
        whole = image.convert("RGB")
    small = whole.resize((round(0.6 * whole.width), round(0.6 * whole.height)))
    small.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(picture.with_name(f"z_{picture.stem}.jpg"), quality=60)
    scale = np.array([small.width / whole.width, small.height / whole.height] * 2)
    boxes = np.array([line.split()[4:8] for line in label.read_text().splitlines()], float).reshape(-1, 4) * scale
    mirrored = [(small.width - x2, y1, small.width - x1, y2) for x1, y1, x2, y2 in boxes]
    write_kitti(label.with_name(f"z_{label.stem}.txt"), mirrored)


def plant_in_pictures(pictures: Path, labels: Path) -> Planted:
    """20 faults of 10 kinds in a folder of pictures and one of KITTI labels; the first 20 pictures are touched."""

    def of_file(spoil: Callable[[Path], None]) -> Callable[[Path, Path], None]:
        return lambda picture, label: spoil(picture)

    kinds: list[tuple[str, Callable[[Path, Path], None]]] = [
        ("picture unreadable", of_file(truncate)),
        ("wrongly named", of_file(misname)),
        ("CMYK", of_file(print_in_inks)),
        ("turned by EXIF", of_file(turn)),
        ("box without area", add_box(lambda w, h: (w / 2, h / 2, w / 2, h / 2 + 20))),
        ("box outside the picture", add_box(lambda w, h: (w + 10, 10, w + 60, 60))),
        ("box partly outside", add_box(lambda w, h: (w - 30, h - 40, w + 30, h + 20))),
        ("absurd aspect", add_box(lambda w, h: (10, 20, 20, 120))),
        ("box twice", double_box),
        ("duplicate", repeat_picture),
    ]
    planted = []
    for picture, (kind, spoil) in zip(pictures_of(pictures), [*kinds, *kinds], strict=False):
        label = labels / f"{picture.stem}.txt"
        spoil(picture, label)
        planted.append((f"z_{label.stem}" if kind == "duplicate" else label.stem, kind))
    assert len(planted) == 20 and len({kind for _, kind in planted}) == 10
    return planted
