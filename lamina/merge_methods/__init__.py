"""The merge methods, one file each, named as in the YAML. Importing this package registers them all."""

from lamina.merge_methods import linear, passthrough, task_arithmetic
from lamina.merge_methods.registry import METHODS, MergeMethod, UndefinedMerge

__all__ = ["METHODS", "MergeMethod", "UndefinedMerge", "linear", "passthrough", "task_arithmetic"]
