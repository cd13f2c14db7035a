"""Pascal VOC's XML: a file a picture, an `object` with a `bndbox` a box."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from ...configs.facenet.schema import SourceConfig
from ..sample import Rejection
from .labelled import BrokenLabel, Entry, LabelledBox, Labels, check_all, numbers, pictures_for, stem_in, whole_number

IMAGE_FOLDERS = ("JPEGImages", "images")  # beside the folder of labels
SIDES = ("xmin", "ymin", "xmax", "ymax")
_LINE = "facetrain-line"  # attribute of each element: where it begins


def read_voc(source: SourceConfig, root: Path) -> Labels:
    """Every `.xml` file below `root / source.path`, at any depth, in the order of their names.

    Pictures are those of the same name, with any suffix, below `source.images`; else beside the labels, else in a
    folder `JPEGImages` or `images` next to theirs. What a label says in `filename` is passed over: it is often stale.
    VOC counts pixels from 1 and names the last one of a box, so that (xmin, ymin, xmax, ymax) are the pixel edges
    (xmin - 1, ymin - 1, xmax, ymax). `difficult` boxes are marked. Attributes: "truncation" and "occlusion" (0 or 1),
    where the label has `truncated` and `occluded`.

    A label that cannot be read takes its picture with it; a box without area, or outside the picture, goes alone.
    Boxes that are partly outside stay as they are.
    """
    folder = root / source.path
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".xml")
    pictures = pictures_for(files, folder, root / source.images if source.images else None, IMAGE_FOLDERS)
    entries, rejections = [], []
    for file in files:
        try:
            label = _parse(file)
            boxes = [_box(element) for element in label.iterfind("object")]
        except BrokenLabel as fault:
            rejections.append(fault.rejection(file))
            continue
        stem = stem_in(folder, file)
        if stem not in pictures:
            rejections.append(Rejection(str(file), None, "image missing", f"no picture {stem}.* for it"))
        else:
            image = pictures[stem]
            entries.append(Entry(file, image, stem + image.suffix, boxes, None, _size(label)))
    found, others = check_all(entries)
    return found, rejections + others


def _size(label: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) of the picture, where the label tells them."""
    words = [label.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    width, height = (whole_number(word) for word in words)
    return (width, height) if width and height else None


def _box(element: ElementTree.Element) -> LabelledBox:
    line = int(element.attrib[_LINE])
    name = element.findtext("name", "").strip()
    if not name:
        raise BrokenLabel("an object without a name", line)
    box = element.find("bndbox")
    if box is None:
        raise BrokenLabel(f"{name} has no bndbox", line)
    words = []
    for side in SIDES:
        found = box.find(side)
        if found is None:
            raise BrokenLabel(f"the bndbox of {name} has no {side}", int(box.attrib[_LINE]))
        words.append((found.text or "").strip())
    x1, y1, x2, y2 = numbers(words, int(box.attrib[_LINE]))
    marks = {tag: element.findtext(tag, "").strip() for tag in ("difficult", "truncated", "occluded")}
    known = {"truncation": marks["truncated"], "occlusion": marks["occluded"]}
    attributes = {key: float(word) for key, word in known.items() if word in ("0", "1")}
    return LabelledBox(name, (x1 - 1, y1 - 1, x2, y2), line, marks["difficult"] == "1", attributes)


def _refuse_entity(name: str, line: int) -> None:
    """Entities can grow to gigabytes, and VOC has none. Raises BrokenLabel."""
    raise BrokenLabel(f"the entity {name!r:.80} is declared; VOC's labels have none", line)


def _parse(path: Path) -> ElementTree.Element:
    """The label's tree, each element with its line as an attribute."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, _: builder.start(tag, {_LINE: str(parser.CurrentLineNumber)})
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = lambda *declared: _refuse_entity(declared[0], parser.CurrentLineNumber)
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise BrokenLabel(str(error)) from error
    except expat.ExpatError as error:
        raise BrokenLabel(f"not valid XML: {expat.ErrorString(error.code)}", error.lineno) from error
    except (LookupError, ValueError) as error:  # an encoding that Python does not know, or of several bytes
        raise BrokenLabel(f"not valid XML: {error}", 1) from error
    root = builder.close()
    if root.tag != "annotation":
        raise BrokenLabel(f"the file holds <{root.tag}>, expected VOC's <annotation>", 1)
    return root
