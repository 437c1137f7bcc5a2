package remote_test

import (
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/store"
)

// open is a client of an upstream.
func open(t *testing.T, at *url.URL, change ...func(*remote.Options)) *remote.Registry {
	t.Helper()
	o := remote.Options{URL: at, UserAgent: "weir/test"}
	for _, f := range change {
		f(&o)
	}
	r, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func as(username, password string) func(*remote.Options) {
	return func(o *remote.Options) {
		o.Login = login.Static(username, func() (string, error) { return password, nil })
	}
}

func repo(t *testing.T, s string) origin.Repo {
	t.Helper()
	r, err := origin.ParseRepo(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ref(t *testing.T, s string) origin.Ref {
	t.Helper()
	r, err := origin.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// upstreamError fails the test unless err is an upstream's.
func upstreamError(t *testing.T, err error) *origin.UpstreamError {
	t.Helper()
	e, ok := errors.AsType[*origin.UpstreamError](err)
	if !ok {
		t.Fatalf("not an upstream's error: %v", err)
	}
	return e
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func readBlob(t *testing.T, r *remote.Registry, in origin.Repo, d digest.Digest) string {
	t.Helper()
	b, err := r.Blob(t.Context(), in, d, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Body.Close()
	body, err := io.ReadAll(b.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
