# SPDX-License-Identifier: Apache-2.0
"""Data sets. So far the one that needs no download: `ssad_models.data.builtin`."""
