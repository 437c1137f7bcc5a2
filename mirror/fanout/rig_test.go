package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// host is an endpoint in this process: what it answers to a HEAD of a manifest, a log
// of what it was asked, and whether it answers probes.
type host struct {
	origin.None
	name string

	mu     sync.Mutex
	answer func(ctx context.Context, ref string) error // nil: it has it
	ping   func(ctx context.Context) error             // nil: it is there
	log    []string
	cut    int // questions that were cut off
}

func newHost(name string) *host { return &host{name: name} }

func (h *host) does(answer func(ctx context.Context, ref string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

func (h *host) pings(ping func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ping = ping
}

// took gives what was asked since it was last called.
func (h *host) took() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := strings.Join(h.log, " ")
	h.log = nil
	return log
}

func (h *host) asked(what string) func(ctx context.Context, ref string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, what)
	return h.answer
}

// Ping implements fanout.Pinger.
func (h *host) Ping(ctx context.Context) error {
	h.asked("ping")
	h.mu.Lock()
	ping := h.ping
	h.mu.Unlock()
	if ping == nil {
		return nil
	}
	return ping(ctx)
}

func (h *host) Resolve(ctx context.Context, _ origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if answer := h.asked(ref.String()); answer != nil {
		if err := answer(ctx, ref.String()); err != nil {
			if ctx.Err() != nil {
				h.mu.Lock()
				h.cut++
				h.mu.Unlock()
			}
			return origin.Descriptor{}, err
		}
	}
	return origin.Descriptor{
		Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(ref.String()), Size: 2},
		Source:     origin.Source{Upstream: h.name},
	}, nil
}

func (h *host) error(status int, change ...func(*origin.UpstreamError)) *origin.UpstreamError {
	e := &origin.UpstreamError{Endpoint: h.name, Status: status, Err: origin.ErrUnavailable}
	for _, c := range change {
		c(e)
	}
	return e
}

// The ways to answer.

func (h *host) status(code int, after time.Duration) func(context.Context, string) error {
	return func(context.Context, string) error {
		return h.error(code, func(e *origin.UpstreamError) { e.RetryAfter = after })
	}
}

// refuses is what an endpoint does to which nothing can be connected, at once.
func (h *host) refuses(context.Context, string) error {
	return h.error(0, func(e *origin.UpstreamError) { e.Silent = true })
}

// swallows is what a black hole does: after a time nothing was connected.
func (h *host) swallows(ctx context.Context, _ string) error {
	if err := wait(ctx, 5*time.Second); err != nil {
		return err
	}
	return h.error(0, func(e *origin.UpstreamError) { e.Silent, e.Timeout = true, true })
}

// never answers a probe.
func (h *host) never(ctx context.Context) error { return h.hangs(ctx, "") }

// hangs never answers.
func (h *host) hangs(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// slow has it after a time.
func slow(d time.Duration) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error { return wait(ctx, d) }
}

// late answers after a time with what answer says.
func late(d time.Duration, answer func(context.Context, string) error) func(context.Context, string) error {
	return func(ctx context.Context, ref string) error {
		if err := wait(ctx, d); err != nil {
			return err
		}
		return answer(ctx, ref)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rig is a Fanout of hosts, and what its meter was told.
type rig struct {
	*fanout.Fanout
	t     testing.TB
	hosts []*host

	mu sync.Mutex
	up []string
}

func newRig(t testing.TB, n int, opts fanout.Options) *rig {
	r := &rig{t: t}
	var endpoints []fanout.Endpoint
	for i := range n {
		h := newHost(fmt.Sprintf("h%d", i+1))
		r.hosts = append(r.hosts, h)
		endpoints = append(endpoints, fanout.Endpoint{Host: h.name, Reader: h})
	}
	r.Fanout = fanout.New("docker.io", endpoints, opts, r)
	t.Cleanup(r.Close)
	return r
}

func (r *rig) EndpointUp(_, endpoint string, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = append(r.up, fmt.Sprintf("%s %t", endpoint, up))
}

func (r *rig) RateLimitRemaining(string, string, int) {}

// turns checks which endpoints went and came since New.
func (r *rig) turns(want ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := r.up[len(r.hosts):]; !slices.Equal(got, want) {
		r.t.Errorf("endpoints went %q, want %q", got, want)
	}
}

// head asks for a tag. It gives who answered, or what went wrong, and how long that
// took.
func (r *rig) head(ctx context.Context, tag string) string {
	r.t.Helper()
	begin := time.Now()
	d, err := r.Resolve(ctx, origintest.Repo(r.t, "library/nginx"), origintest.Ref(r.t, tag))
	return outcome(d.Source.Upstream, err) + " " + time.Since(begin).String()
}

func outcome(by string, err error) string {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	switch {
	case err == nil:
		return by
	case !ok:
		return err.Error()
	case ue.Timeout:
		return "timeout"
	case ue.Status == 0:
		return "silence"
	default:
		return fmt.Sprint(ue.Status)
	}
}

// asks checks who was asked what since the last time, host by host.
func (r *rig) asks(want ...string) {
	r.t.Helper()
	for i, h := range r.hosts {
		if got := h.took(); got != want[i] {
			r.t.Errorf("%s was asked %q, want %q", h.name, got, want[i])
		}
	}
}

// answers is asks without the probes.
func (r *rig) answers(want ...string) {
	r.t.Helper()
	for i, h := range r.hosts {
		if got := strings.TrimSpace(strings.ReplaceAll(h.took(), "ping", "")); got != want[i] {
			r.t.Errorf("%s was asked %q, want %q", h.name, got, want[i])
		}
	}
}

func is(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func repo(t testing.TB) origin.Repo { return origintest.Repo(t, "library/nginx") }

func tag(t testing.TB, s string) origin.Ref { return origintest.Ref(t, s) }
