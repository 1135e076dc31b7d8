# SPDX-License-Identifier: Apache-2.0
"""The architecture as a test: who may import whom, and how long a file may be."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "csrc").is_dir():
    pytest.skip("the source tree is not here", allow_module_level=True)

PACKAGE = sorted((ROOT / "ssad_kernels").rglob("*.py"))
MODELS = sorted((ROOT / "python" / "ssad_models").rglob("*.py"))
CSRC = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu"))
ALL = [
    path
    for folder in ("ssad_kernels", "python", "csrc", "tests", "benchmarks", "scripts")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".pyi", ".h", ".cpp", ".cu", ".cuh")
]

# From the user down. A layer imports from those below it, and from its own.
LAYERS = ("models", "transforms", "family", "implementation", "base")
# What every layer may use: it knows no op.
BASE = {"_arrays", "_backend", "_errors", "_native", "_op", "_status"}
# Compiled once per instruction set, as CMake has it.
PER_LEVEL = re.findall(
    r"csrc/cpu/\w+\.cpp",
    (ROOT / "CMakeLists.txt").read_text().split("OBJECT", 1)[1].split(")", 1)[0],
)


def module_of(path: Path) -> str:
    base = ROOT / "python" if "python" in path.relative_to(ROOT).parts else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    first, *rest = module.split(".")
    if first == "ssad_models":
        return "models"
    if not rest:
        return "family"  # `ssad_kernels` itself gathers the families
    if rest[0] == "transforms":
        return "transforms"
    if rest[0] in ("reference", "triton"):
        return "implementation"
    return "base" if rest[0] in BASE else "family"


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            # `from ssad_kernels import reference` imports a module, not a name.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in names if name in MODULES}
            found |= known or {node.module}
    return found


MODULES = {module_of(path) for path in PACKAGE + MODELS} | {"ssad_kernels._native"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PACKAGE + MODELS, ids=relative)
def test_layers_import_downwards(path):
    own = LAYERS.index(layer_of(module_of(path)))
    for imported in imports_of(path):
        if imported.split(".")[0] in ("ssad_kernels", "ssad_models"):
            other = LAYERS.index(layer_of(imported))
            assert other >= own, f"{LAYERS[own]} imports {imported} of {LAYERS[other]}"


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_the_kernel_library_needs_torch_and_numpy_alone(path):
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "ssad_kernels"}
    if "triton" in path.parts:
        allowed.add("triton")
    assert {name.split(".")[0] for name in imports_of(path)} <= allowed


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_randomness_lives_in_transforms_and_random(path):
    """An op that draws for itself could not be replayed."""
    module = module_of(path)
    if layer_of(module) == "transforms" or module.startswith(
        ("ssad_kernels.random", "ssad_kernels.data", "ssad_kernels.testing")
    ):
        return
    text = re.sub(r"(>>>|\.\.\.) .*", "", path.read_text())  # an example may draw
    assert not re.search(r"\btorch\.(rand|randn|randint|randperm|Generator|bernoulli)\b", text)
    assert not re.search(r"^import random\b|\bnp\.random\b", text, re.MULTILINE)


def test_methods_of_the_models_do_not_import_each_other():
    folders = ROOT / "python" / "ssad_models"
    methods = {path.parent.name for path in folders.glob("*/module.py")}
    for path in MODELS:
        method = path.parent.name
        if method in methods:
            others = {f"ssad_models.{name}" for name in methods - {method}}
            assert not {i for i in imports_of(path) if any(i.startswith(o) for o in others)}


def includes_of(path: Path) -> set[str]:
    return set(re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", CSRC, ids=relative)
def test_only_the_bindings_know_python(path):
    foreign = ("pybind11", "Python.h", "torch", "ATen", "c10", "numpy")
    found = {name for name in includes_of(path) if name.startswith(foreign)}
    if path.stem == "bindings":
        assert all(name.startswith("pybind11") for name in found)
    else:
        assert not found


@pytest.mark.parametrize("path", CSRC, ids=relative)
def test_code_of_an_instruction_set_has_no_shared_inline_functions(path):
    """A std container's code may be kept from the AVX-512 object, for a processor without it."""
    if path.suffix != ".h" and relative(path) not in PER_LEVEL:
        return
    if "emulation" in path.parts or path.stem == "bindings":  # for tests alone, see below; of none
        return
    standard = {name for name in includes_of(path) if "/" not in name and "." not in name}
    of_types = {"type_traits", "utility"}  # nothing of these runs
    assert standard <= {"cmath", "cstddef", "cstdint", "cstring"} | of_types


@pytest.mark.parametrize("path", CSRC, ids=relative)
def test_the_emulation_is_for_tests_alone(path):
    if "emulation" not in path.parts and relative(path) != "csrc/cuda/launch.h":
        assert not {name for name in includes_of(path) if name.startswith("emulation")}


def test_some_files_are_compiled_per_instruction_set():
    assert "csrc/cpu/cutpaste.cpp" in PER_LEVEL
    assert all((ROOT / name).is_file() for name in PER_LEVEL)


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_files_are_short_and_licensed(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    first = lines[1] if lines and lines[0].startswith("#!") else lines[0]
    assert first.lstrip("/# ") == "SPDX-License-Identifier: Apache-2.0"


def test_the_stub_of_the_extension_lists_what_it_has():
    native = pytest.importorskip("ssad_kernels._native")
    tree = ast.parse((ROOT / "ssad_kernels" / "_native.pyi").read_text())
    stub = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    stub |= {
        node.target.id
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert stub == {name for name in dir(native) if not name.startswith("_")}
