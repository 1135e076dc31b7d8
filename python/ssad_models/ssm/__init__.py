# SPDX-License-Identifier: Apache-2.0
"""SSM: restore what is hidden from what is seen, and hide less and less of what looks normal.

Huang, Xu, Wang, Wang and Zhang, "Self-Supervised Masking for Unsupervised Anomaly Detection and
Localization", IEEE Transactions on Multimedia 2022, arXiv 2205.06568. "Released" is the authors'
code, github.com/MediaBrain-SJTU/SSM.
"""
