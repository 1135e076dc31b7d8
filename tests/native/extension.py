# SPDX-License-Identifier: Apache-2.0
"""Run the C++ extension without torch or NumPy and print digests of what it computes."""

import array
import hashlib
import importlib.util
import sys

spec = importlib.util.spec_from_file_location("_native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)

N, C, H, W = 8, 3, 48, 56
# p, scar, area, aspect, length, width, angle, jitter, other source
LAW = (0.9, 0, 0.02, 0.15, 0.3, 3.3, 10, 25, 2, 16, -45.0, 45.0, 0.4, 0.4, 0.4, 0.4, 0, 0, 0, 1)


def address(values):
    """Where an array lies."""
    return values.buffer_info()[0]


keys = array.array("q", [value for i in range(N) for value in (7, 1, i)])
numbers = array.array("q", bytes(8 * N * 10))
native.philox(address(keys), N, 1, 10, address(numbers), 1)
print(native.cpu_level, hashlib.sha256(numbers).hexdigest())

pixels = [(i * 2654435761 >> 7) % 256 for i in range(N * C * H * W)]
for kind, dtype in (("B", 0), ("f", 3), ("d", 4)):
    scale = 1 if kind == "B" else 255.0
    for strides in ((C * H * W, H * W, W, 1), (C * H * W, 1, W * C, C)):
        images = array.array(kind, [value if kind == "B" else value / scale for value in pixels])
        mask, status = array.array("B", bytes(N * H * W)), array.array("b", bytes(N))
        native.cut_paste_keyed(
            address(images), address(images), dtype, (N, C, H, W), strides, address(keys), (1, 65),
            LAW, address(mask), address(status), 2,
        )  # fmt: skip
        digest = hashlib.sha256(images.tobytes() + mask.tobytes() + status.tobytes())
        print(kind, strides[3], sum(mask), list(status), digest.hexdigest())
