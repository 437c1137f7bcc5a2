package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// truth is what an upstream would have answered.
type truth struct {
	w      http.ResponseWriter
	status int
	body   []byte
}

// tell sends the header as it stands, with a length unless it is -1, and then body.
func (a truth) tell(length int, body []byte) {
	a.w.Header().Del("Content-Length")
	if length >= 0 {
		a.w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	a.w.WriteHeader(a.status)
	if length < 0 {
		_ = http.NewResponseController(a.w).Flush() // or a short answer would be given one
	}
	_, _ = a.w.Write(body) // whoever asked may leave
}

// cut sends what there is, and breaks the connection.
func (a truth) cut() {
	_ = http.NewResponseController(a.w).Flush()
	panic(http.ErrAbortHandler)
}

// flipped is the body with the bits of one byte inverted.
func (a truth) flipped(at int) []byte {
	b := bytes.Clone(a.body)
	if 0 <= at && at < len(b) {
		b[at] ^= 0xff
	}
	return b
}

// lie is one way in which an answer is wrong.
type lie struct {
	name string
	// wrong: what comes is never what was asked for, however often it is asked for,
	// so that nothing of it may be there afterwards. Of the others an upstream's good
	// bytes may be had, by asking again where it broke off; then they may be kept.
	wrong bool
	tell  func(a truth)
}

func lies() []lie {
	flip := func(at func(n int) int) func(truth) {
		return func(a truth) { a.tell(len(a.body), a.flipped(at(len(a.body)))) }
	}
	truncate := func(at func(n int) int) func(truth) {
		return func(a truth) {
			a.tell(len(a.body), a.body[:max(0, min(at(len(a.body)), len(a.body)))])
			a.cut()
		}
	}
	return []lie{
		{"flip first", true, flip(func(int) int { return 0 })},
		{"flip middle", true, flip(func(n int) int { return n / 2 })},
		{"flip last", true, flip(func(n int) int { return n - 1 })},
		{"truncate at 0", false, truncate(func(int) int { return 0 })},
		{"truncate at 1", false, truncate(func(int) int { return 1 })},
		{"truncate at half", false, truncate(func(n int) int { return n / 2 })},
		{"truncate at n-1", false, truncate(func(n int) int { return n - 1 })},
		{"one byte more", false, func(a truth) { a.tell(len(a.body)+1, append(bytes.Clone(a.body), 'x')) }},
		{"wrong digest header", false, func(a truth) {
			a.w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			a.tell(len(a.body), a.body)
		}},
		{"no digest header", false, func(a truth) {
			a.w.Header().Del("Docker-Content-Digest")
			a.tell(len(a.body), a.body)
		}},
		{"length too large", false, func(a truth) { a.tell(len(a.body)+7, a.body) }},
		{"length too small", false, func(a truth) { a.tell(max(0, len(a.body)-1), a.body) }},
		{"no length", false, func(a truth) { a.tell(-1, a.body) }},
		{"close-delimited", false, func(a truth) {
			a.w.Header().Set("Transfer-Encoding", "identity")
			a.tell(-1, a.body)
		}},
		{"close-delimited at half", false, func(a truth) {
			a.w.Header().Set("Transfer-Encoding", "identity")
			a.tell(-1, a.body[:len(a.body)/2])
		}},
		{"chunked without end", false, func(a truth) { a.tell(-1, a.body); a.cut() }},
		{"chunked without end at half", false, func(a truth) { a.tell(-1, a.body[:len(a.body)/2]); a.cut() }},
		{"gzip-encoded", true, func(a truth) {
			var encoded bytes.Buffer
			z, _ := gzip.NewWriterLevel(&encoded, gzip.NoCompression) // errs only for a level that is none
			_, _ = z.Write(a.body)                                    // a buffer takes all
			_ = z.Close()
			a.w.Header().Set("Content-Encoding", "gzip")
			a.tell(encoded.Len(), encoded.Bytes())
		}},
		{"206 for 200", false, func(a truth) {
			if a.status == http.StatusOK && len(a.body) > 0 {
				a.status = http.StatusPartialContent
				half := len(a.body) / 2
				a.w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", half-1, len(a.body)))
				a.body = a.body[:half]
			}
			a.tell(len(a.body), a.body)
		}},
		{"another range", true, func(a truth) {
			if a.status == http.StatusPartialContent {
				a.w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", 7+len(a.body)-1, len(a.body)+7))
			}
			a.tell(len(a.body), a.flipped(0))
		}},
		{"HTML 200", true, func(a truth) {
			a.status = http.StatusOK
			a.w.Header().Del("Content-Range")
			a.w.Header().Set("Content-Type", "text/html; charset=utf-8")
			page := []byte("<!DOCTYPE html><title>Welcome</title>")
			a.tell(len(page), page)
		}},
	}
}

// fault lets an upstream answer with the lie.
func (l lie) fault() remotetest.Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			honest := &draft{header: w.Header()}
			next.ServeHTTP(honest, r)
			a := truth{w: w, status: honest.status, body: honest.body.Bytes()}
			if r.Method == http.MethodHead { // what is said of a body is its length
				a.body = make([]byte, honest.length())
			}
			l.tell(a)
		})
	}
}

// draft is an answer that has not left.
type draft struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (d *draft) Header() http.Header { return d.header }

func (d *draft) WriteHeader(status int) {
	d.status = status
	d.body.Grow(d.length()) // at once: the race detector makes growing slow
}

func (d *draft) Write(b []byte) (int, error) {
	if d.status == 0 {
		d.WriteHeader(http.StatusOK)
	}
	return d.body.Write(b)
}

func (d *draft) length() int {
	n, _ := strconv.Atoi(d.header.Get("Content-Length")) // 0 if it says none
	return n
}

// subject is one thing that is asked for.
type subject struct {
	kind string
	path string
	want []byte
}

// ranged is the size of a blob that comes in ranges.
const ranged = 2<<20 + 100<<10

// subjects puts one of each kind into a repository of u, made of its name. The sizes
// are those at which weir does something else: what is withheld whole, what comes in
// one piece, what comes in ranges.
func subjects(u *remotetest.Upstream, repo string, bytesOf func(n int) []byte) []subject {
	var layers [][]byte
	for _, n := range []int{40 << 10, 300 << 10, ranged} {
		layer := bytes.Clone(bytesOf(n))
		copy(layer[n/3:], repo)
		layers = append(layers, layer)
	}
	img := u.AddImage(repo, "1", layers...)
	list := []subject{
		{"manifest by tag", "/manifests/1", img.Bytes},
		{"manifest by digest", "/manifests/" + img.Digest.String(), img.Bytes},
	}
	for i, l := range img.Layers {
		list = append(list, subject{fmt.Sprintf("blob of %d bytes", l.Size), "/blobs/" + l.Digest.String(), layers[i]})
	}
	return list
}

var contentRange = regexp.MustCompile(`^bytes ([0-9]+)-([0-9]+)/([0-9]+)$`)

// wrong says what is wrong with an answer: whatever is complete must be right. A
// range that does not reach the last byte may be one of a running fill, which no
// digest says anything about yet: unverified says that such a one is left alone.
func (a answer) wrong(s subject, head, unverified bool) string {
	n := len(s.want)
	switch {
	case a.err != nil, a.status >= 400:
		return ""
	case head:
		if d := a.header.Get("Docker-Content-Digest"); !strings.HasSuffix(s.path, "/1") && d != "" && !strings.HasSuffix(s.path, d) {
			return "described as " + d
		}
		return ""
	case a.status == http.StatusOK:
		if len(a.body) != n || !same(a.body, s.want) {
			return fmt.Sprintf("complete, but wrong: %d bytes of %d", len(a.body), n)
		}
		return ""
	case a.status == http.StatusPartialContent:
		m := contentRange.FindStringSubmatch(a.header.Get("Content-Range"))
		if m == nil {
			return "Content-Range: " + a.header.Get("Content-Range")
		}
		from, _ := strconv.Atoi(m[1])
		to, _ := strconv.Atoi(m[2])
		whole, _ := strconv.Atoi(m[3])
		switch {
		case from > to || to >= whole || len(a.body) != to-from+1:
			return fmt.Sprintf("%d bytes as %s", len(a.body), m[0])
		case unverified && to < whole-1:
			return "" // the size, too, is what the upstream says
		case whole != n || !same(a.body, s.want[from:]):
			return "complete, but wrong: " + m[0]
		}
		return ""
	default:
		return fmt.Sprintf("status %d", a.status)
	}
}

// Whatever an upstream makes of an answer, what a client sees the end of is right,
// nothing that is not is kept, and once the upstream is well the next pull is right
// at once.
func TestCorruptUpstream(t *testing.T) {
	t.Parallel()
	u := remotetest.New(t)
	r := start(t, "", hub(u, ""))
	type cell struct {
		lie
		ask, method, byteRange string
		repo                   string
		subject
	}
	noise := origintest.Bytes(1, ranged)
	var cells []cell
	var undo []func()
	for i, l := range lies() {
		for j, ask := range [][3]string{
			{"GET", http.MethodGet, ""},
			{"GET of the first bytes", http.MethodGet, "bytes=0-999"},
			{"GET of the last bytes", http.MethodGet, "bytes=-999"},
			{"HEAD", http.MethodHead, ""},
		} {
			repo := fmt.Sprintf("library/lie%d-%d", i, j)
			undo = append(undo, u.Fault("/v2/"+repo+"/", l.fault()))
			for _, s := range subjects(u, repo, func(n int) []byte { return noise[:n] }) {
				cells = append(cells, cell{l, ask[0], ask[1], ask[2], "/v2/docker.io/" + repo, s})
			}
		}
	}
	each := func(do func(c cell)) {
		var some errgroup.Group
		some.SetLimit(64) // most of them wait for weir to give up
		for _, c := range cells {
			some.Go(func() error { do(c); return nil })
		}
		_ = some.Wait() // none fails
	}

	each(func(c cell) {
		var headers []string
		if c.byteRange != "" {
			headers = []string{"Range", c.byteRange}
		}
		a := r.do(c.method, c.repo+c.path, nil, headers...)
		if wrong := a.wrong(c.subject, c.method == http.MethodHead, len(c.want) > 64<<10); wrong != "" {
			t.Errorf("%s: %s of a %s: %s", c.lie.name, c.ask, c.kind, wrong)
		}
	})
	r.settled()
	for _, f := range undo {
		f()
	}
	each(func(c cell) {
		a := r.get(c.repo + c.path)
		if a.status != 200 || a.err != nil || len(a.body) != len(c.want) || !same(a.body, c.want) {
			t.Errorf("%s: after %s, a good %s: %d, %d bytes of %d, %v, %.200s", c.lie.name, c.ask, c.kind, a.status, len(a.body), len(c.want), a.err, a.body)
		}
		if c.lie.wrong && strings.HasPrefix(c.kind, "blob") && a.header.Get("Weir-Cache") == "hit" {
			t.Errorf("%s: after %s, a good %s: something bad was kept", c.lie.name, c.ask, c.kind)
		}
	})
	r.settled()
	eventually(t, "no spool is left", func() bool { return len(r.spools()) == 0 })
	r.end()
	if n := rehash(t, r.data); n < len(cells)*3/5 {
		t.Errorf("%d blobs are kept: this looks in the wrong place", n)
	}
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// rehash reads every blob that is kept below a data directory, compares it with its
// name, and gives their number. A blob's file, or its folder, is called by the hex
// of its digest.
func rehash(t *testing.T, data string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(data, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(name, string(filepath.Separator)+"blobs"+string(filepath.Separator)) {
			return err
		}
		want := filepath.Base(name)
		if !hexDigest.MatchString(want) {
			if want = filepath.Base(filepath.Dir(name)); !hexDigest.MatchString(want) {
				return nil
			}
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != want {
			t.Errorf("%s holds %d other bytes", name, len(b))
		}
		n++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return n
}
