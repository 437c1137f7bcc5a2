package lifetime_test

import (
	"context"
	"encoding/binary"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/store"
)

// million is a registry of that many blobs, in images of eight in one repository, that
// takes no memory for them. One image in ten is deleted, and its blobs are named by nothing.
type million struct {
	repo  origin.Repo
	blobs uint64
	look  func()
}

const perImage = 8

func nth(i uint64) digest.Digest {
	var b [32]byte
	binary.LittleEndian.PutUint64(b[:], i*0x9e3779b97f4a7c15) // spread as digests are
	binary.BigEndian.PutUint64(b[8:], i)
	return digest.NewDigestFromBytes(digest.SHA256, b[:])
}

func number(d digest.Digest) uint64 {
	var b [32]byte
	for i := range b {
		b[i] = unhex(d.Encoded()[2*i])<<4 | unhex(d.Encoded()[2*i+1])
	}
	return binary.BigEndian.Uint64(b[8:])
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

func (m *million) garbage(i uint64) bool { return i/perImage%10 == 0 }

func (m *million) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func (m *million) Items(context.Context) iter.Seq2[origin.Item, error] {
	return func(yield func(origin.Item, error) bool) {
		for i := range m.blobs {
			if !yield(origin.Item{Repo: m.repo, Kind: origin.KindLink, Digest: nth(i)}, nil) {
				return
			}
		}
		m.look()
		for i := uint64(0); i < m.blobs; i += perImage {
			if !m.garbage(i) && !yield(origin.Item{Repo: m.repo, Kind: origin.KindManifest, Digest: nth(m.blobs + i)}, nil) {
				return
			}
		}
		m.look()
	}
}

func (m *million) Names(_ context.Context, _ origin.Repo, d digest.Digest) (origin.Names, error) {
	var n origin.Names
	first := number(d) - m.blobs
	for i := first; i < first+perImage; i++ {
		n.Blobs = append(n.Blobs, nth(i))
	}
	return n, nil
}

func (m *million) Link(context.Context, origin.Repo, digest.Digest) (origin.Link, error) {
	return origin.Link{Version: "1"}, nil
}

func (m *million) Named(context.Context, origin.Repo, string) (digest.Digest, error) {
	return "", origin.ErrManifestUnknown
}

func (m *million) Bytes(context.Context) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for i := range m.blobs {
			if i == m.blobs/2 {
				m.look()
			}
			if !yield(store.Info{Digest: nth(i), Size: 1}, nil) {
				return
			}
		}
	}
}

func (m *million) Condemned(context.Context) iter.Seq2[origin.Condemned, error] {
	return func(yield func(origin.Condemned, error) bool) {
		for i := range m.blobs {
			if m.garbage(i) && !yield(origin.Condemned{Digest: nth(i), Version: "1"}, nil) {
				return
			}
		}
		m.look()
	}
}

func (m *million) Uploads(context.Context) iter.Seq2[store.IngestInfo, error] {
	return func(func(store.IngestInfo, error) bool) {}
}

func (m *million) Unlink(context.Context, origin.Repo, digest.Digest, origin.Link) error { return nil }

func (m *million) Retire(context.Context, origin.Repo, digest.Digest, time.Time) error { return nil }

func (m *million) Forget(context.Context, origin.Repo, digest.Digest, time.Time) error { return nil }

func (m *million) Condemn(context.Context, digest.Digest) error { return nil }

func (m *million) Spare(context.Context, digest.Digest) error { return nil }

func (m *million) Drop(context.Context, store.IngestInfo) error { return nil }

// Remove finds each linked in this registry, which does not unlink.
func (m *million) Remove(context.Context, origin.Condemned) (int64, error) { return 1, nil }

// A collection over a million blobs, all in one repository, takes at most 200 MiB. Under the
// race detector, where each costs ten times as much, there are fewer, and as much less memory: the
// million is in `make crash`.
func TestMillion(t *testing.T) {
	most := int64(200 << 20)
	m := &million{repo: repo(t, "a"), blobs: 1_000_000}
	if raceDetector {
		m.blobs /= 20
		most /= 20
	}
	// What is taken from the system shrinks, too, where the heap gives spans to stacks.
	heap := func() (inUse, fromSystem int64) {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc), int64(s.HeapSys)
	}
	inUse, fromSystem := heap()
	var peak, peakSystem int64
	m.look = func() {
		now, system := heap()
		peak, peakSystem = max(peak, now-inUse), max(peakSystem, system-fromSystem)
	}
	rep, err := lifetime.NewCollector(m, m, lifetime.CollectOptions{Grace: grace}).Run(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	var garbage int64
	for i := range m.blobs {
		if m.garbage(i) {
			garbage++
		}
	}
	if rep.Freed != garbage || len(rep.Kept) != 1 || rep.Kept[0].Count != int64(m.blobs)-garbage {
		t.Errorf("%+v, want %d blobs freed", rep, garbage)
	}
	// What is condemned takes as much again as what stays, and that is forgotten by then.
	m.blobs /= 5
	if _, err := lifetime.NewCollector(m, m, lifetime.CollectOptions{Grace: grace}).Run(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	m.look()
	t.Logf("%d MiB of heap at most, %d MiB more from the system", peak>>20, peakSystem>>20)
	// The system gives more than is asked for at a time, which with few blobs is the most of it.
	if peak > most || peakSystem > most && !raceDetector {
		t.Errorf("more than %d MiB", most>>20)
	}
}
