# SPDX-License-Identifier: Apache-2.0
"""Methods beside each other, on the same images and with the same budget."""

from ssad_models.compare.job import Budget
from ssad_models.compare.run import Comparison, compare, recipes_of

__all__ = ["Budget", "Comparison", "compare", "recipes_of"]
