# make demo      build the demo voice in INT8, verify it and let it say a sentence, or TEXT="what you like"
# make quick     lint, types, and the tests that neither build nor emulate anything: about a minute
# make test      lint, types and the tests
# make thorough  the same, with those tests that CI has no time for
# make fuzz      fuzz every reader, for long
# make release   VOICES="a b" TARGETS="x y": every voice for every target, with sums, an index and an overview
# make reproducible  build the demo voice twice, in different surroundings, and compare the bytes
# make bench     measure a full-size voice against its FP32 source
# make emulator  fetch the emulated aarch64 machine that some of them use
# make every-target  build VOICE for one of each kind of target, and tell what each gate measured
# make sensitivity  damage SOURCES in every known way, and tell what each gate notices
# make crosscheck-onnx2tf  convert the vocoder with onnx2tf, too, and compare (3 GB of packages)
# make rknn-env  Rockchip's toolkit in an environment of its own, .rknn, for targets rk3588-npu and the like (x86-64 Linux,
#                RKNN_PYTHON=python3.11; 0.2 GB to download); you accept Rockchip's licence. make rknn-test tests against it
# make native    build the C library and gsvsay into build/native (needs cmake, ninja, g++, libssl-dev, and make native-tools
#                or Debian 13's libonnxruntime-dev and nlohmann-json3-dev); make native-test tests them,
#                make native-test-sanitized with ASan and UBSan, make native-fuzz NATIVE_FUZZ=SECONDS fuzzes each of its readers (needs clang)
# make native-tools  get headers and library of ONNX Runtime for it, without root (Debian and Ubuntu)
# make docs      build the pages into build/site
# make demo-voice  train the demo voice's GPT on (hours); VOICE=small: the small one (needs festival and festvox-us-slt-hts)
# Under Windows: make PYTHON=python, from Git's bash.
# They make the virtual environment they need in .venv; nothing outside this folder is touched but gsvexport's cache.

PYTHON ?= python3
TORCH ?= torch==2.13.0
SENTENCE ?= 11
TEXT ?=
# INT8 for whatever kind of processor this is; `gsvexport targets` lists the others.
TARGET ?= $(if $(filter aarch64 arm64,$(shell uname -m)),generic-arm64,x86-64-int8)
VOICES ?=
TARGETS ?= $(TARGET)
FLAGS ?=
JOBS ?= 2
DIST ?= dist
THREADS ?= 2
BENCH_TARGET ?= x86-64-vnni
DEVICE ?= cpu
VOICE_WORK ?= .demo-voice

# Reaches the shell as it was given: quotes and dollars in it stay what they are.
export GSVEXPORT_TEXT = $(value TEXT)
# A variable of make's command line goes into the environment of recipes by itself, expanded: what it holds would be run.
unexport TEXT

BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# What is never imported need not be compiled: three quarters of the time that torch takes to install.
PIP := pip install --quiet --no-compile
ARTIFACT := $(DIST)/demo-$(TARGET).gsv
WAV := $(DIST)/demo.wav

.PHONY: demo quick test thorough check fuzz golden release reproducible bench emulator demo-voice every-target sensitivity rknn-env rknn-test docs native native-tools native-test native-test-sanitized native-fuzz clean

# What failed is shown in full; what passed is in the page.
demo: .venv/.compile
	$(BIN)/gsvexport --target $(TARGET) -o $(DIST) --force
	$(BIN)/gsvexport source -o $(DIST)/demo-source --force
	@$(BIN)/gsvexport verify $(ARTIFACT) --source $(DIST)/demo-source --json > $(DIST)/demo-verified.json \
		|| { code=$$?; $(BIN)/gsvexport verify -q $(ARTIFACT) --source $(DIST)/demo-source; exit $$code; }
	@if [ -n "$$GSVEXPORT_TEXT" ]; then said=$$GSVEXPORT_TEXT; \
		$(BIN)/gsvexport say $(ARTIFACT) -o $(WAV) --force -- "$$GSVEXPORT_TEXT"; \
	else \
		said=$$($(BIN)/python -c 'from gsvexport.demo import sentences; print(sentences()[$(SENTENCE)].text)') && \
		$(BIN)/gsvexport say $(ARTIFACT) -o $(WAV) --force \
			--phones "$$($(BIN)/python -c 'from gsvexport.demo import sentences; print(*sentences()[$(SENTENCE)].phones)')"; \
	fi && \
	$(BIN)/gsvexport inspect $(ARTIFACT) --html $(DIST)/demo.html --source $(DIST)/demo-source --force && \
	$(BIN)/python -m gsvexport.cli.demo $(ARTIFACT) $(DIST)/demo-verified.json $(WAV) $(DIST)/demo.html "$$said"

# Which tests these are is computed: tests/quick.py.
quick: check
	$(BIN)/python -m pytest --quick --numprocesses $(JOBS) --dist loadfile

test: check
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

# The same, with what CI has no time for.
thorough: check
	$(BIN)/python -m pytest --thorough --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

# Every reader fuzzed for minutes instead of seconds, and all strange artifacts; prints how many inputs there were.
FUZZ ?= 20000
fuzz: .venv/.dev
	GSVEXPORT_FUZZ=$(FUZZ) GSVEXPORT_FUZZ_STRIDE=3 $(BIN)/python -m pytest -q -s --timeout 36000 --hypothesis-show-statistics \
		tests/fuzz tests/voice/test_fuzz.py tests/hostile/test_strange.py

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --jobs $(JOBS) types-linux types-win32 types-darwin

types-%: .venv/.dev
	$(BIN)/mypy --platform $* --cache-dir .mypy_cache/$* $(if $(filter-out linux,$*),--config-file tests/types-elsewhere.ini)

golden: .venv/.dev
	$(BIN)/python -m pytest tests/compiler/test_plan.py --golden

# What has not changed since the last time is not made again.
release: .venv/.compile
	$(BIN)/gsvexport release $(VOICES) $(addprefix --target ,$(TARGETS)) -o $(DIST)/release $(FLAGS)

reproducible: .venv/.compile
	$(BIN)/python -m gsvexport.compiler.reproduce --target $(TARGET) $(VOICE)

# A synthetic v2 voice of upstream's size: compiled without any cache, then artifact and FP32 source in turn.
bench: .venv/.compile
	$(BIN)/python -m gsvexport.bench --target $(BENCH_TARGET) --threads $(THREADS) -o $(DIST)/bench

# An emulated aarch64 machine, for `gsvexport verify --emulate` and the tests that use it. Debian and Ubuntu only.
emulator: .venv/.compile
	$(BIN)/python -m gsvexport.emulate

# Our TFLite emitter beside onnx2tf, which wants an environment of its own with TensorFlow: 3 GB. SOURCE=DIR takes an
# exported source instead of the demo voice.
crosscheck-onnx2tf: .venv/.compile .venv-onnx2tf/.done
	$(BIN)/python -m gsvexport.crosscheck --python .venv-onnx2tf/bin/python $(if $(SOURCE),--source $(SOURCE))

.venv-onnx2tf/.done:
	$(PYTHON) -m venv .venv-onnx2tf
	.venv-onnx2tf/bin/python -m $(PIP) onnx2tf==1.29.24 tensorflow==2.19.0 tf-keras==2.19.0
	@touch $@

# Rockchip's toolkit, whose pins exclude ours. What it asks for and does not use here is left out: torch, which would be
# 5 GB with CUDA (docs/rknn.md). Python 3.11 or another that it has wheels for, 3.6 to 3.12.
RKNN_PYTHON ?= python3.11
RKNN := numpy==1.26.4 onnx==1.18.0 protobuf==4.25.4 onnxruntime==1.32.0 scipy==1.13.1 opencv-python-headless==4.10.0.84 \
	fast-histogram==0.14 psutil ruamel.yaml tqdm typing_extensions flatbuffers packaging
rknn-env: .rknn/.done

.rknn/.done:
	$(RKNN_PYTHON) -m venv .rknn
	.rknn/bin/python -m $(PIP) --no-deps 'setuptools<80' $(RKNN)
	.rknn/bin/python -m $(PIP) --no-deps rknn-toolkit2==2.5.0
	@touch $@

rknn-test: .venv/.dev .rknn/.done
	GSVEXPORT_RKNN_TESTS=1 $(BIN)/python -m pytest -rs tests/backends/rknn

# One of each distinct build behind all targets and tiers, of VOICE=DIR or the demo voice: what each gate measured.
every-target: .venv/.dev
	$(BIN)/python tests/distinct.py $(VOICE) -o $(DIST)/distinct --build

# What each gate of sound notices: the sources that SOURCES names (gsvexport source VOICE -o DIR).
sensitivity: .venv/.compile
	$(BIN)/python -m gsvexport.verify.sensitivity $(SOURCES)

# What is built with comes from the system, or from `make native-tools`; nothing is fetched while building.
NATIVE_TOOLS := build/native-tools
native:
	cd native && cmake --preset native $(if $(wildcard $(NATIVE_TOOLS)),-DONNXRUNTIME_ROOT=$(CURDIR)/$(NATIVE_TOOLS)/onnxruntime)
	cmake --build build/native

native-tools: .venv/.compile
	native/tools.sh $(NATIVE_TOOLS) $(CURDIR)/$(BIN)/python

# The same tests with AddressSanitizer (leaks of gsvsay, too) and UndefinedBehaviorSanitizer.
native-test-sanitized: .venv/.dev
	GSV_NATIVE_FLAGS="-O1 -g1 -D_GLIBCXX_ASSERTIONS -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
		LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
		$(BIN)/python -m pytest -rs tests/native -k "not examples and not page and not too_old"

# libFuzzer for NATIVE_FUZZ seconds on each reader; what it has found stays in build/native-fuzz/NAME.
NATIVE_FUZZ ?= 60
READERS ?= manifest.json model.json golden.json json npy onnx gsvp flac gsv br phones
native-fuzz:
	cd native && cmake --preset fuzz $(NATIVE_FLAGS) $(if $(wildcard $(NATIVE_TOOLS)),-DONNXRUNTIME_ROOT=$(CURDIR)/$(NATIVE_TOOLS)/onnxruntime)
	cmake --build build/native-fuzz --target fuzz_readers
	for name in $(READERS); do \
		mkdir -p build/native-fuzz/$$name && \
		GSV_READER=$$name build/native-fuzz/fuzz_readers -max_total_time=$(NATIVE_FUZZ) -max_len=20000 -timeout=10 -verbosity=0 \
			-print_final_stats=1 -artifact_prefix=build/native-fuzz/found-$$name- build/native-fuzz/$$name native/test/seeds \
		|| exit 1; \
	done

native-test: .venv/.dev
	$(BIN)/python -m pytest -rs tests/native

# Strict: a link to nowhere, or a page that nothing leads to, is an error.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

# Continues where it was stopped. DEVICE=cuda trains on a GPU, FLAGS=--from-nothing begins with nothing.
demo-voice: .venv/.train
	$(BIN)/python -m gsvexport.train --voice $(or $(VOICE),real) --work $(VOICE_WORK) --device $(DEVICE) $(FLAGS)

clean:
	rm -rf .venv .venv-onnx2tf .rknn build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.compile: pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m $(PIP) --editable '.[compile,quality,demo-voice]'
	$(BIN)/python -m $(PIP) --no-deps resemblyzer==0.1.4
	@$(BIN)/python -m $(PIP) --editable '.[pesq]' >/dev/null 2>&1 || echo "PESQ cannot be compiled here" \
		"(it needs gcc and Python's headers: apt-get install gcc python3-dev), so its checks will not run"
	@touch $@

.venv/.docs: .venv/.compile
	$(BIN)/python -m $(PIP) --editable '.[compile,docs]'
	@touch $@

.venv/.train: .venv/.compile
	$(BIN)/python -m $(PIP) '$(TORCH)'
	$(BIN)/python -m $(PIP) --editable '.[compile,torch,train]'
	@touch $@

# Torch comes first and alone, pinned, so that the newest build of another kind is not resolved in its place.
.venv/.dev: .venv/.compile
	$(BIN)/python -m $(PIP) '$(TORCH)'
	$(BIN)/python -m $(PIP) --editable '.[compile,nvidia-check,qnn,ethosu,coreml,torch,ja,ko,yue,serve,ray,dev]'
	@touch $@
