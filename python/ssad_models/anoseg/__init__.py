# SPDX-License-Identifier: Apache-2.0
"""AnoSeg: learn the map of a pasted piece, an adversary judging image and map together.

Song, Kong, Park, Kim and Kang, "AnoSeg: Anomaly segmentation network using self-supervised
learning", arXiv 2110.03396.
"""
