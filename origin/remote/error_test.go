package remote_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

func TestStatusesKeepTheirMeaning(t *testing.T) {
	outage := (*origin.UpstreamError).Outage
	tests := []struct {
		fault  remotetest.Fault
		is     func(*origin.UpstreamError) bool
		client int
	}{
		{remotetest.Status(404), (*origin.UpstreamError).NotThere, 404},
		{remotetest.Status(410), (*origin.UpstreamError).NotThere, 404},
		{remotetest.Status(401), (*origin.UpstreamError).Denied, 404},
		{remotetest.Status(403), (*origin.UpstreamError).Denied, 404},
		{remotetest.Status(429, "Retry-After", "120"), func(e *origin.UpstreamError) bool {
			return e.Limited() && e.RetryAfter == 2*time.Minute
		}, 503},
		{remotetest.Status(400), outage, 502},
		{remotetest.Status(500), outage, 502},
		{remotetest.Status(503, "Retry-After", "1"), func(e *origin.UpstreamError) bool {
			return e.Outage() && e.RetryAfter == time.Second
		}, 502},
	}
	x := repo(t, "x")
	d := digest.FromString("a")
	for _, test := range tests {
		u := remotetest.New(t)
		u.Fault("/v2/x/", test.fault)
		r := open(t, u.URL())
		for name, ask := range map[string]struct {
			do      func(context.Context) error
			missing error
		}{
			"Resolve":   {func(ctx context.Context) error { _, err := r.Resolve(ctx, x, ref(t, "1")); return err }, origin.ErrManifestUnknown},
			"Manifest":  {func(ctx context.Context) error { _, err := r.Manifest(ctx, x, ref(t, "1")); return err }, origin.ErrManifestUnknown},
			"Stat":      {func(ctx context.Context) error { _, err := r.Stat(ctx, x, d); return err }, origin.ErrBlobUnknown},
			"Blob":      {func(ctx context.Context) error { _, err := r.Blob(ctx, x, d, store.Range{}); return err }, origin.ErrBlobUnknown},
			"Tags":      {func(ctx context.Context) error { _, err := r.Tags(ctx, x, origin.Page{N: 1}); return err }, origin.ErrNameUnknown},
			"Referrers": {func(ctx context.Context) error { _, err := r.Referrers(ctx, x, d, "", origin.Page{N: 1}); return err }, origin.ErrNameUnknown},
		} {
			u.Take()
			err := ask.do(t.Context())
			log := u.Take()
			what := fmt.Sprintf("%s, %s", name, log[len(log)-1])
			if name == "Referrers" && test.client == 404 && err == nil {
				continue // asked by the tag in their place, and it is not there either
			}
			if e := upstreamError(t, err); !test.is(e) || e.Endpoint != u.Host() || e.Timeout {
				t.Errorf("%s: %v", what, err)
			}
			client, ok := errors.AsType[*origin.Error](err)
			if !ok || client.HTTPStatus() != test.client || origin.Unknown(err) != (test.client == 404) {
				t.Errorf("%s: the client is told %v", what, client)
			}
			if test.client == 404 && !errors.Is(err, ask.missing) {
				t.Errorf("%s: %v", what, err)
			}
			gone, leave := context.WithCancel(t.Context())
			leave()
			if err := ask.do(gone); err != context.Canceled {
				t.Errorf("%s: who left is told %v", name, err)
			}
		}
	}
}

func TestNobodyThere(t *testing.T) {
	u := remotetest.New(t)
	at := u.URL()
	at.Host = "127.0.0.1:1"
	var statuses []int
	r := open(t, at, func(o *remote.Options) { o.OnRequest = func(status int) { statuses = append(statuses, status) } })
	_, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1"))
	if e := upstreamError(t, err); !e.Outage() || e.Status != 0 || e.Timeout {
		t.Error(err)
	}
	if !reflect.DeepEqual(statuses, []int{0}) {
		t.Errorf("observed %v", statuses)
	}
}

func TestObserved(t *testing.T) {
	u := remotetest.New(t)
	d := u.AddBlob("x", []byte("12345")).Digest
	var statuses []int
	var read int64
	r := open(t, u.URL(), func(o *remote.Options) {
		o.OnRequest = func(status int) { statuses = append(statuses, status) }
		o.OnBytes = func(n int64) { read += n }
	})
	readBlob(t, r, repo(t, "x"), d)
	if !reflect.DeepEqual(statuses, []int{200, 200}) || read != 5 {
		t.Errorf("observed %v, %d bytes", statuses, read)
	}
}
