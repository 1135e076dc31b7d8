# SPDX-License-Identifier: Apache-2.0
"""Makes the modules of this folder importable and gives every library one thread."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
cv2.setNumThreads(1)
