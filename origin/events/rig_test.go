package events_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// told is an event as a receiver gets it.
type told struct {
	At          time.Time `json:"-"`
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	ContentType string    `json:"datacontenttype"`
	Time        time.Time `json:"time"`
	Data        struct {
		Repository string        `json:"repository"`
		Tag        string        `json:"tag"`
		Digest     digest.Digest `json:"digest"`
		MediaType  string        `json:"media_type"`
		Size       int64         `json:"size"`
		Identity   string        `json:"identity"`
		Time       time.Time     `json:"time"`
	} `json:"data"`
}

// receiver is an http.RoundTripper that is a whole receiver.
type receiver struct {
	t *testing.T
	// answer is what it says to an event; nil: it takes it.
	answer func(e told) (status int, err error)
	// hold, if not nil, has every request wait for it.
	hold chan struct{}

	mu    sync.Mutex
	got   []told // taken ones
	tries []told // all that came
	most  int    // at a time
	now   int
}

const (
	secret = "s3cr3t"
	source = "https://registry.corp"
)

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	var e told
	if err := json.Unmarshal(body, &e); err != nil {
		r.t.Errorf("%s: %v", body, err)
	}
	e.At = time.Now()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(req.Header.Get("Weir-Timestamp") + "." + string(body)))
	if got := req.Header.Get("Weir-Signature"); got != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		r.t.Errorf("signature %s is not of %s", got, body)
	}
	if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/cloudevents+json" || req.URL.String() != "http://ci/x" {
		r.t.Errorf("%s %s %s", req.Method, req.URL, req.Header)
	}
	r.mu.Lock()
	r.tries = append(r.tries, e)
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-req.Context().Done():
			err = req.Context().Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	if err != nil {
		return nil, err
	}
	status := http.StatusNoContent
	if r.answer != nil {
		if status, err = r.answer(e); err != nil {
			return nil, err
		}
	}
	if status/100 == 2 {
		r.got = append(r.got, e)
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("x"))}, nil
}

// subjects are what was taken, in order: repository:tag.
func (r *receiver) subjects() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.got {
		all = append(all, e.Data.Repository+":"+e.Data.Tag)
	}
	return strings.Join(all, " ")
}

// all are those that came, taken or not.
func (r *receiver) all() []told {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tries)
}

// counts is an events.Meter.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) Receiver(string) {}

func (c *counts) Event(receiver, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[receiver+" "+result]++
}

func (c *counts) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.n)
}

// there is the registry: what it has is not deleted.
type there struct {
	origin.Reader
	has map[string]bool // repository:tag, or repository@digest
	err error
}

func (h there) Resolve(_ context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	at := "@" + ref.Digest().String()
	if ref.Tag() != "" {
		at = ":" + ref.Tag()
	}
	if h.err == nil && !h.has[repo.String()+at] {
		return origin.Descriptor{}, origin.ErrManifestUnknown
	}
	return origin.Descriptor{}, h.err
}

// box is an Outbox over records, with one receiver, ci.
type box struct {
	*events.Outbox
	t       *testing.T
	records store.Records
	to      *receiver
	counts  *counts
	config  events.Receiver
}

func newBox(t *testing.T, records store.Records, change func(*events.Options, *events.Receiver)) *box {
	t.Helper()
	b := &box{t: t, records: records, to: &receiver{t: t}, counts: &counts{}}
	b.config = events.Receiver{
		Name: "ci", URL: &url.URL{Scheme: "http", Host: "ci", Path: "/x"},
		Secret: func() (string, error) { return secret, nil }, Transport: b.to,
	}
	o := events.Options{Records: records, Meter: b.counts}
	if change != nil {
		change(&o, &b.config)
	}
	b.Outbox = events.New(o)
	b.Receive(source, []events.Receiver{b.config})
	return b
}

// change is that of a tag of a repository.
func change(t *testing.T, repo, tag string) origin.Change {
	t.Helper()
	r, err := origin.ParseRepo(repo)
	if err != nil {
		t.Fatal(err)
	}
	return origin.Change{Repo: r, Tag: tag, Descriptor: v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(repo + tag), Size: 7,
	}}
}

// write makes an entry durable, as a registry does.
func (b *box) write(e origin.Entry) {
	b.t.Helper()
	for _, w := range e.Writes {
		if _, err := b.records.Put(b.t.Context(), w.Key, w.Data, w.If); err != nil {
			b.t.Fatal(err)
		}
	}
	if e.Written != nil {
		e.Written()
	}
}

func (b *box) push(repo, tag string) {
	b.t.Helper()
	b.write(b.Pushed(b.t.Context(), change(b.t, repo, tag)))
}

// waiting are the keys of what is kept.
func (b *box) waiting() string {
	b.t.Helper()
	var keys []string
	for e, err := range b.records.List(b.t.Context(), "events", "") {
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, e.Key[:strings.LastIndex(e.Key, "/")])
	}
	return strings.Join(keys, " ")
}

// in runs a test in a bubble whose time is its own.
func in(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, test)
}

func records() *mem.Records { return mem.NewRecords() }

var errDown = errors.New("connection refused")
