package importer_test

import (
	"context"
	"errors"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin/importer"
)

// An import that is cut ends with the cause, lets no tag name what is not there, and goes
// on the next time.
func TestDistributionCut(t *testing.T) {
	s := newStorage()
	s.push("team/app", multi, "v1")
	r := newRegistry(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cut := errors.New("cut")
	show := &cutShow{cut: func() { cancel(cut) }}
	_, err := importer.Distribution(ctx, s, r, same, importer.Options{MaxManifestSize: largest, Show: show})
	if !errors.Is(err, cut) {
		t.Errorf("%v, want %v", err, cut)
	}
	if len(show.failed) > 0 {
		t.Errorf("shown: %q", show.failed)
	}
	wantNoManifest(t, r, "team/app", "v1")
	_, again := distribute(t, s, r, nil)
	wantFailed(t, again, nil)
	wantImage(t, r, "team/app", "v1", multi)
}

// cutShow cuts at the first byte of a blob.
type cutShow struct {
	shown
	cut func()
}

func (s *cutShow) Blob(of string, d v1.Descriptor) importer.Bar {
	return cutBar{s.shown.Blob(of, d), s.cut}
}

type cutBar struct {
	importer.Bar
	cut func()
}

func (b cutBar) Add(n int) {
	b.cut()
	b.Bar.Add(n)
}
