package view_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/ui/view"
)

// image is a repository with one tag, what that names, and one blob.
type image struct {
	here
	config []byte
}

func (image) Tags(context.Context, origin.Repo, origin.Page) (origin.List[string], error) {
	return origin.List[string]{Items: []string{"v1"}}, nil
}

func (i image) Resolve(context.Context, origin.Repo, origin.Ref) (origin.Descriptor, error) {
	return i.manifest.Descriptor, nil
}

func (i image) Blob(context.Context, origin.Repo, digest.Digest, store.Range) (origin.Blob, error) {
	return origin.Blob{Length: int64(len(i.config)), Body: io.NopCloser(bytes.NewReader(i.config))}, nil
}

func (image) Pulled(context.Context, origin.Repo) (func(origin.Ref, origin.Manifest, origin.Content) time.Time, error) {
	return func(origin.Ref, origin.Manifest, origin.Content) time.Time { return time.Time{} }, nil
}

// viewOf is a view of an image, or an index, as those say who made it.
func viewOf(t *testing.T, mediaType string, manifest any, config []byte) *view.View {
	t.Helper()
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	i := image{here{manifest: origin.Manifest{Bytes: text, Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{
		MediaType: mediaType, Digest: digest.FromBytes(text), Size: int64(len(text)),
	}}}}, config}
	return view.New(view.Options{
		Here: i, Guard: guard.New(i, &rights{}, guard.Options{}),
		Locate: func(_ context.Context, repo origin.Repo) (origin.Repo, string, error) { return repo, "", nil },
	})
}

func imageWith(config []byte, layers int, annotations map[string]string) v1.Manifest {
	m := v1.Manifest{Annotations: annotations}
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	for i := range layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
	}
	return m
}

// Each list that an image has is shown in part where it is long, and the image says so; what
// is shown of it is in the order of the image, or of the names.
func TestImagesAreBounded(t *testing.T) {
	for n, want := range map[int]int{5: 5, 1000: 1000, 1001: 1000} {
		names, set, list := map[string]string{}, map[string]struct{}{}, []string{}
		var history []v1.History
		for i := range n {
			name := fmt.Sprintf("%05d", i)
			names[name], set[name], list = "", struct{}{}, append(list, name)
			history = append(history, v1.History{CreatedBy: name})
		}
		config, err := json.Marshal(v1.Image{History: history, Config: v1.ImageConfig{
			Env: list, Cmd: list, Entrypoint: list, ExposedPorts: set, Volumes: set, Labels: names,
		}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := viewOf(t, v1.MediaTypeImageManifest, imageWith(config, n, names), config).Manifest(t.Context(), "team/app", tag(t, "v1"))
		if err != nil || m.Config == nil || !m.Config.Read {
			t.Fatalf("of %d: %+v, %v", n, m, err)
		}
		last := fmt.Sprintf("%05d", want-1)
		for what, shown := range map[string][]string{"env": m.Config.Env, "cmd": m.Config.Cmd, "entrypoint": m.Config.Entrypoint, "ports": m.Config.ExposedPorts, "volumes": m.Config.Volumes} {
			if len(shown) != want || shown[want-1] != last {
				t.Errorf("of %d, %d: %s", n, len(shown), what)
			}
		}
		for what, shown := range map[string]map[string]string{"labels": m.Config.Labels, "annotations": m.Annotations} {
			if _, ok := shown[last]; len(shown) != want || !ok {
				t.Errorf("of %d, %d: %s", n, len(shown), what)
			}
		}
		if len(m.Layers) != want || len(m.History) != want || m.History[want-1].Layer != want-1 || m.Shortened != (n > want) {
			t.Errorf("of %d, %d layers and %d steps, shortened %v", n, len(m.Layers), len(m.History), m.Shortened)
		}
	}
}

// A time that is none of the years that JSON has is not known.
func TestTimes(t *testing.T) {
	for said, want := range map[string]string{
		"9999-12-31T23:59:59Z":      "9999-12-31T23:59:59Z",
		"9999-12-31T23:59:59-01:00": "",
		"0000-01-01T00:00:00Z":      "0000-01-01T00:00:00Z",
		"0000-01-01T00:00:00+01:00": "",
		"2026-11-28T07:00:00+01:00": "2026-11-28T06:00:00Z",
	} {
		config := fmt.Appendf(nil, `{"created":%q,"history":[{"created":%q}]}`, said, said)
		m, err := viewOf(t, v1.MediaTypeImageManifest, imageWith(config, 1, nil), config).Manifest(t.Context(), "team/app", tag(t, "v1"))
		if err != nil || !m.Config.Read || len(m.History) != 1 {
			t.Fatalf("%s: %+v, %v", said, m, err)
		}
		text, err := json.Marshal(m)
		if n := strings.Count(string(text), `"created":"`+want+`"`); err != nil || (n == 2) != (want != "") || (m.Created == nil) != (want == "") {
			t.Errorf("%s: %s, %v", said, text, err)
		}
	}
}

// A config of more than 1 MiB is not read.
func TestLargeConfig(t *testing.T) {
	for size, read := range map[int]bool{1 << 20: true, 1<<20 + 1: false} {
		config := []byte(`{"os":"linux","architecture":"arm64","author":"`)
		config = append(append(config, bytes.Repeat([]byte("a"), size-len(config)-2)...), `"}`...)
		v := viewOf(t, v1.MediaTypeImageManifest, imageWith(config, 1, nil), config)
		if m, err := v.Manifest(t.Context(), "team/app", tag(t, "v1")); err != nil || m.Config.Read != read {
			t.Errorf("of %d bytes: read %v, %v", size, m.Config.Read, err)
		}
		list, err := v.Tags(t.Context(), "team/app", "", origin.Page{N: 1})
		if err != nil || len(list.Items) != 1 || (len(list.Items[0].Platforms) == 1) != read {
			t.Errorf("of %d bytes: %+v, %v", size, list, err)
		}
	}
}

// A list of tags takes a platform from a config, and not a third of a million variables.
func TestTagsCostLittle(t *testing.T) {
	config := []byte(`{"os":"linux","architecture":"arm64","variant":"v8","config":{"Env":["a"` + strings.Repeat(`,""`, 340_000) + `]}}`)
	v := viewOf(t, v1.MediaTypeImageManifest, imageWith(config, 1, nil), config)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	list, err := v.Tags(t.Context(), "team/app", "", origin.Page{N: 1})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err != nil || len(list.Items) != 1 || took > 12*uint64(len(config)) {
		t.Errorf("%d bytes for %d; %v", took, len(config), err)
	} else if p := list.Items[0].Platforms; len(p) != 1 || p[0] != "linux/arm64/v8" {
		t.Errorf("platforms %v", p)
	}
}

// What an upstream vouches for says what it likes: a list shows as much of it as names
// have.
func TestTagsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	index := v1.Index{ArtifactType: long}
	for i := range 300 {
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Platform: &v1.Platform{OS: "linux", Architecture: fmt.Sprintf("a%d", i)},
		})
	}
	index.Manifests[0].Platform.Variant = long
	list, err := viewOf(t, v1.MediaTypeImageIndex, index, nil).Tags(t.Context(), "team/app", "", origin.Page{N: 1})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	text, err := json.Marshal(list.Items[0])
	if err != nil || len(text) > 10<<10 || len(list.Items[0].Platforms) != 100 || list.Items[0].Platforms[0] != "linux/a1" || len(list.Items[0].ArtifactType) != 255 {
		t.Errorf("%d bytes, %.200s, %v", len(text), text, err)
	}
}

func tag(t *testing.T, name string) origin.Ref {
	t.Helper()
	ref, err := origin.ParseTag(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
