package local_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/mem"
)

// unsaid is records in which a batch is written and its writer held up, before he hears of it.
type unsaid struct {
	*mem.Records
	written, resume chan struct{} // nil: nobody is held up
}

func (u *unsaid) PutAll(ctx context.Context, writes []store.Write) error {
	err := u.Records.PutAll(ctx, writes)
	if u.written != nil {
		close(u.written)
		<-u.resume
	}
	return err
}

// A push finds its tag as it is to be, since another replica has just written it, which has not
// come to telling: who is answered has told for it, and nobody believes what was before.
func TestPushFindsWhatIsUnsaid(t *testing.T) {
	blobs, records, p := mem.NewBlobs(), &unsaid{Records: mem.NewRecords()}, coord.NewProcess()
	slow := replica(t, blobs, records, p.Member(), local.Options{})
	fast := replica(t, blobs, records.Records, p.Member(), local.Options{})
	third := replica(t, blobs, records.Records, p.Member(), local.Options{})
	repo, old, img := origintest.Repo(t, "a"), origintest.Image([]byte("{}")), origintest.Image([]byte("{ }"))
	old.Push(t, slow, "a", "x")
	img.Push(t, slow, "a")
	everybody := []*local.Registry{slow, third}
	for _, r := range everybody {
		for !r.Settled() {
			runtime.Gosched()
		}
		if _, err := r.Resolve(t.Context(), repo, origintest.Ref(t, "x")); err != nil {
			t.Fatal(err)
		}
		if got := r.Remembered(repo, "x"); got != old.Digest() {
			t.Fatalf("%q is remembered: this is no test", got)
		}
	}
	records.written, records.resume = make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		origintest.PushManifest(t, slow, "a", img.Manifest, "x")
	}()
	<-records.written
	origintest.PushManifest(t, fast, "a", img.Manifest, "x")
	for i, r := range everybody {
		if got := r.Remembered(repo, "x"); got == old.Digest() {
			t.Errorf("%d: %q is believed", i, got)
		}
	}
	records.written = nil
	close(records.resume)
	<-ended
}
