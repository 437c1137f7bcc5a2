# Everything that is done with weir from a checkout. Each target can be typed by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# Tools and downloads that tests need live outside the checkout, so that a clean clone finds them again.
export TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/weir-tools
PACKAGES ?= ./...
FUZZTIME ?= 20s
# How long the network misbehaves.
export CHAOS ?= 30m
ROWS ?=
# The suites that need more than Go: files with these build tags.
TAGS := conformance,clients,chaos
STAGE := conformance/stage.sh

.PHONY: all help build run check test tools race crash fuzz golden conformance clients chaos bench clean
all: check test

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */\1\t/' | expand -t 14

build: ## the static binary, bin/weir
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/weir ./cmd/weir

run: build ## serves on 127.0.0.1:5000, data in ./weir-data
	./bin/weir serve

check: ## format, vet, go fix, staticcheck, go.mod
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r go tool gofumpt -l); \
	  if [[ -n $$unformatted ]]; then echo "not gofumpt-clean:"; echo "$$unformatted"; exit 1; fi
	go vet -tags $(TAGS) $(PACKAGES)
	go fix -diff -tags $(TAGS) $(PACKAGES)
	go tool staticcheck -tags $(TAGS) $(PACKAGES)
	go mod verify >/dev/null
	go mod tidy -diff

tools: ## what the tests need: Debian packages, programs from the Go proxy, two OpenID providers from npm
	@$(STAGE) tools conformance/tools.sh

test: tools build ## all that CI runs: every room, the OCI suite, real clients
	@$(STAGE) rooms $(MAKE) --no-print-directory race
	@$(STAGE) crash $(MAKE) --no-print-directory crash
	@$(STAGE) conformance $(MAKE) --no-print-directory conformance
	@$(STAGE) clients $(MAKE) --no-print-directory clients
	@$(STAGE) chaos $(MAKE) --no-print-directory chaos CHAOS=20s

race: ## every room's tests, under the race detector
	go test -race -shuffle=on -timeout 15m $(PACKAGES)

crash: ## 10,000 power cuts; the race detector, under which it is a tenth of them, makes each take thrice as long
	go test -count=1 -v -timeout 10m -run '^TestCrashPoints$$' ./origin/local

conformance: tools build ## the official OCI suite against bin/weir; tokens of real OpenID providers
	go test -tags conformance -count=1 -v -timeout 10m -run '^Test(OCI|Providers)' ./conformance

clients: tools build ## containerd, Docker, podman, skopeo, crane and oras against bin/weir; three tiers of it
	go test -tags clients -count=1 -v -timeout 20m -run '^Test(Clients|Tiers)' ./conformance

chaos: tools build ## a full disk, then for CHAOS a network that goes wrong, under bin/weir
	go test -tags chaos -count=1 -v -timeout 24h -run '^Test(FullDisk|Chaos)' ./conformance

bench: build ## weir beside its peers on the same work, one table; ROWS=push,hot for the rows that match
	@$(STAGE) peers conformance/tools.sh bench
	go run ./conformance/bench -rows '$(ROWS)'

fuzz: ## every fuzz target for FUZZTIME, one at a time; what it finds is written to testdata/fuzz: commit it
	@git grep -hoE --untracked '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' >/dev/null || { echo "no fuzz targets"; exit 1; }
	@git grep -oE --untracked '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' | while IFS=: read -r file name; do \
	  echo "== $${file%/*} $${name#func }"; \
	  go test -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime $(FUZZTIME) -parallel 2 "./$${file%/*}" </dev/null; done

golden: ## rewrites the golden files; read the diff as prose
	@git grep -lE --untracked 'flag\.Bool\("update"' -- '*_test.go' | xargs -rn1 dirname | sort -u | while read -r room; do \
	  go test "./$$room" -update </dev/null; done
	git status --short -- '*testdata*'

clean: ## what was built here; the tools and the data of `make run` stay
	rm -rf bin
