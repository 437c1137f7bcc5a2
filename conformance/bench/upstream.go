package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What the upstream of the pull-through rows is like.
const (
	upstreamDelay = 50 * time.Millisecond // before each answer, tokens included
	upstreamRate  = 20 * mB               // bytes per second of one connection
)

// A mode is how an upstream treats whoever asks.
type mode int

const (
	serving  mode = iota
	hanging       // it takes requests and never answers
	limiting      // 429 with Retry-After: 30, at once
)

// An upstream is a registry like the public ones: slow to answer, slow on each
// connection, with tokens. It counts what is asked of it.
type upstream struct {
	url  string
	link *pace // what all connections share; nil = no limit
	srv  *http.Server

	mu     sync.Mutex
	mode   mode
	life   int64            // bytes of blobs until it dies; 0: it does not
	images map[string]image // by "repository:tag"
	paces  map[string]*pace // by the client's address
	seen   []seen
	active int
}

// A seen is one request.
type seen struct {
	kind   string // "ping", "token", "manifests", "blobs"
	what   string // repository and reference
	ranged bool
	bytes  int64 // of the body
}

// newUpstream listens on loopback; perSecond limits its link in all, 0 does not.
func newUpstream(perSecond float64) (*upstream, error) {
	u := &upstream{images: map[string]image{}, paces: map[string]*pace{}}
	if perSecond > 0 {
		u.link = newPace(perSecond)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u.url = "http://" + l.Addr().String()
	// Both at one address: distribution follows a challenge to no other.
	routes := http.NewServeMux()
	routes.HandleFunc("/token", u.token)
	routes.HandleFunc("/v2/", u.registry)
	u.srv = &http.Server{Handler: routes, ConnState: func(c net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			u.mu.Lock()
			delete(u.paces, c.RemoteAddr().String())
			u.mu.Unlock()
		}
	}}
	go func() { _ = u.srv.Serve(l) }() // it ends by close, or every request to it fails
	return u, nil
}

// close ends it and cuts who is connected; it may be called again.
func (u *upstream) close() error { return u.srv.Close() }

// put makes it have an image.
func (u *upstream) put(repo, tag string, i image) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.images[repo+":"+tag] = i
}

func (u *upstream) become(m mode) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mode = m
}

// dieAfter lets it die once it has sent so many more bytes of blobs.
func (u *upstream) dieAfter(bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.life = bytes
}

// live takes n sent bytes from its life, and ends it with the last of them.
func (u *upstream) live(n int) {
	u.mu.Lock()
	dies := u.life > 0 && u.life <= int64(n)
	if u.life > 0 {
		u.life = max(1, u.life-int64(n))
	}
	u.mu.Unlock()
	if dies {
		_ = u.close() // whoever is connected is cut, and nobody connects any more
	}
}

// forget begins the counts anew.
func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = nil
}

// counts gives the requests since forget, how many of them only asked for a further
// range of a blob, and the bytes of blobs that were sent.
func (u *upstream) counts() (requests, further int, sent int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ranged := map[string]bool{}
	for _, s := range u.seen {
		if s.kind == "blobs" {
			sent += s.bytes
		}
		if s.ranged && ranged[s.what] {
			further++
		}
		ranged[s.what] = ranged[s.what] || s.ranged
	}
	return len(u.seen), further, sent
}

// quiet waits until nobody has been asking for a while.
func (u *upstream) quiet(ctx context.Context) error {
	still := 0
	for tick := time.NewTicker(20 * time.Millisecond); still < 15; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("the upstream is not left alone: %w", ctx.Err())
		}
		u.mu.Lock()
		if still++; u.active > 0 {
			still = 0
		}
		u.mu.Unlock()
	}
	return nil
}

// begin treats the request as the mode wants; ok is false when that was the answer.
// Where it is true, the caller calls end.
func (u *upstream) begin(w http.ResponseWriter, r *http.Request) (ok bool) {
	u.mu.Lock()
	now := u.mode
	if now == serving {
		u.active++
	} else {
		u.seen = append(u.seen, seen{kind: "refused"})
	}
	u.mu.Unlock()
	switch now {
	case hanging:
		<-r.Context().Done()
	case limiting:
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusTooManyRequests)
	case serving:
		time.Sleep(upstreamDelay)
		return true
	}
	return false
}

func (u *upstream) end(s seen) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.active--
	u.seen = append(u.seen, s)
}

// token gives anyone a token for the repository of the scope asked for.
func (u *upstream) token(w http.ResponseWriter, r *http.Request) {
	if !u.begin(w, r) {
		return
	}
	defer u.end(seen{kind: "token"})
	w.Header().Set("Content-Type", "application/json")
	text, err := json.Marshal(map[string]any{"token": tokenFor(scopeName(r.FormValue("scope"))), "expires_in": 300})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(text)
}

func scopeName(scope string) string {
	parts := strings.Split(scope, ":")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

func tokenFor(repo string) string { return "for-" + strings.ReplaceAll(repo, "/", "-") }

// registry answers below /v2/.
func (u *upstream) registry(w http.ResponseWriter, r *http.Request) {
	if !u.begin(w, r) {
		return
	}
	repo, kind, ref := splitPath(r.URL.Path)
	s := seen{kind: kind, what: repo + " " + ref, ranged: kind == "blobs" && r.Header.Get("Range") != ""}
	defer func() { u.end(s) }()
	auth, scope := r.Header.Get("Authorization"), ""
	if repo != "" {
		scope = fmt.Sprintf(`,scope="repository:%s:pull"`, repo)
	}
	if auth == "" || repo != "" && auth != "Bearer "+tokenFor(repo) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="upstream"%s`, u.url, scope))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	switch kind {
	case "ping":
	case "manifests":
		u.manifest(w, r, repo, ref)
	case "blobs":
		s.bytes = u.blob(w, r, repo, ref)
	default:
		http.NotFound(w, r)
	}
}

// splitPath takes a path apart; kind is "ping" for /v2/ and "" for what is unknown.
func splitPath(path string) (repo, kind, ref string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if ok && rest == "" {
		return "", "ping", ""
	}
	at := 0 // where the last of the words is: a repository may be called like one
	for _, word := range []string{"manifests", "blobs"} {
		if i := strings.LastIndex(rest, "/"+word+"/"); ok && i > at {
			at, repo, kind, ref = i, rest[:i], word, rest[i+len(word)+2:]
		}
	}
	return repo, kind, ref
}

func (u *upstream) manifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	i, ok := u.find(repo, func(i image, tag string) bool { return tag == ref || i.digest.String() == ref })
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", manifestType)
	w.Header().Set("Docker-Content-Digest", i.digest.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(i.manifest)))
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, bytes.NewReader(i.manifest))
	}
}

// find gives an image of the repository for which is holds.
func (u *upstream) find(repo string, is func(i image, tag string) bool) (image, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, i := range u.images {
		if tag, ok := strings.CutPrefix(name, repo+":"); ok && is(i, tag) {
			return i, true
		}
	}
	return image{}, false
}

// blob answers with a blob, or the range of it that is asked for, and gives how many
// bytes were sent.
func (u *upstream) blob(w http.ResponseWriter, r *http.Request, repo, ref string) (sent int64) {
	var found chunk
	_, ok := u.find(repo, func(i image, _ string) bool {
		for _, b := range i.blobs {
			if b.digest.String() == ref {
				found = b
				return true
			}
		}
		return false
	})
	if !ok {
		http.NotFound(w, r)
		return 0
	}
	f, err := os.Open(found.file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return 0
	}
	defer f.Close()
	w.Header().Set("Docker-Content-Digest", ref)
	w.Header().Set("ETag", strconv.Quote(ref))
	w.Header().Set("Content-Type", "application/octet-stream")
	slow := &slowWriter{ResponseWriter: w, sending: u.live, paces: []*pace{u.paceOf(r.RemoteAddr)}}
	if u.link != nil {
		slow.paces = append(slow.paces, u.link)
	}
	http.ServeContent(slow, r, "", time.Time{}, f)
	return slow.sent
}

// paceOf gives the limit of a client's connection.
func (u *upstream) paceOf(addr string) *pace {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.paces[addr] == nil {
		u.paces[addr] = newPace(upstreamRate)
	}
	return u.paces[addr]
}

// A slowWriter is a ResponseWriter that keeps to all of its paces.
type slowWriter struct {
	http.ResponseWriter
	sending func(n int)
	paces   []*pace
	sent    int64
}

func (w *slowWriter) Write(p []byte) (int, error) {
	// Waits of less are put off to the next piece: timers are not that fine, and 64
	// connections that all woke up for each piece would be most of the machine's work.
	const worth = 4 * time.Millisecond
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	w.sending(n)
	var wait time.Duration
	for _, pace := range w.paces {
		wait = max(wait, pace.reserve(time.Now(), n))
	}
	if wait >= worth {
		time.Sleep(wait)
	}
	return n, err
}
