// Command licences prints the terms that weir comes under, and those of every module that is
// linked into it, with their notices: image and packages carry that text.
//
// A module without terms is an error, and so are terms that are not among those below: somebody has
// to read them first. It needs no network, and prints the same wherever it runs.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	if err := errors.Join(run(out), out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// known are the terms that weir may be passed on under together with its own, each by words that no
// other has. None of them asks for more than that its text and its notices go along, and MPL that it is
// said where the source is: that is what a module's name says.
var known = []string{
	"Apache License Version 2.0, January 2004",
	"Mozilla Public License, version 2.0",
	"Permission is hereby granted, free of charge, to any person obtaining a copy", // MIT
	"Redistribution and use in source and binary forms",                            // BSD
	"Permission to use, copy, modify, and",                                         // ISC
	"This is free and unencumbered software released into the public domain",       // Unlicense
}

// texts are the files of a module that are terms or notices.
var texts = regexp.MustCompile(`(?i)^(un)?licen[sc]e|^copying|^notice`)

// module is one that is linked in.
type module struct{ name, dir string }

func run(out io.Writer) error {
	modules, err := linked()
	if err != nil {
		return err
	}
	// Many have the same text, word for word.
	var order []string
	under := map[string][]string{}
	for _, m := range modules {
		all, err := m.texts()
		if err != nil {
			return err
		}
		for _, text := range all {
			if under[text] == nil {
				order = append(order, text)
			}
			under[text] = append(under[text], m.name)
		}
	}
	for i, text := range order {
		if i > 0 {
			fmt.Fprintln(out, "\n"+strings.Repeat("-", 72)+"\n")
		}
		fmt.Fprintf(out, "%s:\n\n%s\n", strings.Join(under[text], "\n"), text)
	}
	return nil
}

// linked are weir itself, Go's library, and the modules of which something is linked in or, as the
// authorities, put beside it.
func linked() ([]module, error) {
	root, err := golang("", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	var weir, others []module
	for _, arch := range []string{"amd64", "arm64"} {
		list, err := golang(arch, "list", "-deps", "-tags", "grpcnotrace",
			"-f", "{{with .Module}}{{.Main}}\t{{.Path}}{{with .Version}} {{.}}{{end}}\t{{.Dir}}{{end}}",
			"github.com/weir-registry/weir/cmd/weir", "golang.org/x/crypto/x509roots/fallback/bundle")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(list) {
			f := strings.Split(strings.TrimSpace(line), "\t")
			if len(f) != 3 {
				continue // of Go's library
			}
			if m := (module{f[1], f[2]}); f[0] == "true" {
				weir = []module{m}
			} else if !slices.Contains(others, m) {
				others = append(others, m)
			}
		}
	}
	slices.SortFunc(others, func(a, b module) int { return strings.Compare(a.name, b.name) })
	return slices.Concat(weir, []module{{"Go's library", strings.TrimSpace(root)}}, others), nil
}

// golang asks go, which none of the machine's settings tell otherwise.
func golang(arch string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOOS=linux", "CGO_ENABLED=0")
	if arch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+arch)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, said.Bytes())
	}
	return string(out), nil
}

// texts gives the module's terms and notices.
func (m module) texts() (all []string, err error) {
	files, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	for _, f := range files {
		if !f.Type().IsRegular() || !texts.MatchString(f.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.dir, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, strings.TrimSpace(string(text)))
	}
	if !slices.ContainsFunc(all, permitted) {
		return nil, fmt.Errorf("%s: its terms are in none of its files, or not among those that are known", m.name)
	}
	return all, nil
}

// permitted reports whether a text is known terms.
func permitted(text string) bool {
	text = strings.Join(strings.Fields(text), " ")
	return slices.ContainsFunc(known, func(words string) bool { return strings.Contains(text, words) })
}
