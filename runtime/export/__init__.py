"""A found network as a file that does without nasdsl: a readable module, a program of torch's, or an ONNX model."""

from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.forms import ENDINGS, Exported, export_network
from nasdsl.runtime.export.verify import batch_to_compare, verify_python
from nasdsl.runtime.export.write import check_export, export_python

__all__ = [
    "ENDINGS",
    "ExportError",
    "Exported",
    "batch_to_compare",
    "check_export",
    "export_network",
    "export_python",
    "verify_python",
]
