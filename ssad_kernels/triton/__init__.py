# SPDX-License-Identifier: Apache-2.0
"""Triton kernels with plain launchers; imported when a kernel first runs, never before."""
