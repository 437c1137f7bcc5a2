package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
)

// lorises are many clients at a weir that hold on to it and do nothing: half of them give a
// byte of a header from time to time, four in ten have stopped in the middle of a body, and
// one in ten takes nothing more of an answer. These have the kernel keep megabytes each; more
// of them and it would drop what is sent to anybody.
type lorises struct {
	*process
	n             int
	header, stall time.Duration // the limits of weir
	drip          time.Duration // between two bytes of a header
	blob          origintest.Blob
	read          int64 // how much of the log was
	ended         int   // see gone
	gazers        int   // so far
}

// lorisBlob is more than the kernel takes for who reads nothing.
const lorisBlob = 8 << 20

func startLorises(t *testing.T, n int, header, stall, drip time.Duration) *lorises {
	t.Helper()
	l := &lorises{
		process: newProcess(t, t.TempDir(), ""), n: n, header: header, stall: stall, drip: drip,
		blob: origintest.NewBlob("application/octet-stream", origintest.Bytes(1, lorisBlob)),
	}
	l.serves(fmt.Sprintf("timeouts: {header: %s, stall: %s}", header, stall))
	l.start()
	if err := l.put(http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+l.blob.Digest.String(), strings.NewReader(string(l.blob.Bytes)), http.StatusCreated, nil); err != nil {
		t.Fatal(err)
	}
	return l
}

// serves has more said of the server in the configuration.
func (p *process) serves(more string) {
	p.t.Helper()
	text, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	was := fmt.Sprintf("server: {listen: %q", p.public)
	text = []byte(strings.Replace(string(text), was, was+", "+more, 1))
	if err := os.WriteFile(p.file, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// put sends a body, and wants that status; header, if not nil, is where the answer's is put.
func (l *lorises) put(method, path string, body io.Reader, want int, header *http.Header) error {
	req, err := http.NewRequestWithContext(l.t.Context(), method, "http://"+l.public+path, body)
	if err != nil {
		return err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	said, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if header != nil {
		*header = resp.Header
	}
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, said)
	}
	return err
}

// dial connects. Who is to take little has little room for it.
func (l *lorises) dial(room int) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if room > 0 {
			err = c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, room) })
		}
		return err
	}}
	return d.DialContext(l.t.Context(), "tcp", l.public)
}

// drips begins a header that it never ends, and gives how long it had after its first byte.
func (l *lorises) drips() (time.Duration, error) {
	conn, err := l.dial(0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	begun := time.Now()
	_, err = io.WriteString(conn, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ")
	for err == nil {
		_ = conn.SetReadDeadline(time.Now().Add(l.drip))
		if _, err = conn.Read(make([]byte, 512)); errors.Is(err, os.ErrDeadlineExceeded) {
			_, err = io.WriteString(conn, "x")
		}
	}
	return time.Since(begun), nil
}

// stops stops in the middle of a body, and gives how long it had from then on.
func (l *lorises) stops() (time.Duration, error) {
	conn, err := l.dial(0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /v2/team/app/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000000\r\n\r\n%s",
		digest.FromString("never"), l.public, strings.Repeat("x", 1000))
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	_, _ = io.Copy(io.Discard, conn) // until it is cut
	return time.Since(begun), nil
}

// gazes asks for a blob and takes nothing of it until cut is closed; then it takes what
// there is.
func (l *lorises) gazes(asked func(), cut <-chan struct{}) error {
	conn, err := l.dial(4 << 10)
	if err != nil {
		asked()
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "GET /v2/team/app/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", l.blob.Digest)
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	asked()
	if err != nil {
		return err
	}
	select {
	case <-cut:
	case <-l.t.Context().Done():
		return nil
	}
	if n, _ := io.Copy(io.Discard, conn); n >= lorisBlob {
		return errors.New("the whole blob came to who had stood still")
	}
	return nil
}

// told are the longest times that there were.
type told struct{ dripped, stopped, gazed time.Duration }

// round has all of them come, and returns when the last one was cut.
func (l *lorises) round() (longest told) {
	l.t.Helper()
	var (
		mu                      sync.Mutex
		asked, standing, gazing sync.WaitGroup
		cut                     = make(chan struct{})
	)
	note := func(to *time.Duration, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if *to = max(*to, took); err != nil {
			l.t.Error(err)
		}
	}
	for i := range l.n {
		switch {
		case i%10 < 5:
			standing.Go(func() { took, err := l.drips(); note(&longest.dripped, took, err) })
		case i%10 < 9:
			standing.Go(func() { took, err := l.stops(); note(&longest.stopped, took, err) })
		default:
			asked.Add(1)
			l.gazers++
			gazing.Go(func() { note(new(time.Duration), 0, l.gazes(asked.Done, cut)) })
		}
	}
	asked.Wait()
	begun := time.Now()
	eventually(l.t, "those who take nothing are cut", func() bool { return l.gone() == l.gazers })
	longest.gazed = time.Since(begun)
	standing.Wait()
	close(cut)
	gazing.Wait()
	return longest
}

// gone is how many of those who took nothing weir says it has done with, so far: of all who
// ask for a blob, they alone are gone before it has ended.
func (l *lorises) gone() int {
	l.t.Helper()
	log, err := os.Open(l.log)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	said, err := io.ReadAll(io.NewSectionReader(log, l.read, 1<<40))
	if err != nil {
		l.t.Fatal(err)
	}
	said = said[:bytes.LastIndexByte(said, '\n')+1] // whole lines
	l.read += int64(len(said))
	for line := range bytes.Lines(said) {
		if bytes.Contains(line, []byte(`"route":"/v2/{name}/blobs/{digest}"`)) && bytes.Contains(line, []byte(`,"status":499,`)) {
			l.ended++
		}
	}
	return l.ended
}

// healthyClients is how many clients there are beside the lorises.
const healthyClients = 4

// healthy pulls, on kept and on new connections, until ctx ends. It gives how often.
func (l *lorises) healthy(ctx context.Context) int64 {
	var pulled atomic.Int64
	var clients sync.WaitGroup
	for i := range healthyClients {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			defer client.CloseIdleConnections()
			for ticker := time.NewTicker(20 * time.Millisecond); ; {
				req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, "http://"+l.public+"/v2/team/app/blobs/"+l.blob.Digest.String(), nil)
				if err != nil {
					l.t.Error(err)
					return
				}
				req.Header.Set("Range", "bytes=1000-1999")
				resp, err := client.Do(req)
				if err != nil {
					l.t.Errorf("pull %d: %v", pulled.Load(), err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusPartialContent || string(got) != string(l.blob.Bytes[1000:2000]) || err != nil {
					l.t.Errorf("pull %d: %s, %d bytes, %v", pulled.Load(), resp.Status, len(got), err)
					return
				}
				pulled.Add(1)
				select {
				case <-ticker.C:
				case <-ctx.Done():
					ticker.Stop()
					return
				}
			}
		})
	}
	clients.Wait()
	return pulled.Load()
}

// slow is a body of 50 KiB a second, which ends when ctx does, or at its size.
type slow struct {
	ctx    context.Context
	ticker *time.Ticker
	left   int64
	sum    interface {
		io.Writer
		Sum([]byte) []byte
	}
	sent atomic.Int64
}

// slowPiece is what is sent ten times a second.
const slowPiece = 5 << 10

func (s *slow) Read(b []byte) (int, error) {
	select {
	case <-s.ticker.C:
	case <-s.ctx.Done():
		return 0, io.EOF
	}
	n := int(min(slowPiece, s.left, int64(len(b))))
	if n == 0 {
		return 0, io.EOF
	}
	s.left -= int64(n)
	s.sent.Add(int64(n))
	clear(b[:n])
	_, _ = s.sum.Write(b[:n]) // a hash takes all
	return n, nil
}

// upload pushes size bytes at 50 KiB a second, or what was sent when ctx ends. It gives
// how many there were.
func (l *lorises) upload(ctx context.Context, size int64) (int64, error) {
	s := &slow{ctx: ctx, ticker: time.NewTicker(100 * time.Millisecond), left: size, sum: sha256.New()}
	defer s.ticker.Stop()
	var h http.Header
	if err := l.put(http.MethodPost, "/v2/team/app/blobs/uploads/", nil, http.StatusAccepted, &h); err != nil {
		return 0, err
	}
	if err := l.put(http.MethodPatch, h.Get("Location"), s, http.StatusAccepted, &h); err != nil {
		return s.sent.Load(), err
	}
	d := digest.NewDigestFromBytes(digest.SHA256, s.sum.Sum(nil))
	at := h.Get("Location")
	at += map[bool]string{true: "&", false: "?"}[strings.Contains(at, "?")] + "digest=" + d.String()
	return s.sent.Load(), l.put(http.MethodPut, at, nil, http.StatusCreated, nil)
}

// 2,000 connections that drip, have stopped, or take nothing are all cut; those who pull
// beside them notice nothing, and who uploads 50 KiB a second for longer than any limit is
// not cut. (C-2; TestWhoStandsStillIsCut has the times)
func TestLorises(t *testing.T) {
	l := startLorises(t, 2000, 5*time.Second, 10*time.Second, time.Second)
	ctx, over := context.WithCancel(t.Context())
	defer over()
	var others sync.WaitGroup
	others.Go(func() {
		if n := l.healthy(ctx); n < healthyClients {
			t.Errorf("only %d pulls", n)
		}
	})
	others.Go(func() {
		n, err := l.upload(ctx, 1<<30)
		if err != nil || n < 10*slowPiece {
			t.Errorf("the slow upload: %d bytes, %v", n, err)
		}
	})
	longest := l.round()
	over()
	others.Wait()
	t.Logf("the longest: %+v", longest)
	l.stop()
	l.saidNothingBad()
}
