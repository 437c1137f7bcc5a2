package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const canary = "c4n4ry"

// TestSecretStaysSecret prints a configuration in every way there is.
func TestSecretStaysSecret(t *testing.T) {
	c, err := load([]source{{"weir.yaml", []byte(`
mirror:
  upstreams:
    - name: ghcr.io
      public: true
      endpoints: [{url: https://ghcr.io, username: bot, password: ` + canary + `}]
`)}}, nowhere, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret := c.Mirror.Upstreams[0].Endpoints[0].Password
	if got, err := secret.Value(); got != canary || err != nil {
		t.Fatalf("its value is %q, %v", got, err)
	}
	for _, v := range []any{*c, c, c.Mirror.Upstreams, secret, &secret, []Secret{secret}, map[string]Secret{"a": secret}} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%20.3s", "%p"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		asJSON, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		asYAML, err := yaml.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(asJSON)
		out.Write(asYAML)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		for _, s := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
			if strings.Contains(out.String(), s) {
				t.Errorf("a %T shows it:\n%s", v, out.String())
			}
		}
	}
	if text := print(t, c); strings.Contains(text, canary) || !strings.Contains(text, "password: "+redacted) {
		t.Errorf("Effective gives\n%s", text)
	}
}

func TestSecretFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	s := SecretFile(file)
	if _, err := s.Value(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("without the file: %v", err)
	}
	// It is read at each use: a rotation needs no reload.
	for content, want := range map[string]string{
		"one":        "one",
		"two\n":      "two",
		"three\r\n":  "three",
		"four\n\n":   "four\n",
		" five ":     " five ",
		"s\u00efx\n": "s\u00efx",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Value(); got != want || err != nil {
			t.Errorf("%q: value %q, %v", content, got, err)
		}
	}
	// One that is being written holds no secret yet, and nobody is to be asked without.
	for _, content := range []string{"", "\n", "\r\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Value(); err == nil || !strings.Contains(err.Error(), file+": it is empty") {
			t.Errorf("%q: value %q, %v", content, got, err)
		}
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), largestFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Value(); err == nil {
		t.Error("a file of any size is taken")
	}
	if _, err := SecretFile("/dev/zero").Value(); err == nil {
		t.Error("a device is read")
	}
	if !(Secret{}).IsZero() || s.IsZero() || NewSecret("x").IsZero() {
		t.Error("IsZero is wrong")
	}
}
