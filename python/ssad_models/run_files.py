# SPDX-License-Identifier: Apache-2.0
"""Names of the files in the folder of a run. Imports nothing, so that prediction can do so too."""

from __future__ import annotations

MODEL = "model.pt"
CHECKPOINT = "last.ckpt"
RUN = "run.json"
CURVES = "metrics.csv"
TENSORBOARD = "tensorboard"
