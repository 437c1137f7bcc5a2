package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLicences: all that is linked into weir comes under terms that are known, and their texts are printed.
func TestLicences(t *testing.T) {
	var out bytes.Buffer
	if err := run(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.HasPrefix(text, "github.com/weir-registry/weir\n") {
		t.Errorf("it begins with %q", text[:min(80, len(text))])
	}
	for _, want := range []string{
		"Go's library", "github.com/google/cel-go v", "github.com/vbauerster/mpb/v8 v", "golang.org/x/crypto/x509roots/fallback v",
		"Copyright 2009 The Go Authors", "This product includes software developed at",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q", want)
		}
	}
}

// TestUnknownTerms: what nobody has read is refused, and so is what has no terms.
func TestUnknownTerms(t *testing.T) {
	for name, file := range map[string][2]string{
		"none":    {"README", "Apache License Version 2.0, January 2004"},
		"unknown": {"LICENSE", "GNU GENERAL PUBLIC LICENSE Version 3"},
		"notice":  {"NOTICE", "made by somebody"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, file[0]), []byte(file[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if all, err := (module{name, dir}).texts(); err == nil || !strings.Contains(err.Error(), name+": its terms") {
			t.Errorf("%s: %q, %v", name, all, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "licence.md"), []byte("Apache License\n   Version 2.0, January 2004\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := (module{"good", dir}).texts(); err != nil || len(all) != 1 {
		t.Errorf("%q, %v", all, err)
	}
}
