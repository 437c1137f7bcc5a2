package mirror_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// A mount from anywhere takes what was pushed, wherever it is; what is mirrored it
// takes only from where the client says, or where the target has it already.
func TestMountFromAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img, mirrored := nginx(), nginx().Blobs[2]
		// Mirrored repositories before, between and behind the local ones, more than a page.
		for i := range 150 {
			origintest.PushBlob(t, r.hub[0].Registry, fmt.Sprintf("library/n%03d", i), img.Blobs[3].Bytes)
			r.blob(fmt.Sprintf("docker.io/library/n%03d", i), img.Blobs[3].Digest, img.Blobs[3].Bytes)
		}
		img.Push(t, r.hub[0].Registry, name, "1.27")
		r.pull(full, "1.27", img)
		synctest.Wait()
		first := origintest.PushBlob(t, r, "aaa/app", []byte("first"))
		between := origintest.PushBlob(t, r, "docker.io-mirror/app", []byte("between"))
		for i := range 120 {
			origintest.PushBlob(t, r, fmt.Sprintf("m/n%03d", i), fmt.Appendf(nil, "%d", i))
		}
		last := origintest.PushBlob(t, r, "zzz/app", []byte("last"))
		r.hub[0].took()

		to := origintest.Repo(t, "team/app")
		for _, d := range []origin.Descriptor{{Descriptor: img.Blobs[0].Descriptor}, {Descriptor: mirrored.Descriptor}, {Descriptor: img.Blobs[3].Descriptor}} {
			if _, err := r.Mount(t.Context(), origin.Repo{}, to, d.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("mirrored, from anywhere: %v", err)
			}
			if _, err := r.origin.Stat(t.Context(), to, d.Digest); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("after that: %v", err)
			}
		}
		for _, d := range []string{first.String(), between.String(), last.String()} {
			ref := origintest.Ref(t, d)
			if _, err := r.Mount(t.Context(), origin.Repo{}, to, ref.Digest()); err != nil {
				t.Errorf("pushed, from anywhere: %v", err)
			}
			if _, err := r.origin.Stat(t.Context(), to, ref.Digest()); err != nil {
				t.Errorf("after that: %v", err)
			}
		}
		if _, err := r.Mount(t.Context(), origintest.Repo(t, full), to, mirrored.Digest); err != nil {
			t.Errorf("mirrored, from where it is: %v", err)
		}
		if _, err := r.Mount(t.Context(), origin.Repo{}, to, mirrored.Digest); err != nil {
			t.Errorf("what the target has: %v", err)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}
