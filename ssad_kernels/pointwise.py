# SPDX-License-Identifier: Apache-2.0
"""Layers and functions that work on each value of a map by itself."""

from __future__ import annotations

from torch import nn

MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold,
)  # fmt: skip
FUNCTIONS = frozenset((
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid",
    "logsigmoid", "tanh", "softplus", "softsign", "hardswish", "hardsigmoid", "hardtanh", "abs",
    "exp", "log", "sqrt", "square", "neg", "pow", "clamp", "clamp_min", "clamp_max", "clone",
))  # fmt: skip
ARITHMETIC = frozenset((
    "add", "sub", "mul", "div", "truediv", "iadd", "isub", "imul", "itruediv",
))  # fmt: skip
SAME_MEMORY = frozenset(("float", "double", "half", "bfloat16", "to", "detach"))

DROPOUT_MODULES: tuple[type[nn.Module], ...] = (
    nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
DROPOUTS = frozenset(("dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout"))
