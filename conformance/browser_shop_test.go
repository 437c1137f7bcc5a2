//go:build browser

package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// annsHash is of the password "secret".
func annsHash() string { return basic.NewHash("secret").Text() }

// slowUpstream has an image of which one layer comes when it is let.
type slowUpstream struct {
	*remotetest.Upstream
	img remotetest.Image
}

func newSlowUpstream(t *testing.T) *slowUpstream {
	u := remotetest.New(t)
	u.Fault("", remotetest.Header("Ratelimit-Limit", "100;w=21600"))
	u.Fault("", remotetest.Header("Ratelimit-Remaining", "76;w=21600"))
	return &slowUpstream{u, u.AddImage("library/nginx", "1.27", noise(7, 8<<20), noise(8, 3<<20))}
}

func (u *slowUpstream) layer() string {
	return "/v2/docker.io/library/nginx/blobs/" + u.img.Layers[0].Digest.String()
}

// second is where the other layer of its image is.
func (u *slowUpstream) second() string {
	return "/v2/docker.io/library/nginx/blobs/" + u.img.Layers[1].Digest.String()
}

// hold has the layer come half way and no further.
func (u *slowUpstream) hold() *remotetest.Gate {
	return u.GateAt("/blobs/"+u.img.Layers[0].Digest.String(), 300<<10)
}

// deaf is a receiver of events that takes none.
func deaf(t *testing.T) string {
	l := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(l.Close)
	return l.URL
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b) // never fails
	return b
}

// shop is a weir that people push to.
type shop struct {
	t    *testing.T
	base string
}

// send sends a request as ann if it has no cookie, and gives its status. headers are keys and
// values in turn.
func (s *shop) send(method, path, body string, headers ...string) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if req.Header.Get("Cookie") == "" {
		req.SetBasicAuth("ann", "secret")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// pull gets a blob, of which somebody waits for the first byte.
func (s *shop) pull(path string) error {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("pull: %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (s *shop) blob(repo, mediaType string, b []byte) v1.Descriptor {
	s.t.Helper()
	d := digest.FromBytes(b)
	if status := s.send(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), string(b), "Content-Type", "application/octet-stream"); status != http.StatusCreated {
		s.t.Fatalf("blob: %d", status)
	}
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (s *shop) push(repo, tag, mediaType string, manifest any) v1.Descriptor {
	s.t.Helper()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(manifest); err != nil {
		s.t.Fatal(err)
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(text.Bytes()), Size: int64(text.Len())}
	if tag == "" {
		tag = d.Digest.String()
	}
	if status := s.send(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, text.String(), "Content-Type", mediaType); status != http.StatusCreated {
		s.t.Fatalf("manifest: %d", status)
	}
	return d
}

// image pushes an image whose texts are made by say.
func (s *shop) image(repo, tag, arch string, annotations map[string]string, config v1.ImageConfig, history []v1.History, sizes ...int) v1.Descriptor {
	s.t.Helper()
	created := time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC)
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}, Annotations: annotations}
	text, err := json.Marshal(v1.Image{Created: &created, Author: config.StopSignal, Platform: v1.Platform{OS: "linux", Architecture: arch}, Config: config, History: history})
	if err != nil {
		s.t.Fatal(err)
	}
	m.Config = s.blob(repo, v1.MediaTypeImageConfig, text)
	for i, size := range sizes {
		m.Layers = append(m.Layers, s.blob(repo, v1.MediaTypeImageLayerGzip, noise(uint64(i), size)))
	}
	d := s.push(repo, tag, m.MediaType, m)
	d.Platform = &v1.Platform{OS: "linux", Architecture: arch}
	return d
}

func (s *shop) index(repo, tag string, of ...v1.Descriptor) v1.Descriptor {
	s.t.Helper()
	return s.push(repo, tag, v1.MediaTypeImageIndex, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: of})
}

func (s *shop) artifact(repo, kind string, subject v1.Descriptor, annotations map[string]string) {
	s.t.Helper()
	empty := s.blob(repo, v1.MediaTypeEmptyJSON, []byte("{}"))
	subject.Platform = nil
	s.push(repo, "", v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: kind,
		Config: empty, Layers: []v1.Descriptor{empty}, Subject: &subject, Annotations: annotations,
	})
}

// stock pushes what there is to see.
func (s *shop) stock() {
	s.t.Helper()
	config := v1.ImageConfig{
		User: "65532", Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "APP_ENV=production", "LANG=C.UTF-8"},
		Entrypoint: []string{"/usr/local/bin/app", "serve"}, Cmd: []string{"--listen", ":8080"}, WorkingDir: "/srv", ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		Labels: map[string]string{v1.AnnotationSource: "https://git.example/team/app", v1.AnnotationVersion: "1.2.0"},
	}
	history := []v1.History{
		{CreatedBy: "/bin/sh -c #(nop) ADD file:3f9a in / "},
		{CreatedBy: `/bin/sh -c #(nop)  CMD ["bash"]`, EmptyLayer: true},
		{CreatedBy: "RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata && rm -rf /var/lib/apt/lists/* # buildkit", Comment: "buildkit.dockerfile.v0"},
		{CreatedBy: "COPY app /usr/local/bin/app # buildkit"},
		{CreatedBy: "COPY static /srv/static # buildkit"},
		{CreatedBy: "USER 65532", EmptyLayer: true},
		{CreatedBy: `ENTRYPOINT ["/usr/local/bin/app" "serve"]`, EmptyLayer: true},
	}
	for _, repo := range []string{"team/app", "team/worker", "team/frontend", "platform/base", "platform/tools/lint", "data/etl"} {
		for i, tag := range []string{"old", "1.0.0", "1.1.0", "latest"} {
			config.Labels[v1.AnnotationVersion] = tag
			annotations := map[string]string{v1.AnnotationTitle: repo, v1.AnnotationRevision: "9f2c1e7"}
			sizes := []int{300_000 + i, 1_200_000, 40_000, 90_000}
			amd := s.image(repo, "", "amd64", annotations, config, history, sizes...)
			s.index(repo, tag, amd, s.image(repo, "", "arm64", annotations, config, history, sizes...))
			for _, kind := range []string{"application/vnd.dev.sigstore.bundle.v0.3+json", "application/spdx+json", "application/vnd.in-toto+json"} {
				s.artifact(repo, kind, amd, nil)
			}
			if repo != "team/app" {
				break
			}
		}
	}
	if status := s.send(http.MethodHead, "/v2/team/app/manifests/latest", ""); status != http.StatusOK {
		s.t.Errorf("pull: %d", status)
	}
	if status := s.send(http.MethodGet, "/v2/docker.io/library/nginx/manifests/1.27", ""); status != http.StatusOK {
		s.t.Errorf("pull through: %d", status)
	}
}

// beBusy pulls a layer twice, which is mirrored, begins an upload, and pushes what somebody
// would be told of, and is not.
func (s *shop) beBusy(up *slowUpstream) {
	s.t.Helper()
	for range 2 {
		if err := s.pull(up.second()); err != nil {
			s.t.Fatal(err)
		}
		until(s.t, "the layer is kept", func() bool { return !strings.Contains(s.get("/v2/_ext/fills"), up.second()[len(up.second())-64:]) })
	}
	s.push("live/app", "v1", v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: s.blob("live/app", v1.MediaTypeEmptyJSON, []byte("{}")), Layers: []v1.Descriptor{},
	})
	until(s.t, "the event was sent in vain", func() bool { return strings.Contains(s.get("/v2/_ext/events"), "answered 503") })
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.base+"/v2/live/upload/blobs/uploads/", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth("ann", "secret")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		s.t.Fatal(err)
	}
	if status := s.send(http.MethodPatch, to.RequestURI(), "begun", "Content-Type", "application/octet-stream"); status != http.StatusAccepted {
		s.t.Fatalf("upload: %d", status)
	}
}

// get gets what there is to be read.
func (s *shop) get(path string) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.base+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// evil is what would run if it were not text.
const evil = `"'><script>window.ran=1</script><img src=x onerror="window.ran=1"><b id=evil>`

// evils are texts that would be more than that where they stood in elements, attributes,
// addresses, templates or comments as they are.
func evils() []string {
	return []string{
		evil, `<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `</title><svg onload=alert(1)>`,
		`{{.}}`, "--><b id=x>", `</textarea><iframe src="//evil">`, "\"\x00<b id=x>", `&lt;script&gt;`, "`${alert(1)}`", `//evil.example/`,
	}
}

// stockEvil pushes an image all of whose texts are one, as far as anybody may push that, and
// has the rest come from an upstream.
func (s *shop) stockEvil(up *slowUpstream, repo, text string) {
	s.t.Helper()
	pairs := map[string]string{text: text, v1.AnnotationTitle: text, "javascript:window.ran=1": "javascript:window.ran=1"}
	config := v1.ImageConfig{
		User: text, Env: []string{text}, Entrypoint: []string{text}, Cmd: []string{text}, WorkingDir: text, StopSignal: text, Labels: pairs,
		ExposedPorts: map[string]struct{}{text: {}}, Volumes: map[string]struct{}{text: {}},
	}
	img := s.image(repo, "image", text, pairs, config, []v1.History{{CreatedBy: text, Comment: text}, {CreatedBy: "RUN " + text}}, 10)
	img.Annotations = pairs
	s.index(repo, "index", img)

	// What is pushed has types with parameters that say anything, and what is mirrored has any.
	kind := mime.FormatMediaType("application/x", map[string]string{"a": text})
	s.artifact(repo, kind, img, pairs)
	layer := s.blob(repo, kind, []byte("layer"))
	layer.Annotations = pairs
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: kind,
		Config: s.blob(repo, kind, []byte("{}")), Layers: []v1.Descriptor{layer}, Annotations: pairs,
	}
	s.push(repo, "types", m.MediaType, m)
	m.ArtifactType, m.Config.MediaType, m.Layers[0].MediaType = text, text, text
	b, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	up.AddManifest(repo, m.MediaType, b, "v1")
	if status := s.send(http.MethodGet, "/v2/docker.io/"+repo+"/manifests/v1", ""); status != http.StatusOK {
		s.t.Fatalf("%q is not mirrored: %d", text, status)
	}
}
