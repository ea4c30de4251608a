"""A found network as one readable Python file and one file of weights, which need torch and nothing else."""

from nasdsl.runtime.export.errors import ExportError
from nasdsl.runtime.export.verify import batch_to_compare, verify_python
from nasdsl.runtime.export.write import check_export, export_python

__all__ = ["ExportError", "batch_to_compare", "check_export", "export_python", "verify_python"]
