# SPDX-License-Identifier: Apache-2.0
"""The commands of `ssadk`. Imported only once the optional dependencies are known to be there.

One module per command. They import what they need when they run, so that `ssadk --help` does not
wait for torch.
"""

from __future__ import annotations

import typer

from ssad_models.commands.augment import augment
from ssad_models.commands.bench import bench
from ssad_models.commands.calibrate import calibrate
from ssad_models.commands.common import one_line_errors
from ssad_models.commands.compare import compare
from ssad_models.commands.demo import demo
from ssad_models.commands.eval import evaluate
from ssad_models.commands.export import export
from ssad_models.commands.predict import predict
from ssad_models.commands.reproduce import reproduce
from ssad_models.commands.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def ssadk() -> None:
    """Self-supervised visual anomaly detection: learn from normal images, find what is not.

    First steps, with a small data set that comes along:

    ssadk train builtin --category brick

    ssadk eval builtin runs --category brick

    ssadk predict PHOTOS --model runs

    ssadk export runs
    """


for _command, _name in (
    (demo, "demo"),
    (train, "train"),
    (evaluate, "eval"),
    (predict, "predict"),
    (export, "export"),
    (augment, "augment"),
    (calibrate, "calibrate"),
    (reproduce, "reproduce"),
    (compare, "compare"),
    (bench, "bench"),
):
    app.command(_name)(one_line_errors(_name, _command))
