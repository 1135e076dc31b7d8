# SPDX-License-Identifier: Apache-2.0
"""NSA, FPI and PII: learn to see where a piece of another normal image was blended in.

Schlüter, Tan, Hou and Kainz, "Natural synthetic anomalies", ECCV 2022, arXiv 2109.15222; Tan, Hou,
Batten, Qiu and Kainz, "Detecting outliers with foreign patch interpolation", MELBA 2022, arXiv
2011.04197; Tan, Hou, Day, Simpson, Rueckert and Kainz, "Detecting outliers with Poisson image
interpolation", MICCAI 2021, arXiv 2107.02622.
"""
