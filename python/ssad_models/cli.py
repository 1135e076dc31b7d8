# SPDX-License-Identifier: Apache-2.0
"""The command line `ssadk`."""

from __future__ import annotations

import importlib.util
import sys

_NEEDS = ("PIL", "jinja2", "lightning", "rich", "skimage", "torchvision", "typer", "yaml")


def main() -> None:
    """Entry point. Without the optional dependencies it says how to get them."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"ssadk needs packages that are not installed ({', '.join(missing)}): "
            'pip install "ssad-kernels[models]"'
        )
    from ssad_models.commands import app

    app()


if __name__ == "__main__":
    main()
