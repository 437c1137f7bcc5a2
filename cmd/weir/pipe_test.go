package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// TestConfigurationFromPipe: what is wrong with a configuration that can be read once only
// is not forgotten by reading it again, when there is nothing.
func TestConfigurationFromPipe(t *testing.T) {
	for text, want := range map[string]string{"log: {level: debug}\n": "<nil>", "server: {tls: {certificate: /nowhere, key: /nowhere}}\n": "/nowhere"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		from := configuration{files: []string{fmt.Sprintf("/proc/self/fd/%d", r.Fd())}}
		if _, err := from.load(); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
