"""The merge methods, one file each, named as in the YAML. Importing this package registers them all.

It is also what a method of one's own is built from: docs/own-method.md says what for.
"""

from lamina.merge_methods import (  # noqa: I001 (the order in which `lamina methods` lists them)
    linear,
    slerp,
    nuslerp,
    multislerp,
    karcher,
    task_arithmetic,
    ties,
    dare_linear,
    dare_ties,
    breadcrumbs,
    breadcrumbs_ties,
    della,
    della_linear,
    sce,
    ram,
    ramplus_tl,
    model_stock,
    nearswap,
    arcee_fusion,
    passthrough,
)
from lamina.kernels.sums import dot, total
from lamina.kernels.tiles import Block, Tile
from lamina.merge_methods.gram import Coefficients, Gram, GramMatrix
from lamina.merge_methods.measures import Facts, Measure, draw_keys
from lamina.merge_methods.own import OwnMethod, declared, merge_method
from lamina.merge_methods.parameters import Density, Epsilon, Gamma, Lambda, Meaning, Normalize, Scale, Weight
from lamina.merge_methods.registry import METHODS, MergeMethod, UndefinedMerge, make_known, method_called
from lamina.merge_methods.sparsifiers import Sparse, keep_drawn, keep_largest, keep_middle, keep_ranked
from lamina.merge_methods.whole_tensors import Tensors

__all__ = [
    # What somebody's own method may use, and will find under the same name in later versions.
    "merge_method", "Tile", "Block", "Tensors", "Coefficients", "UndefinedMerge",
    "Meaning", "Weight", "Scale", "Normalize", "Density", "Gamma", "Epsilon", "Lambda",
    "Gram", "GramMatrix", "Sparse", "keep_largest", "keep_middle", "keep_drawn", "keep_ranked", "draw_keys",
    "Measure", "Facts", "total", "dot",
    # What Lamina itself goes by.
    "METHODS",
    "MergeMethod",
    "OwnMethod",
    "declared",
    "make_known",
    "method_called",
    "linear",
    "slerp",
    "nuslerp",
    "multislerp",
    "karcher",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "dare_ties",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
    "della_linear",
    "sce",
    "ram",
    "ramplus_tl",
    "model_stock",
    "nearswap",
    "arcee_fusion",
    "passthrough",
]  # fmt: skip
