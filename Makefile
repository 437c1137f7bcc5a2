# Everything that is done with weir from a checkout. Each target can be typed by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

# The length is said: left to git, it follows from how much else the clone has.
VERSION := $(shell git describe --tags --always --dirty --abbrev=12 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
BUILD   := go build -tags grpcnotrace -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
# The time of everything in a release: its commit's.
SOURCE_DATE_EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || echo 0))
# Tools and downloads that tests need live outside the checkout, so that a clean clone finds them again.
export TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/weir-tools
PACKAGES ?= ./...
BIN ?= bin/weir
DEB_ARCHS ?= $(shell go env GOARCH)
FUZZTIME ?= 20s
# How long the network misbehaves.
export CHAOS ?= 30m
# Which part of a night's work is done: 0.01 is a hundredth.
export NIGHTLY ?= 1
ROWS ?=
# The suites that need more than Go: files with these build tags.
TAGS := conformance,clients,chaos,browser,nightly,deploy,apiserver
# What is in dist, for `sha256sum --check`; the image has digests of its own.
SUMS := cd dist && shopt -s nullglob && sha256sum linux-*/weir weir_*.deb >SHA256SUMS
STAGE := conformance/stage.sh

.PHONY: all help build release image run check test tools race crash nightly fuzz golden conformance clients chaos ui deploy-test deploy-apiserver traces bench deb clean
all: check test

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 18

build: ## the static binary, bin/weir
	CGO_ENABLED=0 $(BUILD) -o $(BIN) ./cmd/weir

release: ## static binaries that are the same bytes wherever they are built: dist/linux-ARCH/weir
	for arch in amd64 arm64; do \
	  GOFLAGS= GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(BUILD) -o dist/linux-$$arch/weir ./cmd/weir; done
	@$(SUMS)

image: release ## the container image, dist/image; KEY=FILE signs it, PUSH=REGISTRY/REPOSITORY:TAG pushes it: see deploy/image
	rm -rf dist/image
	go run ./deploy/licences >dist/licences
	go run ./deploy/image -binaries dist -licences dist/licences -out dist/image -version '$(VERSION)' -commit '$(COMMIT)' -created '$(SOURCE_DATE_EPOCH)' \
	  $(if $(KEY),-key '$(KEY)') $(if $(PUSH),-push '$(PUSH)')

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
	@$(STAGE) ui $(MAKE) --no-print-directory ui

race: ## every room's tests, under the race detector
	go test -race -shuffle=on -timeout 30m $(PACKAGES)

crash: ## 10,000 power cuts; a million blobs; 50 collections that sleep: what the race detector, under which there are fewer, makes slow
	go test -count=1 -v -timeout 10m -run '^TestCrashPoints$$' ./origin/local
	go test -count=1 -v -timeout 10m -run '^TestMillion$$' ./mirror/evict
	go test -count=1 -v -timeout 10m -run '^Test(Million|CollectorSleeps|EveryFault)$$' ./origin/lifetime

nightly: tools ## what takes too long for test, in pieces of at most 45 minutes, each with a report in conformance/reports; NIGHTLY=0.01 for a hundredth
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlySoakReplicas$$' ./origin/lifetime
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlySoakDisk$$' ./origin/lifetime
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyScrubReplicas$$' ./origin/lifetime
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyScrubDisk$$' ./origin/lifetime
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyKillDisk$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyKillS3$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyKillReplicas$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyUploads$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyLargeDisk$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyLargeS3$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyPairWithoutRedis$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyStorm$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyAbandoned$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyIdleConnections$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyLorises$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyReloads$$' ./cmd/weir
	go test -tags nightly -count=1 -v -timeout 45m -run '^TestNightlyTerminated$$' ./cmd/weir

conformance: tools build ## the official OCI suite against bin/weir; tokens of real OpenID providers
	go test -tags conformance -count=1 -v -timeout 10m -run '^Test(OCI|Providers)' ./conformance

clients: tools build ## containerd, Docker, podman, skopeo, crane and oras against bin/weir; three tiers of it
	go test -tags clients -count=1 -v -timeout 20m -run '^Test(Clients|Tiers)' ./conformance

chaos: tools build ## a full disk, then for CHAOS a network that goes wrong, under bin/weir
	go test -tags chaos -count=1 -v -timeout 24h -run '^Test(FullDisk|Chaos)' ./conformance

ui: tools build ## the pages in Chromium; SCREENSHOTS=1 takes those in ui/testdata anew: look at them
	SCREENSHOTS=$(SCREENSHOTS) go test -tags browser -count=1 -v -timeout 10m -run '^TestBrowser' ./conformance

deploy-test: tools build ## what ships: image, chart, packages, examples, guides; the first time it takes minutes to build what checks them
	@$(STAGE) ships conformance/tools.sh deploy
	go test -tags deploy -count=1 -v -timeout 30m ./deploy/...
	go test -tags clients -count=1 -v -timeout 10m -run '^TestChart' ./conformance

deploy-apiserver: tools build ## all that the chart renders, to a real API server; the first time it takes many minutes to build that
	@$(STAGE) apiserver conformance/tools.sh kube-apiserver
	go test -tags apiserver -count=1 -v -timeout 10m -run '^TestAPIServer' ./deploy/helm

traces: tools build ## what weir exports, to the OpenTelemetry collector; the first time it takes minutes to build that
	go test -tags clients -count=1 -v -timeout 20m -run '^TestCollector$$' ./conformance

bench: build ## weir beside its peers on the same work, one table; ROWS=push,hot for the rows that match; what a decision takes
	@$(STAGE) peers conformance/tools.sh bench
	go run ./conformance/bench -rows '$(ROWS)'
	go test -run '^$$' -bench '^BenchmarkFiftyRules$$' -benchtime 5000x ./authz/policy

fuzz: ## every fuzz target for FUZZTIME, one at a time; what it finds is written to testdata/fuzz: commit it
	@git grep -hoE --untracked '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' >/dev/null || { echo "no fuzz targets"; exit 1; }
	@git grep -oE --untracked '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' | while IFS=: read -r file name; do \
	  echo "== $${file%/*} $${name#func }"; \
	  go test -run '^$$' -fuzz "^$${name#func }\$$" -fuzztime $(FUZZTIME) -parallel 2 "./$${file%/*}" </dev/null; done

golden: ## rewrites the golden files; read the diff as prose
	@git grep -lE --untracked 'flag\.Bool\("update"' -- '*_test.go' | xargs -rn1 dirname | sort -u | while read -r room; do \
	  go test "./$$room" -update </dev/null; done
	git status --short -- '*testdata*'

deb: ## Debian packages for DEB_ARCHS (amd64 arm64), in dist
	deploy/debian/build.sh dist $(DEB_ARCHS)
	@$(SUMS)

clean: ## what was built here; the tools and the data of `make run` stay
	rm -rf bin dist
