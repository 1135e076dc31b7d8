# SPDX-License-Identifier: Apache-2.0
"""The demonstration: four detectors on the built-in data set, in minutes on a CPU."""

from ssad_models.demo.run import Settings, run

__all__ = ["Settings", "run"]
