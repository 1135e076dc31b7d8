# SPDX-License-Identifier: Apache-2.0
"""Data sets: finding and decoding them, the built-in one, and training batches."""
