//go:build deploy

package deploy

import (
	"strings"
	"testing"
)

// TestCompose: Compose understands the file, and publishes what is said to it.
func TestCompose(t *testing.T) {
	said := run(t, []string{"WEIR_LISTEN=192.0.2.1", "WEIR_IMAGE=registry.test/weir:v1"}, "docker-compose", "--file", "compose/compose.yaml", "config")
	for _, want := range []string{"192.0.2.1:5000:5000", "image: registry.test/weir:v1", "read_only: true", "/compose/weir.yaml:/etc/weir/weir.yaml:ro", "data:/data"} {
		if !strings.Contains(said, want) {
			t.Errorf("%s is not in it:\n%s", want, said)
		}
	}
}
