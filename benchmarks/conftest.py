# SPDX-License-Identifier: Apache-2.0
"""Makes the modules of this folder importable and gives every library one thread."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from harness import optional

torch.set_num_threads(1)
if cv2 := optional("cv2"):
    cv2.setNumThreads(1)
if threadpoolctl := optional("threadpoolctl"):  # comes with scikit-learn; limits NumPy's BLAS
    threadpoolctl.threadpool_limits(1)
