package ui_test

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

// fake shows one of everything, of which each text is text.
type fake struct {
	text    string
	raw     string // "": text
	many    int    // of each entry of a list of an image; 0: one
	deleted []string
	err     error // of all
	fills   func() []view.Fill
}

func (f *fake) digest() digest.Digest { return digest.FromString(f.text) }

func (f *fake) Repositories(context.Context, string, origin.Page) (origin.List[view.Repository], error) {
	return origin.List[view.Repository]{Items: []view.Repository{{Name: f.text, Upstream: f.text}}, More: true, Next: f.text}, f.err
}

func (f *fake) Tags(context.Context, string, string, origin.Page) (origin.List[view.Tag], error) {
	now := time.Now()
	return origin.List[view.Tag]{Items: []view.Tag{{
		Name: f.text, Digest: f.digest(), MediaType: f.text, ArtifactType: f.text, Size: 5, Platforms: []string{f.text}, PushedAt: &now, LastPulledAt: &now,
	}}, More: true, Next: f.text}, f.err
}

func (f *fake) Manifest(_ context.Context, repository string, _ origin.Ref) (view.Manifest, error) {
	pairs := map[string]string{f.text: f.text, v1.AnnotationTitle: f.text}
	now, n := time.Now(), max(1, f.many)
	return view.Manifest{
		Repository: repository, Upstream: f.text, Digest: f.digest(), MediaType: f.text, Size: 7, ArtifactType: f.text, Subject: f.digest(),
		Annotations: pairs, Platform: f.text, Created: &now,
		Config: &view.Config{
			Digest: f.digest(), Read: true, Author: f.text, User: f.text, WorkingDir: f.text, StopSignal: f.text, Entrypoint: slices.Repeat([]string{f.text}, n), Cmd: slices.Repeat([]string{f.text}, n),
			Env: slices.Repeat([]string{f.text}, n), ExposedPorts: slices.Repeat([]string{f.text}, n), Volumes: slices.Repeat([]string{f.text}, n), Labels: pairs,
		},
		Layers:    slices.Repeat([]view.Layer{{Digest: f.digest(), MediaType: f.text, Size: 9, Annotations: pairs}}, n),
		History:   slices.Repeat([]view.Step{{CreatedBy: f.text, Comment: f.text, Layer: 0}, {CreatedBy: "RUN " + f.text, Layer: -1}}, n),
		Manifests: slices.Repeat([]view.Child{{Digest: f.digest(), MediaType: f.text, ArtifactType: f.text, Platform: f.text, Annotations: pairs, Here: true}}, n),
		Shortened: true,
	}, f.err
}

func (f *fake) RawManifest(context.Context, string, origin.Ref) (origin.Manifest, error) {
	return origin.Manifest{Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{Digest: f.digest()}}, Bytes: []byte(cmp.Or(f.raw, f.text))}, f.err
}

func (f *fake) Referrers(context.Context, string, digest.Digest, origin.Page) (origin.List[view.Referrer], error) {
	return origin.List[view.Referrer]{Items: []view.Referrer{{Digest: f.digest(), MediaType: f.text, ArtifactType: f.text}}, More: true, Next: f.text}, f.err
}

func (f *fake) Blob(context.Context, string, digest.Digest) (origin.Blob, error) {
	return origin.Blob{Length: int64(len(f.text)), Body: io.NopCloser(strings.NewReader(f.text))}, f.err
}

func (f *fake) MayDelete(context.Context, string, origin.Ref) bool { return true }

func (f *fake) Delete(ctx context.Context, repository string, ref origin.Ref) error {
	f.deleted = append(f.deleted, guard.Who(ctx).ID+" "+repository+" "+ref.String())
	return f.err
}

func (f *fake) Fills(context.Context, origin.Page) (origin.List[view.Fill], error) {
	if f.fills != nil {
		return origin.List[view.Fill]{Items: f.fills()}, f.err
	}
	size := int64(10)
	return origin.List[view.Fill]{Items: []view.Fill{{Upstream: f.text, Endpoint: f.text, Repository: f.text, Digest: f.digest(), Size: &size, Received: 3, Followers: 1}}}, f.err
}

func (f *fake) Uploads(context.Context, origin.Page) (origin.List[view.Upload], error) {
	return origin.List[view.Upload]{Items: []view.Upload{{Repository: f.text, StartedAt: time.Now(), UpdatedAt: time.Now()}}}, f.err
}

func (f *fake) Events(context.Context, origin.Page) (origin.List[view.Event], error) {
	return origin.List[view.Event]{Items: []view.Event{{Receiver: f.text, Type: f.text, Repository: f.text, Tag: f.text, State: view.Dead, Error: f.text}}}, f.err
}

func (f *fake) Upstreams(context.Context) (view.Upstreams, error) {
	limit := 5
	until := time.Now()
	h := view.NewHistory()
	h.MirrorRequest(f.text, "blob", "hit")
	h.ServedBytes(f.text, 100)
	peers := []view.Peer{{Advertise: f.text, Version: f.text, Started: time.Now(), Heard: time.Now()}}
	return view.Upstreams{
		Upstreams: []view.Upstream{{
			Name: f.text, Default: true, Day: h.Day(f.text),
			Endpoints: []view.Endpoint{{Host: f.text, Up: true, Latency: 3, LimitedUntil: &until, Limit: &limit, Remaining: &limit}},
		}},
		State: view.State{
			Version: f.text, Cache: &view.Cache{Known: true, Bytes: 5, Most: 10, Disk: &view.Disk{Free: 5, Total: 20}},
			Replica: view.Replica{Advertise: f.text, Others: peers},
		},
	}, f.err
}

func (f *fake) Explain(context.Context, string) (origin.Explanation, error) {
	return origin.Explanation{
		Image: f.text, Repository: f.text, Route: f.text, Upstream: f.text, Endpoints: []origin.ExplainedEndpoint{{Host: f.text}}, Reference: f.text,
		Tag:      &origin.ExplainedTag{Digest: f.digest(), Endpoint: f.text, Age: f.text, TTL: f.text, Why: f.text},
		Manifest: &origin.ExplainedManifest{Digest: f.digest(), MediaType: f.text, Cached: true}, Manifests: []origin.ExplainedManifest{{Digest: f.digest(), Platform: f.text}},
		Blobs: []origin.ExplainedBlob{{Digest: f.digest(), MediaType: f.text, Where: f.text, Endpoint: f.text, Received: 1}},
	}, f.err
}

func (f *fake) Rights(ctx context.Context, repository string) (view.Rights, error) {
	return view.Rights{Who: guard.Who(ctx), Repository: repository, May: map[authz.Action]bool{authz.List: true, authz.Pull: true, authz.Admin: true, authz.Push: false}}, f.err
}

func (f *fake) Config(context.Context) ([]byte, error) { return []byte(f.text), f.err }
