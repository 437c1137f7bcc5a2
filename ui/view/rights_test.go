package view_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

// here has one manifest.
type here struct {
	origin.None
	manifest origin.Manifest
}

func (h here) Manifest(context.Context, origin.Repo, origin.Ref) (origin.Manifest, error) {
	return h.manifest, nil
}

// Repos is asked for names in vain.
func (h here) Repos(_ context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	if p.N > 0 {
		return origin.List[origin.Repo]{}, errors.New("names were asked for")
	}
	return origin.List[origin.Repo]{}, nil
}

func (h here) Tags(ctx context.Context, _ origin.Repo, p origin.Page) (origin.List[string], error) {
	_, err := h.Repos(ctx, p)
	return origin.List[string]{}, err
}

func (here) Tagged(context.Context, origin.Repo, string) (pushed, checked time.Time, err error) {
	return pushed, checked, nil
}

func (here) Pulled(context.Context, origin.Repo) (func(origin.Ref, origin.Manifest, origin.Content) time.Time, error) {
	return nil, errors.New("nobody asks")
}

// rights denies what is admin's to all, if it is told to, and counts.
type rights struct {
	admin bool
	asked int
}

func (r *rights) Authorize(_ context.Context, _ authz.Identity, what authz.Access) error {
	r.asked++
	if what.Action == authz.Admin && !r.admin {
		return &authz.Denial{By: "test"}
	}
	return nil
}

// at is an Activity of a replica that others find.
type at struct{ view.Activity }

func (at) Upstreams(context.Context) []view.Upstream { return nil }

func (at) State() view.State {
	return view.State{Version: "1", Replica: view.Replica{Advertise: "http://10.0.0.7:5000", Others: []view.Peer{{Advertise: "http://10.0.0.7:5000"}}}}
}

func newView(h here, r *rights) *view.View {
	return view.New(view.Options{
		Here: h, Guard: guard.New(h, r, guard.Options{}), Activity: at{},
		Locate: func(_ context.Context, repo origin.Repo) (origin.Repo, string, error) { return repo, "", nil },
	})
}

// The exact bytes of an index cost the decision on it, not those on all that it names.
func TestRawManifestAsksOnce(t *testing.T) {
	text := []byte(`{"schemaVersion":2,"mediaType":"` + v1.MediaTypeImageIndex + `","manifests":[` +
		`{"mediaType":"` + v1.MediaTypeImageManifest + `","digest":"` + digest.FromString("x").String() + `","size":1}]}`)
	h := here{manifest: origin.Manifest{Bytes: text, Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{
		MediaType: v1.MediaTypeImageIndex, Digest: digest.FromBytes(text), Size: int64(len(text)),
	}}}}
	r := &rights{}
	m, err := newView(h, r).RawManifest(t.Context(), "team/app", origin.ByDigest(h.manifest.Digest))
	if err != nil || string(m.Bytes) != string(text) || r.asked != 2 { // that, and the right to list
		t.Errorf("%d decisions, %v", r.asked, err)
	}
	r.asked = 0
	shown, err := newView(h, r).Manifest(t.Context(), "team/app", origin.ByDigest(h.manifest.Digest))
	if err != nil || len(shown.Manifests) != 1 || !shown.Manifests[0].Here || r.asked != 3 {
		t.Errorf("%d decisions, %+v, %v", r.asked, shown, err)
	}
}

// Where replicas find each other is shown to who may see the configuration.
func TestStateHidesAddresses(t *testing.T) {
	for admin, want := range map[bool]string{true: "http://10.0.0.7:5000", false: ""} {
		s, err := newView(here{}, &rights{admin: admin}).Upstreams(t.Context())
		if err != nil || s.Version != "1" || s.Replica.Advertise != want || s.Replica.Others[0].Advertise != want {
			t.Errorf("admin %v: %+v, %v", admin, s, err)
		}
	}
}

// Whoever asks for no item has no name looked at, searched for or not.
func TestNothingIsSearchedFor(t *testing.T) {
	v := newView(here{}, &rights{})
	for _, search := range []string{"", "a"} {
		if list, err := v.Repositories(t.Context(), search, origin.Page{}); err != nil || len(list.Items) > 0 || list.More {
			t.Errorf("repositories with %q: %+v, %v", search, list, err)
		}
		if list, err := v.Tags(t.Context(), "team/app", search, origin.Page{}); err != nil || len(list.Items) > 0 || list.More {
			t.Errorf("tags with %q: %+v, %v", search, list, err)
		}
	}
}

// letters are events of which one was given up: it is read where it is asked for.
type letters struct{ read int }

func (l *letters) Events(_ context.Context, dead bool) ([]view.Event, error) {
	list := []view.Event{{ID: "1", Repository: "team/app", State: view.Pending}}
	if dead {
		l.read++
		list = append(list, view.Event{ID: "2", Repository: "team/app", State: view.Dead})
	}
	return list, nil
}

// What was given up is the operator's, and not looked for where somebody else asks.
func TestDeadLettersAreTheOperators(t *testing.T) {
	for admin, want := range map[bool]int{true: 1, false: 0} {
		l := &letters{}
		v := view.New(view.Options{Events: l, Guard: guard.New(here{}, &rights{admin: admin}, guard.Options{})})
		list, err := v.Events(t.Context(), origin.Page{N: 10})
		if err != nil || len(list.Items) != 1+want || l.read != want {
			t.Errorf("admin %v: %+v, read %d times, %v", admin, list, l.read, err)
		}
	}
}
