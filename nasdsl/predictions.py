"""What was found in images as files: drawn images, and the usual format of each task."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from nasdsl.compiler.files import to_json, write_text, write_whole
from nasdsl.drawing.predictions import draw, palette
from nasdsl.runtime.data import DataError
from nasdsl.runtime.found import Found, FoundBoxes, FoundClasses, FoundJoints, FoundMask, Names
from nasdsl.runtime.predict import Photo, Shown

if TYPE_CHECKING:
    from PIL.Image import Image

DRAWN, MASKS = "images", "masks"
JPEG = (".jpg", ".jpeg")


def placed(photos: Sequence[Photo | Shown], endings: Sequence[str]) -> dict[str, str]:
    """What is written for each image, by its name, with another ending. Where two would be one file, also to a computer
    that does not tell capitals apart, the old ending stays in the name, too.

    Raises:
        DataError: they would still be one file.
    """
    wanted = [PurePosixPath(photo.name).with_suffix(end).as_posix() for photo, end in zip(photos, endings, strict=True)]
    times = Counter(name.lower() for name in wanted)
    found: dict[str, str] = {}
    owner: dict[str, Photo | Shown] = {}
    for photo, name, end in zip(photos, wanted, endings, strict=True):
        name = name if times[name.lower()] == 1 else photo.name + end
        other = owner.setdefault(name.lower(), photo)
        if other is not photo:
            raise DataError(f"{other.name} and {photo.name} would both be written as {name}", help="rename one of them")
        found[photo.name] = name
    return found


class Results:
    """The folder of what is found: `images/` with drawings of all, and

    - detection, keypoints: `predictions.json`, a COCO file with images, categories and annotations, each with a score;
    - segmentation: `masks/`, PNG files whose values are classes, and `classes.txt` with their names;
    - classification: `predictions.csv`, a row for each image.
    """

    def __init__(
        self, out: Path, photos: Sequence[Photo | Shown], names: Names, categories: Sequence[Any] | None, score: float
    ) -> None:
        """
        Args:
            categories: ids of the classes in COCO files; by default 1, 2, ...
            score: joints below it are written as hidden, and not drawn.

        Raises:
            DataError: two images would be one file.
        """
        self.out, self.names, self.score = out, names, score
        self.categories = list(categories or range(1, len(names.classes) + 1))
        endings = [PurePosixPath(photo.name).suffix for photo in photos]
        self.drawn = placed(photos, [end if end.lower() in JPEG else ".png" for end in endings])
        self.masks = placed(photos, [".png"] * len(photos))
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.rows: list[list[str]] = []

    def add(self, photo: Photo | Shown, image: Image, found: Found) -> None:
        """Writes what belongs to one image."""
        drawing = draw(image, found, names=self.names, score=self.score)
        save_image(self.out / DRAWN / self.drawn[photo.name], drawing)
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": photo.name, "width": image.width, "height": image.height})
        if isinstance(found, FoundMask):
            self._mask(photo, found)
        elif isinstance(found, FoundClasses):
            pairs = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
            self.rows.append([photo.name, *(part for label, chance in pairs for part in self._cells(label, chance))])
        elif isinstance(found, FoundBoxes):
            self._boxes(number, found)
        else:
            self._joints(number, image, found)

    def _cells(self, label: int, chance: float) -> tuple[str, str]:
        return self.names.of(label), f"{chance:.6f}"

    def _mask(self, photo: Photo | Shown, found: FoundMask) -> None:
        from PIL import Image as pillow

        mask = pillow.fromarray(found.labels).convert("P")
        mask.putpalette(palette(self.names))
        save_image(self.out / MASKS / self.masks[photo.name], mask)

    def _annotation(self, image: int, category: int, box: Sequence[float], score: float) -> dict[str, Any]:
        left, top, right, bottom = box
        return {
            "id": len(self.annotations) + 1,
            "image_id": image,
            "category_id": self.categories[category],
            "bbox": [round(part, 3) for part in (left, top, right - left, bottom - top)],
            "area": round((right - left) * (bottom - top), 3),
            "iscrowd": 0,
            "score": round(score, 6),
        }

    def _boxes(self, number: int, found: FoundBoxes) -> None:
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            self.annotations.append(self._annotation(number, label, box, score))

    def _joints(self, number: int, image: Image, found: FoundJoints) -> None:
        whole = (0.0, 0.0, float(image.width), float(image.height))
        one = self._annotation(number, 0, whole, float(found.scores.mean()))
        seen = [2 if peak >= self.score else 1 for peak in found.scores.tolist()]
        parts = zip(found.points.tolist(), seen, strict=True)
        one["keypoints"] = [part for (x, y), v in parts for part in (round(x, 3), round(y, 3), v)]
        one["num_keypoints"] = sum(v == 2 for v in seen)
        one["keypoint_scores"] = [round(peak, 6) for peak in found.scores.tolist()]
        self.annotations.append(one)

    def finish(self, task: str, about: str) -> list[Path]:
        """Writes what speaks of all images, last; the files and folders that there are.

        Args:
            about: how the results came about, in a line.
        """
        files = [self.out / DRAWN]
        if task == "segmentation":
            write_text(self.out / "classes.txt", "".join(f"{name}\n" for name in self.names.classes))
            return [*files, self.out / MASKS, self.out / "classes.txt"]
        if task == "classification":
            write_text(self.out / "predictions.csv", self._csv())
            return [*files, self.out / "predictions.csv"]
        categories = [
            {"id": id, "name": name, **self._skeleton()}
            for id, name in zip(self.categories, self.names.classes, strict=True)
        ]
        document = {
            "info": {"description": about},
            "images": self.images,
            "categories": categories,
            "annotations": self.annotations,
        }
        write_text(self.out / "predictions.json", records(document))
        return [*files, self.out / "predictions.json"]

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        most = max((len(row) - 1) // 2 for row in self.rows)
        further = [f"{what}_{number}" for number in range(2, most + 1) for what in ("class", "probability")]
        writer.writerow(["image", "class", "probability", *further])
        writer.writerows(self.rows)
        return text.getvalue()

    def _skeleton(self) -> dict[str, Any]:
        joints = self.names.joints
        if joints is None:
            return {}
        return {"keypoints": list(joints.names), "skeleton": [[a + 1, b + 1] for a, b in joints.skeleton]}


def records(document: Mapping[str, Any]) -> str:
    """JSON with each record of its lists on a line of its own."""
    parts = []
    for name, value in document.items():
        if isinstance(value, list) and value:
            lines = ",\n".join("  " + to_json(one) for one in value)
            parts.append(f" {to_json(name)}: [\n{lines}\n ]")
        else:
            parts.append(f" {to_json(name)}: {to_json(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def save_image(path: Path, image: Image) -> None:
    """A JPEG or PNG file, by its ending."""

    def write(file: IO[bytes]) -> None:
        if path.suffix.lower() in JPEG:
            image.save(file, "JPEG", quality=92, subsampling=0)
        else:
            image.save(file, "PNG")

    write_whole(path, write)
