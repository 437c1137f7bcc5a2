//go:build conformance || browser

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// issuers are OpenID providers that run.
type issuers struct {
	Issuers []string // their URLs
	Control string   // of mock.mjs
}

// startIssuers runs a script beside the packages that it needs, until the test ends.
func startIssuers(t *testing.T, script string) issuers {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join("providers", script))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, script), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(tool(t, "providers"), "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", filepath.Join(dir, script))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s said:\n%s", script, said.String())
		}
	})
	patience := time.AfterFunc(2*time.Minute, stop)
	defer patience.Stop()
	var i issuers
	if err := json.NewDecoder(out).Decode(&i); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until it ends
	return i
}
