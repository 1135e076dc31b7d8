# SPDX-License-Identifier: Apache-2.0
"""CutPaste: learn to tell normal images from cut-and-pasted ones, then score by density.

Li, Sohn, Yoon and Pfister, CVPR 2021, arXiv 2104.04015.
"""
