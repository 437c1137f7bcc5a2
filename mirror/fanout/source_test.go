package fanout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// depot is a host that has a blob.
type depot struct {
	*host
	data  []byte
	whole bool  // it has no ranges
	cut   int64 // bytes after which a body breaks off; 0: none
	open  int   // bodies that nobody has closed
}

func (d *depot) Blob(ctx context.Context, repo origin.Repo, dg digest.Digest, r store.Range) (origin.Blob, error) {
	return d.Stretch(ctx, repo, dg, r)
}

func (d *depot) Stretch(ctx context.Context, _ origin.Repo, dg digest.Digest, r store.Range) (origin.Blob, error) {
	what := fmt.Sprintf("%d+%d", r.Off, r.Len)
	if answer := d.asked(what); answer != nil {
		if err := answer(ctx, what); err != nil {
			return origin.Blob{}, err
		}
	}
	size := int64(len(d.data))
	if d.whole {
		r = store.Range{}
	}
	off, n, err := r.Resolve(size)
	if err != nil {
		return origin.Blob{}, err
	}
	body := &tracked{Reader: bytes.NewReader(d.data[off : off+n]), depot: d}
	if d.cut > 0 && d.cut < n {
		body.Reader = io.MultiReader(bytes.NewReader(d.data[off:off+d.cut]), broken{d.error(0)})
	}
	d.mu.Lock()
	d.open++
	d.mu.Unlock()
	return origin.Blob{
		Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{Digest: dg, Size: size}, Source: origin.Source{Upstream: d.name}},
		Offset:     off, Length: n, Body: body,
	}, nil
}

type tracked struct {
	io.Reader
	depot *depot
}

func (b *tracked) Close() error {
	b.depot.mu.Lock()
	defer b.depot.mu.Unlock()
	b.depot.open--
	return nil
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// depots is a Fanout of hosts that have the same blob, of which those are fallbacks.
func depots(t testing.TB, opts fanout.Options, n int, fallbacks ...int) (*rig, []*depot) {
	r := &rig{t: t}
	var list []*depot
	var endpoints []fanout.Endpoint
	for i := range n {
		d := &depot{host: newHost(fmt.Sprintf("h%d", i+1)), data: origintest.Bytes(1, 1000)}
		list, r.hosts = append(list, d), append(r.hosts, d.host)
		endpoints = append(endpoints, fanout.Endpoint{Host: d.name, Reader: d, Fallback: slices.Contains(fallbacks, i)})
	}
	r.Fanout = fanout.New("docker.io", endpoints, opts, r)
	t.Cleanup(r.Close)
	t.Cleanup(func() {
		for _, d := range list {
			if d.open != 0 {
				t.Errorf("%s has %d bodies that nobody closed", d.name, d.open)
			}
		}
	})
	return r, list
}

// stretch asks for 100 bytes from off on. It gives who answered or what went wrong, and
// the first byte if it is another; how the body ended if not well.
func stretch(t testing.TB, s *fanout.Source, off int64) string {
	t.Helper()
	b, err := s.Stretch(t.Context(), store.Range{Off: off, Len: 100})
	if err != nil {
		return outcome("", err)
	}
	defer b.Body.Close()
	by := b.Source.Upstream
	if b.Offset != off {
		by += fmt.Sprintf(" from %d", b.Offset)
	}
	got, err := io.ReadAll(b.Body)
	if err != nil {
		return by + fmt.Sprintf(" %d bytes", len(got))
	}
	return by
}

func source(t testing.TB, r *rig) *fanout.Source {
	return r.Source(origintest.Repo(t, "library/nginx"), digest.FromString("blob"))
}

// Stretches of a blob are asked for by turns, of those who have it and have ranges,
// those that failed least first.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, x := range map[string]struct {
			n      int
			change func(d []*depot)
			want   []string // for stretches from 0, 100, 200 ... on
			asks   []string
		}{
			"one":      {1, nil, []string{"h1", "h1"}, []string{"0+100 100+100"}},
			"by turns": {3, nil, []string{"h1", "h2", "h3", "h1"}, []string{"0+100 300+100", "100+100", "200+100"}},
			"one has it not": {
				3, func(d []*depot) { d[1].does(d[1].status(404, 0)) },
				[]string{"h1", "h3", "h1", "h3"},
				[]string{"0+100 200+100", "100+100", "100+100 300+100"},
			},
			"one denies": {
				2, func(d []*depot) { d[0].does(d[0].status(403, 0)) },
				[]string{"h2", "h2", "h2"},
				[]string{"0+100", "0+100 100+100 200+100"},
			},
			"nobody has it": {
				2, func(d []*depot) { d[0].does(d[0].status(404, 0)); d[1].does(d[1].status(403, 0)) },
				[]string{"403", "403"},
				[]string{"0+100", "0+100"},
			},
			"one breaks off": {
				2, func(d []*depot) { d[0].cut = 10 },
				[]string{"h1 10 bytes", "h2", "h2", "h2"},
				[]string{"0+100", "100+100 200+100 300+100"},
			},
			"both break off": {
				2, func(d []*depot) { d[0].cut, d[1].cut = 10, 20 },
				[]string{"h1 10 bytes", "h2 20 bytes", "h1 10 bytes", "h2 20 bytes"},
				[]string{"0+100 200+100", "100+100 300+100"},
			},
			"the second has no ranges": {
				2, func(d []*depot) { d[1].whole = true },
				[]string{"h1", "h1", "h1"},
				[]string{"0+100 100+100 200+100", "100+100"},
			},
			"nobody has ranges": {
				2, func(d []*depot) { d[0].whole, d[1].whole = true, true },
				[]string{"h1", "h1 from 0", "h2 from 0"},
				[]string{"0+100 100+100 100+100", "100+100 200+100"},
			},
			"the one that has it has no ranges": {
				2, func(d []*depot) { d[0].whole = true; d[1].does(d[1].status(404, 0)) },
				[]string{"h1", "h1 from 0"},
				[]string{"0+100 100+100 100+100", "100+100"},
			},
			"one is away": {
				2, func(d []*depot) { d[0].does(d[0].refuses) },
				[]string{"h2", "h2", "h2"},
				[]string{"0+100", "0+100 100+100 200+100"},
			},
		} {
			r, list := depots(t, fanout.Options{}, x.n)
			if x.change != nil {
				x.change(list)
			}
			t.Log(name)
			s := source(t, r)
			for i, want := range x.want {
				is(t, stretch(t, s, int64(100*i)), want)
			}
			r.answers(x.asks...)
			r.Close()
		}
	})
}

// A fallback is asked for those stretches that an endpoint which is none has failed to give.
func TestFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, x := range map[string]struct {
			fallbacks []int
			change    func(d []*depot)
			want      []string
		}{
			"the last":                 {[]int{2}, nil, []string{"h1", "h2", "h1", "h2"}},
			"all but the first":        {[]int{1, 2}, nil, []string{"h1", "h1", "h1", "h1"}},
			"all":                      {[]int{0, 1, 2}, nil, []string{"h1", "h2", "h3", "h1"}},
			"the first has it not":     {[]int{1, 2}, func(d []*depot) { d[0].does(d[0].status(404, 0)) }, []string{"h2", "h3", "h2", "h3"}},
			"the first breaks off":     {[]int{1, 2}, func(d []*depot) { d[0].cut = 10 }, []string{"h1 10 bytes", "h3", "h2", "h3"}},
			"the first is away":        {[]int{1, 2}, func(d []*depot) { d[0].does(d[0].refuses) }, []string{"h2", "h3", "h2", "h3"}},
			"the first has no ranges":  {[]int{1, 2}, func(d []*depot) { d[0].whole = true }, []string{"h1", "h3", "h2", "h3"}},
			"the fallbacks break off":  {[]int{1, 2}, func(d []*depot) { d[1].cut, d[2].cut = 10, 10 }, []string{"h1", "h1", "h1", "h1"}},
			"nobody but a fallback is": {[]int{2}, func(d []*depot) { d[0].does(d[0].refuses); d[1].does(d[1].refuses) }, []string{"h3", "h3", "h3"}},
		} {
			r, list := depots(t, fanout.Options{}, 3, x.fallbacks...)
			if x.change != nil {
				x.change(list)
			}
			t.Log(name)
			s := source(t, r)
			for i, want := range x.want {
				is(t, stretch(t, s, int64(100*i)), want)
			}
			r.Close()
		}
	})
}

// A download that has begun asks on where it came from, if that is limited or refuses
// connections because of what others met; one that begins does not.
func TestBegunGoesOn(t *testing.T) {
	for name, x := range map[string]struct {
		does        func(h *host) func(context.Context, string) error
		begun, anew string
	}{
		"limited":  {func(h *host) func(context.Context, string) error { return h.status(429, time.Hour) }, "h1", "429"},
		"refuses":  {func(h *host) func(context.Context, string) error { return h.refuses }, "h1", "silence"},
		"swallows": {func(h *host) func(context.Context, string) error { return h.swallows }, "timeout", "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, list := depots(t, fanout.Options{}, 1)
				list[0].pings(list[0].never)
				s := source(t, r)
				is(t, stretch(t, s, 0), "h1")
				list[0].does(x.does(list[0].host))
				r.head(t.Context(), "a")
				list[0].does(nil)
				// Who begins comes first: an answer ends an outage.
				is(t, stretch(t, source(t, r), 0), x.anew)
				is(t, stretch(t, s, 100), x.begun)
			})
		})
	}
}

// What is limited for the download itself, it does not ask on.
func TestLimitedItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, list := depots(t, fanout.Options{}, 1)
		s := source(t, r)
		is(t, stretch(t, s, 0), "h1")
		list[0].does(list[0].status(429, time.Minute))
		is(t, stretch(t, s, 100), "429")
		list[0].does(nil)
		is(t, stretch(t, s, 100), "429")
		r.asks("0+100 100+100")
		time.Sleep(time.Minute)
		is(t, stretch(t, s, 100), "h1")
	})
}

// Of two that were asked the loser's body is closed, also when it answered at the same
// moment; the winner's lives until it is closed, however long the budget is over.
func TestLosersBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			r, list := depots(t, fanout.Options{HedgeAfter: time.Second}, 2)
			list[0].does(slow(2 * time.Second))
			list[1].does(slow(time.Second))
			b, err := r.Blob(t.Context(), origintest.Repo(t, "a"), digest.FromString("blob"), store.Range{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := list[0].open + list[1].open; n != 1 {
				t.Fatalf("%d bodies are open", n)
			}
			if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, list[0].data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err := b.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A range that does not exist is an answer: nobody else is asked, nobody is blamed.
func TestRangeError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := depots(t, fanout.Options{}, 2)
		_, err := r.Stretch(t.Context(), origintest.Repo(t, "a"), digest.FromString("blob"), store.Range{Off: 2000})
		if !errors.Is(err, store.ErrRange) {
			t.Errorf("%v", err)
		}
		r.asks("2000+0", "")
		r.turns()
	})
}
