# SPDX-License-Identifier: Apache-2.0
"""Train with two processes: `python ddp_child.py DATA OUT RECIPE [SETTING ...]`.

Lightning starts this file again for the second one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ssad_models.data.sources import find
from ssad_models.recipe import load_recipe
from ssad_models.training import train

if __name__ == "__main__":
    data, out, name, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    recipe = load_recipe(name, settings)
    train(recipe, find(data)[0], Path(out), device="cpu", devices=2, tensorboard=False)
