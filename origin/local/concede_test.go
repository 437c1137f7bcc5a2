package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/mem"
)

// settled is a Notify that does something while all settles.
type settled struct {
	*coord.Member
	meanwhile func() error
}

func (s *settled) Settle(ctx context.Context) error {
	if s.meanwhile != nil {
		return s.meanwhile()
	}
	return s.Member.Settle(ctx)
}

// conceding is two replicas, of which one evicts.
type conceding struct {
	*testing.T
	blobs      *mem.Blobs
	records    *mem.Records
	notify     *settled
	one, other *local.Registry
	heard      *hearsay
}

// hearsay is what the other one is told.
type hearsay struct {
	mu        sync.Mutex
	relinked  []string
	condemned []digest.Digest
	missed    atomic.Int32
}

func (w *hearsay) Relinked(repo origin.Repo, d digest.Digest, mirrored bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.relinked = append(w.relinked, fmt.Sprint(repo, " ", mirrored))
}

func (w *hearsay) Condemned(d digest.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.condemned = append(w.condemned, d)
}

func (w *hearsay) Missed() { w.missed.Add(1) }

func newConceding(t *testing.T) *conceding {
	c := &conceding{T: t, blobs: mem.NewBlobs(), records: mem.NewRecords(), heard: &hearsay{}}
	p := coord.NewProcess()
	c.notify = &settled{Member: p.Member()}
	o := local.Options{Delete: true, Grace: time.Hour}
	c.one = replica(t, c.blobs, c.records, c.notify, o)
	o.Watcher = c.heard
	c.other = replica(t, c.blobs, c.records, p.Member(), o)
	evictable(t, c.one) // it knows who links what
	return c
}

// fill has a mirror store a blob at the other replica.
func (c *conceding) fill(content string) digest.Digest {
	c.Helper()
	d := mirror(c, c.other, "hub/app", []byte(content))
	c.follow()
	return d
}

func (c *conceding) follow() {
	for !c.one.Settled() || !c.other.Settled() {
		runtime.Gosched()
	}
}

func (c *conceding) there(d digest.Digest) bool {
	_, err := c.blobs.Stat(c.Context(), d)
	return err == nil
}

// condemned gives how many blobs are condemned.
func (c *conceding) sentences() (n int) {
	for _, err := range c.one.Condemned(c.Context()) {
		if err != nil {
			c.Error(err)
		}
		n++
	}
	return n
}

// Of two replicas one evicts what the other one's mirror has stored: link and bytes go in one
// step, the other one is told, and a second time there is nothing to evict.
func TestConcede(t *testing.T) {
	c := newConceding(t)
	d := c.fill("layer")
	if err := c.one.Evict(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	c.follow()
	if c.there(d) || c.sentences() != 0 {
		t.Error("its bytes are there still, or it is condemned")
	}
	if _, err := c.other.Stat(t.Context(), origintest.Repo(t, "hub/app"), d); !origin.Unknown(err) {
		t.Errorf("the other replica has it: %v", err)
	}
	if !slices.Contains(c.heard.relinked, "hub/app false") || !slices.Contains(c.heard.condemned, d) {
		t.Errorf("the other one was told %v, %v", c.heard.relinked, c.heard.condemned)
	}
	if err := c.one.Evict(t.Context(), d); !origin.Unknown(err) {
		t.Errorf("again: %v", err)
	}
	if err := c.one.Evict(t.Context(), c.fill("layer")); err != nil {
		t.Errorf("stored again: %v", err)
	}
}

// What somebody does at the other replica while a blob is being evicted, from the moment on
// at which it is condemned, ends the eviction, and what he was promised holds.
func TestConcedeGivesWay(t *testing.T) {
	to := func(c *conceding) origin.Repo { return origintest.Repo(c, "team/app") }
	for _, tt := range []struct {
		name   string
		do     func(c *conceding, d digest.Digest) error
		want   error
		linked bool // in team/app, from then on
	}{
		{"mounted", func(c *conceding, d digest.Digest) error {
			_, err := c.other.Mount(c.Context(), origin.Repo{}, to(c), d)
			return err
		}, origin.ErrPushed, true},
		{"pushed", func(c *conceding, _ digest.Digest) error {
			origintest.PushBlob(c, c.other, "team/app", []byte("layer"))
			return nil
		}, origin.ErrPushed, true},
		{"read", func(c *conceding, d digest.Digest) error { return c.other.Spare(c.Context(), d) }, origin.ErrBusy, false},
		{"linked by another mirror", func(c *conceding, d digest.Digest) error {
			mirror(c, c.other, "hub/base", []byte("layer"))
			return nil
		}, origin.ErrBusy, false},
		{"not told", func(*conceding, digest.Digest) error { return coord.ErrAway }, origin.ErrBusy, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newConceding(t)
			d := c.fill("layer")
			c.notify.meanwhile = func() error {
				if c.sentences() != 1 {
					t.Error("it is not condemned while all settles")
				}
				return tt.do(c, d)
			}
			if err := c.one.Evict(t.Context(), d); !errors.Is(err, tt.want) {
				t.Errorf("evicted with %v, want %v", err, tt.want)
			}
			c.follow()
			if !c.there(d) || c.sentences() != 0 {
				t.Errorf("its bytes are gone, or %d are condemned", c.sentences())
			}
			if _, err := c.one.Stat(t.Context(), origintest.Repo(t, "hub/app"), d); err != nil {
				t.Errorf("it was unlinked: %v", err)
			}
			if tt.linked {
				if err := oracletest.ReadBlob(t.Context(), c.one, to(c), d); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// dying is records of a process that is gone with the first link that it writes to team.
type dying struct {
	store.Records
	dead atomic.Bool
}

var errDead = errors.New("the process is gone")

func (r *dying) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if r.dead.Load() {
		return "", errDead
	}
	version, err := r.Records.Put(ctx, key, data, if_)
	if strings.HasPrefix(key, "r/team/app/_b/") {
		r.dead.Store(true)
		return "", errDead
	}
	return version, err
}

// mute tells nobody anything once its process is gone.
type mute struct {
	*coord.Member
	of *dying
}

func (m mute) Publish(ctx context.Context, keys ...string) {
	if !m.of.dead.Load() {
		m.Member.Publish(ctx, keys...)
	}
}

// A process dies when it has written a link and told nobody. Somebody finds the link, and
// relies on it: the one that evicts knows of it all the same.
func TestConcedeUnsaidLink(t *testing.T) {
	blobs, records, p := mem.NewBlobs(), mem.NewRecords(), coord.NewProcess()
	o := local.Options{Delete: true, Grace: time.Hour}
	evicting, found := replica(t, blobs, records, p.Member(), o), replica(t, blobs, records, p.Member(), o)
	evictable(t, evicting)
	d := mirror(t, evicting, "hub/app", []byte("layer"))
	dies := &dying{Records: records}
	dead := replica(t, blobs, dies, mute{p.Member(), dies}, o)
	team := origintest.Repo(t, "team/app")
	if _, err := dead.Mount(t.Context(), origin.Repo{}, team, d); !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	if _, err := found.Stat(t.Context(), team, d); err != nil {
		t.Fatal(err)
	}
	if err := evicting.Evict(t.Context(), d); !errors.Is(err, origin.ErrPushed) {
		t.Errorf("evicted with %v", err)
	}
	if err := oracletest.ReadBlob(t.Context(), found, team, d); err != nil {
		t.Error(err)
	}
}

// Mirrors store, and evict, and clients push, mount and ask at three replicas, the same few
// blobs. Whatever a client was told is there stays there (law: what was pushed never leaves).
func TestConcedeRaces(t *testing.T) {
	const rounds, contents = 60, 3
	blobs, records, p := mem.NewBlobs(), mem.NewRecords(), coord.NewProcess()
	var each []*local.Registry
	for range 3 {
		r := replica(t, blobs, records, p.Member(), local.Options{Delete: true, Grace: time.Hour})
		evictable(t, r)
		each = append(each, r)
	}
	var evicted, promised atomic.Int64
	for round := range rounds {
		content := func(i int) []byte { return fmt.Appendf(nil, "round %d, layer %d", round, i) }
		var kept sync.Map // repository and digest
		var all sync.WaitGroup
		for i, reg := range each {
			random := rand.New(rand.NewPCG(uint64(round), uint64(i)))
			all.Go(func() {
				for n := range 12 {
					b := content(random.IntN(contents))
					d := digest.FromBytes(b)
					repo := origintest.Repo(t, fmt.Sprintf("team/app%d-%d-%d", round, i, n))
					switch random.IntN(4) {
					case 0:
						_ = uploadAs(t.Context(), reg.Mirrored(), origintest.Repo(t, "hub/app"), b)
					case 1:
						err := reg.Evict(t.Context(), d)
						if err == nil {
							evicted.Add(1)
						} else if !errors.Is(err, origin.ErrBusy) && !errors.Is(err, origin.ErrPushed) && !origin.Unknown(err) {
							t.Errorf("evict: %v", err)
						}
					case 2:
						if random.IntN(4) > 0 {
							continue // pushed, nothing is evicted any more
						}
						if _, err := reg.Mount(t.Context(), origin.Repo{}, repo, d); err == nil {
							kept.Store(repo, d)
						}
					default:
						if random.IntN(4) > 0 {
							continue
						}
						if err := uploadAs(t.Context(), reg, repo, b); err == nil {
							kept.Store(repo, d)
						} else if !errors.Is(err, origin.ErrUnavailable) {
							t.Errorf("push: %v", err)
						}
					}
				}
			})
		}
		all.Wait()
		for repo, d := range kept.Range {
			promised.Add(1)
			for _, reg := range each {
				if err := oracletest.ReadBlob(t.Context(), reg, repo.(origin.Repo), d.(digest.Digest)); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
		}
	}
	if evicted.Load() == 0 || promised.Load() == 0 {
		t.Errorf("%d evicted, %d promised: it shows nothing", evicted.Load(), promised.Load())
	}
	t.Logf("%d evicted, %d promised", evicted.Load(), promised.Load())
}

// uploadAs uploads a blob.
func uploadAs(ctx context.Context, w origin.Writer, repo origin.Repo, b []byte) error {
	in, err := w.Upload(ctx, repo, "", digest.SHA256)
	if err != nil {
		return err
	}
	defer func() { _ = in.Cancel() }()
	if _, err := bytes.NewReader(b).WriteTo(in); err != nil {
		return err
	}
	_, err = in.Commit(ctx, digest.FromBytes(b))
	return err
}
