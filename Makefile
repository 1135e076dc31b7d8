# SPDX-License-Identifier: Apache-2.0
# Everything a developer types. Each lane works from a clean clone: it makes the environments it
# needs (.venv: torch with torchvision; .venv-cpu: CPU-only torch alone) and builds the wheel.

PYTHON ?= python3
VENV := .venv
CPU_VENV := .venv-cpu
CPU_TORCH := 2.13.0
BIN := $(VENV)/bin
STAMPS := .stamps
# That the wheel has CUDA kernels for, as CMAKE_CUDA_ARCHITECTURES names them; all if empty.
GPUS ?=
ONE_THREAD := OMP_NUM_THREADS=1 SSAD_REQUIRE_NATIVE=1
PYTEST := $(ONE_THREAD) $(BIN)/pytest
# Whole files to processes of one thread each: two cores halve the time.
PARALLEL := -p no:benchmark --numprocesses auto --maxprocesses 4 --dist loadfile
SOURCES := $(shell find csrc ssad_kernels python -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.py' -o -name '*.pyi' -o -name '*.yaml' -o -path '*/templates/*' | sort)

.PHONY: demo demo-full test lint bench gpu gpu-resources stress wheel clean \
        lane-lint lane-suite lane-reference lane-triton lane-cpu-torch lane-sanitizers lane-qemu \
        lane-cuda-emulated lane-cuda-ops lane-nvcc lane-demo

demo: $(STAMPS)/installed
	$(BIN)/ssadk demo --out out/demo

# With NSA and CutPaste on patches: about an hour of processor time.
demo-full: $(STAMPS)/installed
	$(BIN)/ssadk demo --full --out out/demo-full

test:
	$(PYTHON) scripts/lanes.py

lint: lane-lint

wheel: $(STAMPS)/wheel

# The environment; then the wheel, built in isolation; then the wheel installed into it.
$(STAMPS)/environment: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch torchvision
	$(BIN)/pip install --quiet --constraint constraints.txt $$($(BIN)/python scripts/extras.py models)
	mkdir -p $(STAMPS) && touch $@

# What only developers need; the demo does without.
$(STAMPS)/tools: $(STAMPS)/environment
	$(BIN)/pip install --quiet --constraint constraints.txt \
	  $$($(BIN)/python scripts/extras.py bench onnx test lint)
	touch $@

$(STAMPS)/wheel: $(SOURCES) CMakeLists.txt pyproject.toml
	rm -rf dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist . \
	  $(if $(GPUS),-C "cmake.define.SSAD_CUDA_ARCHITECTURES=$(GPUS)")
	$(PYTHON) scripts/check_wheel.py dist/*.whl
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/installed: $(STAMPS)/environment $(STAMPS)/wheel
	$(BIN)/pip install --quiet --force-reinstall --no-deps dist/*.whl
	touch $@

$(STAMPS)/cpu-torch: $(STAMPS)/wheel
	$(PYTHON) -m venv $(CPU_VENV)
	$(CPU_VENV)/bin/pip install --quiet torch==$(CPU_TORCH) numpy pytest pytest-xdist hypothesis
	$(CPU_VENV)/bin/pip install --quiet --force-reinstall --no-deps dist/*.whl
	touch $@

lane-lint: $(STAMPS)/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.h' 'tests/*.cpp' 'tests/*.h')

lane-suite: $(STAMPS)/installed $(STAMPS)/tools
	$(PYTEST) $(PARALLEL) tests

# Left out for the minutes that they would take: gradients, which are made of the same ops, and the
# draws of NSA, of which the suite compares kernel and reference bit by bit.
lane-reference: $(STAMPS)/installed $(STAMPS)/tools
	SSAD_TEST_BACKEND=reference $(PYTEST) $(PARALLEL) -k "not test_gradients" \
	  tests/test_alpha_blending*.py tests/test_blending.py tests/test_blending_opencv.py tests/test_cutpaste*.py tests/test_labels*.py \
	  tests/test_poisson*.py tests/test_random.py tests/test_transforms.py tests/test_transforms_baselines.py \
	  tests/test_components.py tests/test_ranking.py tests/test_similarity*.py tests/test_upsample.py tests/test_perlin.py tests/test_transforms_perlin.py

lane-triton: $(STAMPS)/installed $(STAMPS)/tools
	TRITON_INTERPRET=1 $(PYTEST) $(PARALLEL) tests/triton

# The same wheel file under another torch, without torchvision and triton. Laws and oracles are
# compared with the same kernels in the suite; no torch is part of them.
lane-cpu-torch: $(STAMPS)/cpu-torch
	$(ONE_THREAD) $(CPU_VENV)/bin/pytest $(PARALLEL) tests --ignore=tests/models \
	  --ignore-glob='*_law.py' --ignore-glob='*_oracles.py'

lane-sanitizers:
	$(PYTHON) scripts/native_checks.py sanitizers

lane-qemu:
	$(PYTHON) scripts/native_checks.py qemu

lane-cuda-emulated:
	$(PYTHON) scripts/native_checks.py cuda-emulated

# In the folder of the lane before, whose objects serve again.
lane-cuda-ops: $(STAMPS)/installed $(STAMPS)/tools
	$(PYTHON) scripts/native_checks.py cuda-ops

lane-nvcc: $(STAMPS)/installed
	$(PYTHON) scripts/native_checks.py nvcc

lane-demo: $(STAMPS)/installed
	$(BIN)/ssadk demo --quick --full --out build/demo --seeds 0,1

# One thread for everyone; no ratio is reported when the op tests are red.
bench: $(STAMPS)/installed $(STAMPS)/tools
	mkdir -p build/bench
	-$(PYTEST) -q $(PARALLEL) tests --ignore=tests/models --junitxml=build/bench/tests.xml
	$(PYTEST) -q benchmarks/bench_*.py --benchmark-json=build/bench/results.json
	$(BIN)/python benchmarks/report.py build/bench/results.json --tests build/bench/tests.xml

# Tests, compute-sanitizer and benchmarks on this machine's GPU; ends at once where there is none.
gpu: $(STAMPS)/installed $(STAMPS)/tools
	$(BIN)/python scripts/gpu_day.py

# What the tests and the lane nvcc compare with.
gpu-resources: $(STAMPS)/installed $(STAMPS)/tools
	$(BIN)/python scripts/gpu_resources.py

stress: $(STAMPS)/installed $(STAMPS)/tools
	SSAD_HYPOTHESIS=stress $(PYTEST) tests

clean:
	rm -rf build dist $(STAMPS) $(VENV) $(CPU_VENV)
