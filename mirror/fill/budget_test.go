package fill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// purse is a Budget of so many bytes.
type purse struct {
	mu         sync.Mutex
	left, most int64 // most: that was taken at a time
	taken      int64
	fetched    int64      // of that, not stored yet
	kept       func() int // how often something was stored
	unsure     bool       // it is not known yet what is left
	learns     bool       // it is by the time that it is waited for
}

var errPoor = errors.New("no room")

// ends counts how fills have ended.
type ends struct {
	noMeter
	mu sync.Mutex
	n  map[string]int
}

func (e *ends) FillEnded(result string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n[result]++
}

// full is a Budget on a full disk.
type full struct{ noBudget }

func (full) Reserve(Key, int64) error { return fmt.Errorf("%w: %w", ErrFull, errPoor) }

// That a budget has no room for a blob is nothing to be told of; that the disk has none is.
func TestFillBudgetEnds(t *testing.T) {
	for name, x := range map[string]struct {
		budget Budget
		size   int64 // that the upstream says
		want   string
	}{
		"no room":                  {&purse{}, 8 * mib, "passed"},
		"no room, nobody says":     {&purse{}, -1, "passed"},
		"a full disk":              {full{}, 8 * mib, "unstored"},
		"a full disk, nobody says": {full{}, -1, "unstored"},
		"room":                     {&purse{left: 8 * mib}, 8 * mib, "stored"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(content(8 * mib))
				u.size = x.size
				u.plain = x.size < 0
				e := &ends{n: map[string]int{}}
				r := newRig(t, Options{Limits: Limits{Linger: Complete}, Budget: x.budget, Meter: e})
				if got, err := r.get(t.Context(), u, store.Range{}, false); err != nil || !bytes.Equal(got, u.data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				r.done(u)
				if !maps.Equal(e.n, map[string]int{x.want: 1}) {
					t.Errorf("it ended as %v, want %s", e.n, x.want)
				}
			})
		})
	}
}

func (p *purse) Wait(context.Context, Key) {}

func (p *purse) Reserve(_ Key, size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unsure {
		return ErrNotYet
	}
	if p.taken+size > p.left {
		return errPoor
	}
	p.taken += size
	p.most = max(p.most, p.taken)
	return nil
}

func (p *purse) Known(context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsure = p.unsure && !p.learns
}

func (p *purse) Fetched(_ Key, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == nil || p.kept() == 0 {
		p.fetched += size
	}
}

func (p *purse) Release(_ Key, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken -= size
}

// A fill reserves what it will store, as soon as that is known, and gives it back. For
// what there is no room everybody gets it all the same, and nothing is kept or left.
func TestFillBudget(t *testing.T) {
	for name, x := range map[string]struct {
		told, says, plain bool // of the size: the manifest, the upstream; it has no ranges
		unsure, learns    bool
		room              int64
		keeps             bool
		reserved          int64
	}{
		"room":                 {told: true, says: true, room: 8 * mib, keeps: true, reserved: 8 * mib},
		"no room":              {told: true, says: true, room: 8*mib - 1},
		"room, size by answer": {says: true, room: 8 * mib, keeps: true, reserved: 8 * mib},
		"no room, by answer":   {says: true, room: 8*mib - 1},
		"no room, no ranges":   {says: true, plain: true, room: 8*mib - 1},
		"room, nobody says":    {plain: true, room: 8 * mib, keeps: true, reserved: 8 * mib},
		"no room, nobody says": {plain: true, room: 8*mib - 1},
		"room, not known":      {told: true, says: true, unsure: true, learns: true, room: 8 * mib, keeps: true, reserved: 8 * mib},
		"no room, not known":   {told: true, says: true, unsure: true, learns: true, room: 8*mib - 1},
		"never known":          {told: true, says: true, unsure: true, room: 8 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(content(8 * mib))
				u.plain = x.plain
				if x.told {
					u.known()
				}
				if !x.says {
					u.size = -1
				}
				p := &purse{left: x.room, unsure: x.unsure, learns: x.learns}
				r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}, Budget: p})
				p.kept = r.count
				var all sync.WaitGroup
				for i := range 4 {
					all.Go(func() {
						rng := store.Range{}
						if i == 3 && x.says {
							rng.Off = 5 * mib
						}
						if got, err := r.get(t.Context(), u, rng, i%2 == 0); err != nil || !bytes.Equal(got, u.data[rng.Off:]) {
							t.Errorf("%d bytes from %d on, %v", len(got), rng.Off, err)
						}
					})
				}
				all.Wait()
				r.done(u)
				if p.taken != 0 || p.most != x.reserved || p.fetched != x.reserved {
					t.Errorf("reserved %d bytes at most and fetched %d, want %d; %d are left", p.most, p.fetched, x.reserved, p.taken)
				}
				if got := r.count() > 0; got != x.keeps {
					t.Errorf("kept: %v", got)
				}
				if (x.keeps || x.unsure) && u.given != 8*mib {
					t.Errorf("the upstream gave %d bytes", u.given)
				}
			})
		})
	}
}

// What a manifest says of a blob that cannot be had, or that is of another size, displaces
// nothing.
func TestFillBudgetIsForWhatComes(t *testing.T) {
	gone := &origin.UpstreamError{Endpoint: "up.test", Status: 404, Err: origin.ErrBlobUnknown}
	for name, x := range map[string]struct {
		fail error
		size int64 // that the upstream says
		want error
	}{
		"it is not there":    {fail: gone, want: gone},
		"it is of less size": {size: 8*mib - 1, want: ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream(content(8 * mib)).known()
				u.size = x.size
				p := &purse{left: 100 * mib}
				r := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}, Budget: p})
				src := func(ctx context.Context, off, n int64) (Stream, error) {
					if x.fail != nil {
						return Stream{}, x.fail
					}
					return u.source(ctx, off, n)
				}
				f, _, err := r.Join(t.Context(), key(u.data), u.told, src, r.keep)
				must(t, err)
				if _, err := f.Follow(t.Context(), store.Range{}); !errors.Is(err, x.want) {
					t.Errorf("told %v", err)
				}
				r.done(u)
				if p.most != 0 {
					t.Errorf("%d bytes were reserved", p.most)
				}
			})
		})
	}
}

// Where the disk has no room for a blob yet, it is given to those who read it, nothing of it
// is written, and room is made for the next time.
func TestFillBudgetOnAFullDisk(t *testing.T) {
	const huge = 1 << 50
	synctest.Test(t, func(t *testing.T) {
		p := &purse{left: huge}
		r := newRig(t, Options{Limits: Limits{Linger: Complete}, Budget: p})
		src := func(_ context.Context, off, n int64) (Stream, error) {
			return Stream{ReadCloser: io.NopCloser(strings.NewReader("0123456789")), Offset: off, Length: n, Size: huge}, nil
		}
		f, _, err := r.Join(t.Context(), key(nil), huge, src, r.keep)
		must(t, err)
		b, err := f.Follow(t.Context(), store.Range{Off: mib, Len: 10})
		must(t, err)
		if got, err := io.ReadAll(b.Body); err != nil || string(got) != "0123456789" || b.Source.Cache != origin.Miss {
			t.Errorf("%q, %v, %v", got, err, b.Source)
		}
		must(t, b.Body.Close())
		r.done()
		if p.most != huge || p.taken != 0 {
			t.Errorf("%d bytes were reserved, %d are", p.most, p.taken)
		}
	})
}

// A fill that goes on where an earlier process left it, with all that there is, asks for room too.
func TestFillBudgetOverRestart(t *testing.T) {
	for _, room := range []int64{4 * mib, 4*mib - 1} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			u := newUpstream(content(4 * mib)).known()
			killed := newRig(t, Options{Limits: Limits{Linger: Complete, Streams: 4}})
			f, _, err := killed.Join(t.Context(), key(u.data), u.told, u.source, func(context.Context, *os.File, int64) error {
				return os.CopyFS(dir, os.DirFS(killed.dir)) // all is here, and not stored
			})
			must(t, err)
			f.Leave()
			killed.done(u)
			p := &purse{left: room}
			r := newRigAt(t, dir, Options{Limits: Limits{Linger: Complete}, Budget: p})
			u.told = -1
			if got, err := r.get(t.Context(), u, store.Range{}, true); err != nil || !bytes.Equal(got, u.data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			r.done(u)
			if kept := r.count() > 0; kept != (p.most == 4*mib) || kept != (room == 4*mib) || p.taken != 0 {
				t.Errorf("room for %d: kept %v, reserved %d bytes at most; %d are left", room, kept, p.most, p.taken)
			}
		})
	}
}
