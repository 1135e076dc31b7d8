# SPDX-License-Identifier: Apache-2.0
"""Detectors built on `ssad_kernels`: thin models, trainers, data and the command line."""
