"""Faces in a store: of each its crop, with the margin that augmentation needs, and all that is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ConfigError, DataError
from ..crops import crop_face
from ..preprocessing import Preprocessing, square_of
from ..sample import Cut, FaceSample
from .store import Store
from .views import View
from .writer import Record

KIND = "faces"
KEYS = {
    "num_keypoints": "model.num_keypoints",
    "size": "model.input_size",
    "crop_source": "crop.source",
    "enlarge": "crop.enlarge",
    "shift_x": "crop.shift_x",
    "shift_y": "crop.shift_y",
}


class FaceCodec:
    """Faces to records and back. A record is a row of fixed size, then name, source and subject with NUL between.

    Args:
        preprocessing: how crops are cut.
        margin: pixels kept around them.
        num_keypoints: K of every face.
    """

    def __init__(self, preprocessing: Preprocessing, margin: int, num_keypoints: int) -> None:
        self.preprocessing, self.margin, self.num_keypoints = preprocessing, margin, num_keypoints
        side = preprocessing.size + 2 * margin
        self._row = np.dtype(
            [
                ("square", "<f8", (3,)),
                ("weight", "<f8"),
                ("points", "<f4", (num_keypoints, 2)),
                ("box", "<f4", (4,)),
                ("states", "i1", (num_keypoints,)),
                ("flags", "?", (4,)),
                ("crop", "u1", (side, side)),
            ]
        )

    @classmethod
    def of(cls, store: Store) -> FaceCodec:
        """That of a store. Raises DataError when it holds something else."""
        if store.kind != KIND:
            raise DataError(f"{store.folder} is a store of {store.kind}, not of {KIND}")
        about = store.about
        return cls(Preprocessing.from_dict(about["preprocessing"]), about["margin"], about["num_keypoints"])

    def about(self) -> dict[str, Any]:
        """What a store of such faces is made for."""
        return {
            "preprocessing": self.preprocessing.to_dict(),
            "margin": self.margin,
            "num_keypoints": self.num_keypoints,
        }

    def encode(self, sample: FaceSample) -> Record:
        """Raises DataError when its picture cannot be read. The face has a square."""
        square = square_of(sample, self.preprocessing)
        assert square is not None
        row = np.zeros(1, self._row)
        fields = row[0]
        fields["square"], fields["weight"] = square, sample.weight
        fields["points"], fields["states"] = sample.points, sample.states
        fields["box"] = np.nan if sample.box is None else sample.box
        fields["flags"] = sample.labelled, sample.validate, sample.mask_occluded, sample.subject is not None
        fields["crop"] = crop_face((sample, square), self.preprocessing.size, self.margin)
        text = "\0".join((sample.name, sample.source, sample.subject or ""))
        labels = int((sample.states > 0).sum()) if sample.labelled else 0
        return Record(row.tobytes() + text.encode("utf-8", "surrogateescape"), sample.source, labels)

    def decode(self, data: bytes) -> FaceSample:
        fields = np.frombuffer(data, self._row, 1)[0]
        name, source, subject = data[self._row.itemsize :].decode("utf-8", "surrogateescape").split("\0")
        labelled, validate, mask_occluded, known = fields["flags"].tolist()
        box = fields["box"]
        return FaceSample(
            image=fields["crop"],
            points=fields["points"],
            states=fields["states"],
            box=None if np.isnan(box[0]) else box,
            subject=subject if known else None,
            name=name,
            source=source,
            labelled=labelled,
            weight=float(fields["weight"]),
            validate=validate,
            mask_occluded=mask_occluded,
            cut=Cut(tuple(fields["square"].tolist()), self.margin),
        )


class FaceStore(View[FaceSample]):
    """The faces of a store, each made when it is asked for, and checked then. Raises DataError where it is damaged."""

    def __init__(self, store: Store) -> None:
        self.store, self.codec = store, FaceCodec.of(store)

    def __len__(self) -> int:
        return len(self.store)

    def _item(self, index: int) -> FaceSample:
        return self.codec.decode(self.store[index])

    def require(self, preprocessing: Preprocessing, num_keypoints: int, key: str) -> None:
        """Raises ConfigError, naming the key that differs, unless crops are cut in this way and faces have so many
        points; `key` is the source's place in the spec."""
        found, wanted = (
            {"num_keypoints": points} | cut.to_dict()
            for cut, points in ((self.codec.preprocessing, self.codec.num_keypoints), (preprocessing, num_keypoints))
        )
        for name in wanted:
            if found[name] != wanted[name]:
                raise ConfigError(
                    f"{KEYS.get(name, name)}={wanted[name]}: the store {self.store.folder} ({key}) was made with "
                    f"{found[name]}; set that, or convert the faces anew"
                )
