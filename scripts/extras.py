# SPDX-License-Identifier: Apache-2.0
"""Print the requirements of the package and of the extras named on the command line."""

import sys
from pathlib import Path

import tomllib

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
names = [*project["dependencies"]]
for extra in sys.argv[1:]:
    names += project["optional-dependencies"][extra]
print(*names)
