# `make demo` needs only Python 3.11 to 3.14 and the package registries, `make test` a compiler, too; all goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# An open range of torch would bring gigabytes of CUDA: this version is a CPU build.
TORCH ?= torch==2.13.0
# llama-cpp-python comes as source: the wheel takes about nine minutes on two cores, and is built once for all clones.
# Its source stays beside it: tests compare our GGUF files with what the converter in it writes.
LLAMA ?= llama-cpp-python==0.3.36
WHEELS ?= $(HOME)/.cache/medge/wheels

.PHONY: demo station test fuzz test-transformers transformers-4 test-litert litert test-arm test-swift kit-machines android screens wheels lint docs kill-campaign kit-kill-campaign full-size install clean

install: $(VENV)/.ready

# pip would compile every module, of which a third is ever imported. Python compiles these when they are, and keeps them for all
# the processes of tests, as it does with pytest's and medge's own, whatever the environment says.
INSTALL := $(BIN)/pip install -q --no-compile
unexport PYTHONDONTWRITEBYTECODE

# First what the demo needs and no more; a second step adds language models, Ray, tests and linters.
$(VENV)/.demo-ready: pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info[:2] >= (3, 11) else "medge needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade 'pip>=25.1'
	$(INSTALL) '$(TORCH)'
	$(INSTALL) -e '.[export]' --group demo
	touch $@

$(VENV)/.ready: $(VENV)/.demo-ready
	bash .ci/llama-wheel '$(BIN)/pip' '$(LLAMA)' '$(WHEELS)'
	$(INSTALL) --find-links '$(WHEELS)' -e '.[export,llm,parquet,hdf5,probe,reports,standin,ray,station,kit]' --group test --group lint
	touch $@

# An environment beside the first, which borrows everything that is not installed into it.
define borrow
	$(BIN)/python -m venv --without-pip --clear $(1)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
endef

# With transformers 4.57 and optimum-onnx, which needs it.
OLD := $(VENV)/transformers-4
transformers-4: $(OLD)/.ready

$(OLD)/.ready: $(VENV)/.ready
	$(call borrow,$(OLD))
	$(BIN)/pip --python $(OLD)/bin/python install -q -e '.[bench]' 'transformers<5'
	touch $@

# With litert-torch, which needs an older typing-extensions than others in the first take: pip says so, and it does no harm.
LITERT := $(VENV)/litert
litert: $(LITERT)/.ready

$(LITERT)/.ready: $(VENV)/.ready
	$(call borrow,$(LITERT))
	$(BIN)/pip --python $(LITERT)/bin/python install -q --no-compile -e '.[litert-export]'
	touch $@

# The other transformers: each family is exported, measured and loaded.
test-transformers: transformers-4
	MEDGE_WHEELS='$(WHEELS)' $(OLD)/bin/python -m pytest tests/export/test_transformers.py $(PYTEST_ARGS)

# LiteRT files made, measured, loaded and replayed.
test-litert: litert
	MEDGE_WHEELS='$(WHEELS)' $(LITERT)/bin/python -m pytest tests/export/to_litert $(PYTEST_ARGS)

# The main job: export the stand-in at int8, gate it, classify real images.
demo: $(VENV)/.demo-ready
	$(BIN)/medge demo --out demo-bundle --force

# The clinic's station on this machine, with the stand-ins and a few public studies; Ctrl-C ends it. With a language model where
# `make install` has been run.
STATION ?= station-demo
PORT ?= 8642
station: $(VENV)/.demo-ready
	$(INSTALL) -e '.[export,station]'
	$(BIN)/python -m medge.export.commands.public_station '$(STATION)'
	$(BIN)/medge serve --bundles '$(STATION)/bundles' --store '$(STATION)/store' --port '$(PORT)'

# Every test that this machine can run without an emulator, in JOBS processes that share its cores; a process takes up to 8 GB of
# memory. More processes than cores gain nothing: Ray's own do not start in time on a shared core. Threads that wait sleep, since the
# other process has work for their core. When a process crashes the run ends: with one begun anew, pytest-xdist waits for ever.
JOBS ?= 2
test: install
	OMP_WAIT_POLICY=passive MEDGE_WHEELS='$(WHEELS)' $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart=0 $(PYTEST_ARGS)

# Files changed at random, each used in a process with limits; goes on where the last run stopped, until medge changes. What fails
# lies in .fuzz/failures. FUZZ_ARGS=--record writes the counts into benchmarks/results, for docs/make_tables.py.
MINUTES ?= 2
fuzz: install
	PYTHONPATH=tests $(BIN)/python -m fuzz --minutes '$(MINUTES)' $(FUZZ_ARGS)

# On an emulated aarch64: the encoder runtime with every recipe, and the Android demo's core with llama.cpp. With
# ARM_RESULTS=benchmarks/results/arm.json its figures go into docs/results/arm.md, by docs/make_tables.py.
ARM ?= $(HOME)/.cache/medge/arm
ARM_RESULTS ?=
test-arm: install
	bash tests/arm/prepare '$(ARM)' $(BIN)/python
	MEDGE_ARM='$(ARM)' MEDGE_ARM_RESULTS='$(ARM_RESULTS)' MEDGE_WHEELS='$(WHEELS)' $(BIN)/pytest -m emulated -n $(JOBS) \
		--dist loadfile tests/arm tests/android $(PYTEST_ARGS)

# The stick on machines made for it: Debian 12 and 13, minimal, one of busybox alone, and an emulated aarch64, each without a network.
# As root; about fifteen minutes.
ROOTS ?= $(HOME)/.cache/medge/kit/roots
kit-machines: install
	bash tests/kit_machines/prepare '$(ROOTS)'
	MEDGE_KIT_ROOTS='$(ROOTS)' MEDGE_WHEELS='$(WHEELS)' $(BIN)/pytest -m kit_machines tests/kit_machines $(PYTEST_ARGS)

# MedgeKit, the Swift package beside CoreML packages, compiled and tested on Linux against stand-ins of Apple's frameworks.
SWIFT ?= $(HOME)/.cache/medge/swift
test-swift: install
	bash tests/swift/prepare '$(SWIFT)'
	MEDGE_SWIFT='$(SWIFT)' $(BIN)/pytest tests/swift $(PYTEST_ARGS)

# The Android app without Gradle: one APK for each ABI. ABI=x86_64 for an emulator.
ANDROID ?= $(HOME)/.cache/medge/android
ABI ?= arm64-v8a
android: install
	bash android_demo/ci/prepare '$(ANDROID)' $(BIN)/python
	MEDGE_ANDROID='$(ANDROID)' $(BIN)/python android_demo/ci/build.py --abi '$(ABI)' --out 'medge-$(ABI).apk'

# llama-cpp-python for people without a compiler: a wheel for each target with kernels for all its CPUs, medge's own, and a page of
# links that a release serves. The first time takes about half an hour on two cores; built wheels are kept in ~/.cache/medge/kit.
WHEELHOUSE ?= dist/wheels
wheels: install
	$(BIN)/python -m medge.runtime.kit.natives.release '$(WHEELHOUSE)'

# The app's screens drawn by layoutlib: every state in every size, theme, language and size of text, judged. Some minutes.
# SCREENS="bless" keeps what is drawn now as what the tests compare with; SCREENS="sheet" makes the documentation's picture.
SCREENS ?= check
screens: install
	bash android_demo/ci/prepare '$(ANDROID)' $(BIN)/python
	bash android_demo/ci/screens/prepare '$(ANDROID)'
	MEDGE_ANDROID='$(ANDROID)' $(BIN)/python android_demo/ci/screens/screens.py $(SCREENS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r runtime quant export src/medge
	$(BIN)/python docs/make_supply.py --check

# Writing commands killed at random moments; each moment is a line of benchmarks/results/kills.jsonl, and a campaign that was
# stopped goes on. 200 take about two hours on two cores.
MOMENTS ?= 200
KIT_MOMENTS ?= 100
kill-campaign: install
	$(BIN)/python tests/faults/campaign.py --moments '$(MOMENTS)'

# An install, an update and the way back, killed before a random one of their operations; about five minutes on two cores.
kit-kill-campaign: install
	$(BIN)/python tests/faults/kit_campaign.py --moments '$(KIT_MOMENTS)'

$(VENV)/.docs-ready: $(VENV)/.demo-ready
	$(INSTALL) --group docs
	touch $@

# The documentation site, into site/; a broken link or a page outside the navigation fails.
docs: $(VENV)/.docs-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The 878 M-parameter stand-in through every recipe; about an hour on two cores and 12 GB of disk.
full-size: install
	$(BIN)/python benchmarks/full_size.py

clean:
	rm -rf $(VENV) demo-bundle station-demo site
