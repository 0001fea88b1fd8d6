# `make` or `make help` lists the targets.
FUZZTIME ?= 20s
KILLS ?= 200
STOPS ?= 100
TESTFLAGS ?=
EFFORT ?= quick

.DEFAULT_GOAL := help
.PHONY: help demo base build test lint fuzz torture interop bench bench-tpu bench-peers

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: build ## train a ControlNet on the spot and sample with it, into out/demo
	bin/limner demo --output_dir out/demo

base: build ## train the demo's base model from nothing, into out/base-run (an hour)
	bin/limner base --output_dir out/base-run

build: ## build bin/limner
	go build -trimpath -o bin/limner ./cmd/limner

# Large pages make XLA's compiler, which most of the time goes into, a twentieth faster; other C libraries than glibc ignore it.
test: ## run every test
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 go test -timeout 30m $(TESTFLAGS) ./...

lint: ## check formatting, the length of lines, imports, go vet and staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go test -count=1 ./internal/arch

fuzz: ## run every fuzz test, each for FUZZTIME (20s)
	@grep -rn --include='*_test.go' -oE '^func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file line name; do \
		name=$${name#func }; echo "$$name in $$file"; \
		go test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) </dev/null || exit 1; \
	done

torture: build ## lose nothing to KILLS (200) kills, STOPS (100) signals, flipped bits and failing calls (a quarter of an hour)
	go test ./train -count 1 -v -run 'TestEachCallOfASaveFails|TestFlippedBits'
	go run ./train/torture -limner bin/limner -kills $(KILLS) -stops $(STOPS)

interop: ## compare with Python's safetensors and huggingface_hub, and load each kind of result in diffusers: installed into bench/venv-interop (several GB)
	python3 -m venv bench/venv-interop
	bench/venv-interop/bin/python -m pip install --quiet --requirement bench/requirements-interop.txt
	LIMNER_PYTHON=$(CURDIR)/bench/venv-interop/bin/python go test -count=1 -timeout 60m -tags interop -run 'SameVerdict|Python' -v ./models/safetensors ./models/hub ./cmd/limner

bench: ## measure against the peers, into bench/results.json (after make bench-peers)
	go run ./bench

bench-tpu: build ## compile Stable Diffusion 1.5's programs for a TPU v4-8 that need not be here, into bench/tpu-*.json and the growth from 4 to 256 chips (an hour; EFFORT=default: the compiler's own, many hours)
	bin/limner plan controlnet $(TPU) --tpu v4-8 --train_batch_size 4 --json > bench/tpu-pixels-4.json
	bin/limner plan controlnet $(TPU) --tpu v4-8 --train_batch_size 4 --cache_latents --json > bench/tpu-cached-4.json
	bin/limner plan controlnet $(TPU) --tpu v4-8 --train_batch_size 12 --cache_latents --fsdp --json > bench/tpu-cached-12.json
	bin/limner plan controlnet $(TPU) --tpu v4-8 --train_batch_size 32 --cache_latents --fsdp --gradient_checkpointing --json > bench/tpu-cached-32.json
	bin/limner plan sample --model sd15 --controlnet sd15 --dtype bf16 --height 512 --width 512 --effort $(EFFORT) --tpu v4-8 --json > bench/tpu-sample.json
	for tpu in v4-8 v4-32 v4-128 v4-512; do for fsdp in "" --fsdp; do \
		bin/limner plan controlnet $(TPU) --tpu $$tpu --train_batch_size 4 --cache_latents $$fsdp --json > bench/tpu-growth-$$tpu$$fsdp.json || exit 1; \
	done; done
	@if [ -x bench/venv/bin/python ]; then \
		TPU_LIBRARY_PATH=$$(ls -d "$${XDG_CACHE_HOME:-$$HOME/.cache}"/limner/plugins/libtpu-*/libtpu.so | tail -1) bench/venv/bin/python bench/peer_tpu.py --effort $(EFFORT) > bench/tpu-peer.json && go run ./bench tpu; \
	else echo "the Flax side is left out: make bench-peers installs it"; fi
	go run ./bench/growth -plot docs/tpu-growth.png bench/tpu-growth-*.json

TPU = --model sd15 --resolution 512 --mixed_precision bf16 --effort $(EFFORT)

bench-peers: ## install the benchmarks' peers, Flax, PyTorch and stable-diffusion.cpp (several GB), into bench/venv*
	python3 -m venv bench/venv
	bench/venv/bin/python -m pip install --quiet --requirement bench/requirements.txt
	python3 -m venv bench/venv-torch
	bench/venv-torch/bin/python -m pip install --quiet --requirement bench/requirements-torch.txt
	python3 -m venv bench/venv-sdcpp
	bench/venv-sdcpp/bin/python -m pip install --quiet --requirement bench/requirements-sdcpp.txt
