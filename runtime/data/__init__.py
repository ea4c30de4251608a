"""Data: the files of a user, or the embedded digits, become train and validation samples and batches of them."""

from nasdsl.runtime.data.boxes import DetectionSet
from nasdsl.runtime.data.datasets import ClassificationSet, KeypointSet, SegmentationSet, to_crop, to_image
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.data.files import Files
from nasdsl.runtime.data.given import Data
from nasdsl.runtime.data.images import Cached, Size
from nasdsl.runtime.data.layouts import KeypointLayout
from nasdsl.runtime.data.loader import Batch, Loader
from nasdsl.runtime.data.open import find_readers, is_built_in, open_data
from nasdsl.runtime.data.readers import Reader
from nasdsl.runtime.data.reading import Reading
from nasdsl.runtime.data.splits import DataSplits, Normalised, Request, Samples
from nasdsl.runtime.data.tables import TableSet
from nasdsl.runtime.data.tell import told

__all__ = [
    "Batch",
    "Cached",
    "ClassificationSet",
    "Data",
    "DataError",
    "DataSplits",
    "DetectionSet",
    "Files",
    "KeypointLayout",
    "KeypointSet",
    "Loader",
    "Normalised",
    "Reader",
    "Reading",
    "Request",
    "Samples",
    "SegmentationSet",
    "Size",
    "TableSet",
    "find_readers",
    "is_built_in",
    "open_data",
    "to_crop",
    "to_image",
    "told",
]
