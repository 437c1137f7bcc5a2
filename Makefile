# Everything that is done with weir from a checkout. Each target can be typed by hand.
SHELL := /bin/bash
.DEFAULT_GOAL := all

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# Tools and downloads that tests need live outside the checkout, so that a clean clone finds them again.
TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/weir-tools
PACKAGES := ./...

.PHONY: all build run check test race fuzz golden conformance clients clean
all: check test

build: ## the static binary, bin/weir
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/weir ./cmd/weir

run: build ## serves on 127.0.0.1:5000, data in ./weir-data
	./bin/weir serve
