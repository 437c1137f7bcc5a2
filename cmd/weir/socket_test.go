package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// TestSocketIsForTheGroup: a proxy in the group of who runs weir may connect, whatever the umask.
func TestSocketIsForTheGroup(t *testing.T) {
	name := filepath.Join(t.TempDir(), "weir.sock")
	for _, address := range []string{name, "@weir-" + filepath.Base(t.TempDir()) + t.Name()} {
		l, err := listenOn(config.Address{Network: "unix", Addr: address})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
	}
	fi, err := os.Stat(name)
	if err != nil || fi.Mode() != os.ModeSocket|0o660 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}
