package mirror_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// A blob whose endpoint breaks off comes from the next one, from where it broke, and
// back again, if that one does too: no byte twice, none left out.
func TestFailoverInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := origintest.Bytes(1, 1<<20)
		img := origintest.Image([]byte("{}"), data)
		var first, second []string
		r := newRig(t, func(r *rig) {
			r.hub = append(r.hub, newEndpoint(t, "mirror.test"))
			// The first breaks off after 100,000 bytes each time, the second after 300,000.
			cutter := func(asked *[]string, after int64) func(store.Range) int64 {
				return func(rng store.Range) int64 {
					*asked = append(*asked, fmt.Sprint(rng.Off))
					return after
				}
			}
			r.hub[0].cut = cutter(&first, 100_000)
			r.hub[1].cut = cutter(&second, 300_000)
		})
		for _, e := range r.hub {
			img.Push(t, e.Registry, "library/nginx", "1.27")
		}
		layer := img.Blobs[1]
		if s := r.blob("docker.io/library/nginx", layer.Digest, data); s.Upstream != "registry-1.docker.io" {
			t.Errorf("from %v", s)
		}
		r.stop()
		wantFirst := []string{"0", "400000", "800000"}
		wantSecond := []string{"100000", "500000", "900000"}
		if !slices.Equal(first, wantFirst) || !slices.Equal(second, wantSecond) {
			t.Errorf("the first was asked from %s, the second from %s", strings.Join(first, " "), strings.Join(second, " "))
		}
	})
}
