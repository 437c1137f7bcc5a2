package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/ui/view"
)

// listener is a receiver of events. What it has is type, repository, tag and digest.
type listener struct {
	*httptest.Server
	t testing.TB

	mu      sync.Mutex
	closed  bool // it takes nothing
	got     []string
	byID    map[string]string
	changed chan struct{}
}

const eventSecret = "an-event-secret"

func newListener(t testing.TB) *listener {
	l := &listener{t: t, byID: map[string]string{}, changed: make(chan struct{})}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // weir was killed
	}
	mac := hmac.New(sha256.New, []byte(eventSecret))
	mac.Write([]byte(r.Header.Get("Weir-Timestamp") + "." + string(body)))
	if r.Header.Get("Weir-Signature") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		l.t.Errorf("%s is signed with %s", body, r.Header.Get("Weir-Signature"))
	}
	var e struct {
		ID, Type, Source string
		Data             struct{ Repository, Tag, Digest, Identity string }
	}
	if err := json.Unmarshal(body, &e); err != nil {
		l.t.Errorf("%s: %v", body, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	what := strings.Join([]string{strings.TrimPrefix(e.Type, "io.weir."), e.Data.Repository, e.Data.Tag, e.Data.Digest}, " ")
	if before, ok := l.byID[e.ID]; ok && before != what {
		l.t.Errorf("event %s was %s and is %s", e.ID, before, what)
	}
	l.byID[e.ID] = what
	l.got = append(l.got, what)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *listener) has(want string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.got, want)
}

func (l *listener) open(open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = !open
}

// config has weir tell it.
func (l *listener) config(more string) string {
	return fmt.Sprintf("\nevents: [{name: ci, url: %q, secret: %q%s}]\n", l.URL, eventSecret, more)
}

// pushEmpty pushes a manifest without layers, and gives it.
func pushEmpty(t testing.TB, r origin.Registry, repo origin.Repo, n int, tag string) (origin.Manifest, error) {
	t.Helper()
	config := fmt.Appendf(nil, `{"n":%d}`, n)
	d := digest.FromBytes(config)
	in, err := r.Upload(t.Context(), repo, "", d.Algorithm())
	if err != nil {
		return origin.Manifest{}, err
	}
	if _, err := in.Write(config); err != nil {
		return origin.Manifest{}, err
	}
	if _, err := in.Commit(t.Context(), d); err != nil {
		return origin.Manifest{}, err
	}
	b := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":%d},"layers":[]}`,
		v1.MediaTypeImageManifest, d, len(config))
	m := origin.Manifest{Bytes: b}
	m.Digest = digest.FromBytes(b)
	m.MediaType = v1.MediaTypeImageManifest
	ref, err := origin.ParseTag(tag)
	if err != nil {
		return m, err
	}
	_, err = r.Push(t.Context(), repo, m, origin.PushOptions{Tags: []origin.Ref{ref}})
	return m, err
}

// Whatever was acknowledged is told, though weir is killed again and again while its
// receiver takes nothing: pushes and deletions, each at least once.
func TestEventsSurviveKills(t *testing.T) {
	l := newListener(t)
	l.open(false)
	p := newProcessOn(t, freeAddr(t), fmt.Sprintf("{blobs: {filesystem: {root: %q}}}", t.TempDir()), "  upstreams: []"+l.config(", events: [push, delete]"))
	repo := origintest.Repo(t, "team/app")
	var acked []string
	for life := range 4 {
		p.start()
		r := p.registry()
		killed := make(chan struct{})
		for n := range 12 {
			if n == 8 {
				process := p.cmd.Process
				go func() {
					defer close(killed)
					_ = process.Kill() // while the next ones run
				}()
			}
			tag := fmt.Sprintf("v%d-%d", life, n)
			m, err := pushEmpty(t, r, repo, 100*life+n, tag)
			if err != nil {
				continue
			}
			acked = append(acked, fmt.Sprintf("manifest.push team/app %s %s", tag, m.Digest))
			if n%2 == 0 {
				ref, _ := origin.ParseTag(tag)
				if r.DeleteManifest(t.Context(), repo, ref) == nil {
					acked = append(acked, fmt.Sprintf("manifest.delete team/app %s %s", tag, m.Digest))
				}
			} else if n%3 == 0 {
				if r.DeleteManifest(t.Context(), repo, origin.ByDigest(m.Digest)) == nil {
					acked = append(acked, fmt.Sprintf("manifest.delete team/app  %s", m.Digest))
				}
			}
		}
		<-killed
		p.kill()
	}
	if len(acked) < 40 {
		t.Fatalf("only %d changes were acknowledged", len(acked))
	}
	l.open(true)
	p.start()
	for _, want := range acked {
		eventually(t, want, func() bool { return l.has(want) })
	}
	p.stop()
	p.saidNothingBad()
}

// Pulls and fills are told too, of what is mirrored by its whole name; a receiver that is
// away costs nobody anything; what waits is shown; and who is told changes with the file.
func TestEvents(t *testing.T) {
	l := newListener(t)
	up := remotetest.New(t)
	img := up.AddImage("library/app", "1", origintest.Bytes(1, 4<<10))
	p := newProcess(t, t.TempDir(), hub(up, "")+l.config(""))
	p.start()
	repo := origintest.Repo(t, "docker.io/library/app")
	ref, _ := origin.ParseTag("1")
	if _, err := p.registry().Manifest(t.Context(), repo, ref); err != nil {
		t.Fatal(err)
	}
	b, err := p.registry().Blob(t.Context(), repo, img.Layers[0].Digest, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, b.Body); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"manifest.pull docker.io/library/app 1 " + img.Digest.String(),
		"blob.fill docker.io/library/app  " + img.Layers[0].Digest.String(),
	} {
		eventually(t, want, func() bool { return l.has(want) })
	}
	l.open(false)
	local := origintest.Repo(t, "team/app")
	m, err := pushEmpty(t, p.registry(), local, 1, "v1")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the event that waits is shown", func() bool {
		res, err := p.client.Get("http://" + p.public + "/v2/_ext/events")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, _ := io.ReadAll(res.Body)
		return strings.Contains(string(text), m.Digest.String()) && strings.Contains(string(text), "answered 503")
	})
	l.open(true)
	want := "manifest.push team/app v1 " + m.Digest.String()
	eventually(t, want, func() bool { return l.has(want) })
	p.stop()
	if said, _ := os.ReadFile(p.log); strings.Contains(string(said), eventSecret) {
		t.Error("the secret is in the log")
	}
}

// What was given up is shown to who may admin, by programs' way and on the page, and is not
// sent again; others are not told of it.
func TestDeadLettersAreShown(t *testing.T) {
	t.Parallel()
	l, data := newListener(t), t.TempDir()
	l.open(false)
	text := "log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '" + data + "'}}}\n" +
		"mirror: {well_known: false, upstreams: []}" + l.config(", events: [push]")
	r := startText(t, data, text)
	img := r.pushImage("team/app", "v1", v1.Image{}, []byte("layer"))
	r.end()
	records := filepath.Join(data, "records", "events")
	queued, err := filepath.Glob(filepath.Join(records, "queue", "ci", "*"))
	if err != nil || len(queued) != 1 {
		t.Fatalf("%v wait, %v", queued, err)
	}
	buried := filepath.Join(records, "dead", "ci")
	if err := os.MkdirAll(buried, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(queued[0], filepath.Join(buried, filepath.Base(queued[0]))); err != nil {
		t.Fatal(err)
	}
	l.open(true)
	r = startText(t, data, text+fmt.Sprintf("authz: {basic: {users: [{name: ann, hash: %q}]}, policy: {allow: ['identity.authenticated', 'request.action in [\"list\", \"pull\"]']}}\n", basic.NewHash("password").Text()))
	ann := []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:password"))}
	for who, headers := range map[string][]string{"ann": ann, "nobody": nil} {
		list, page := r.get("/v2/_ext/events", headers...), r.get("/ui/activity", headers...)
		describe(t).holds(t, "/v2/_ext/events", list)
		var shown struct{ Events []view.Event }
		if err := json.Unmarshal(list.body, &shown); err != nil || page.status != http.StatusOK {
			t.Fatalf("%s: %s, %v, %d", who, list.body, err, page.status)
		}
		dead := strings.Contains(string(page.body), `<span class="tag dead">dead</span>`) && strings.Contains(string(page.body), "team/app:v1")
		if who == "nobody" {
			if len(shown.Events) > 0 || dead {
				t.Errorf("nobody is shown %s; on the page: %v", list.body, dead)
			}
			continue
		}
		if len(shown.Events) != 1 || !dead {
			t.Fatalf("%s is shown %s; on the page: %v", who, list.body, dead)
		}
		if e := shown.Events[0]; e.State != view.Dead || e.ID != filepath.Base(queued[0]) || e.Receiver != "ci" || e.Repository != "team/app" || e.Tag != "v1" || e.Digest != img.Digest {
			t.Errorf("%s is shown %+v", who, e)
		}
	}
	r.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.got) > 0 {
		t.Errorf("the receiver was told %v", l.got)
	}
}
