package mirror

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/mem"
)

// What manifests name is held in memory only where that is little.
func TestNamedIsBounded(t *testing.T) {
	s := newState(mem.NewRecords(), slog.New(slog.DiscardHandler))
	defer s.close()
	for layers, held := range map[int]bool{3: true, naming - 1: true, naming: false, 9000: false} {
		var list bytes.Buffer
		for i := range layers {
			fmt.Fprintf(&list, `,{"mediaType":"application/octet-stream","digest":%q,"size":1}`, digest.FromString(fmt.Sprint(i)))
		}
		m := origintest.NewManifest("application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
			`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[%s]}`,
			digest.FromString("{}"), list.Bytes()[1:]))
		s.hold(contentKey{origintest.Repo(t, "docker.io/library/nginx"), m.Digest}, m)
		if names, ok := s.named.Peek(m.Digest); ok != held || ok && len(names) != layers+1 {
			t.Errorf("%d layers: held %v, %d names", layers, ok, len(names))
		}
	}
}
