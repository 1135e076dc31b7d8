# SPDX-License-Identifier: Apache-2.0
"""Makes `fake_data` importable by the tests beside it; lets them say how wide the screen is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ.pop("COLUMNS", None)  # a console made while this is set keeps to it
