package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// rotating is a weir over TLS, on several listeners, whose configuration and certificate
// are replaced again and again.
type rotating struct {
	*reloading
	t           *testing.T
	authority   *mtlstest.Authority
	certificate string // the file, which has the key too: so both change at once
	socket      string
	u           *remotetest.Upstream
	listeners   []net.Addr
	applied     int    // how many configurations were
	serial      string // of the certificate that is shown
}

func startRotating(t *testing.T, u *remotetest.Upstream) *rotating {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rotating{t: t, u: u, authority: mtlstest.NewAuthority(t, "servers"), certificate: filepath.Join(dir, "pem"), socket: filepath.Join(dir, "s")}
	r.rotate()
	r.reloading = startReloading(t, r.text())
	for line := range strings.Lines(r.log.String()) {
		var said struct{ Msg, Address string }
		if err := json.Unmarshal([]byte(line), &said); err != nil || said.Msg != "listening" {
			continue
		}
		if strings.Contains(said.Address, ":") {
			tcp, err := net.ResolveTCPAddr("tcp", said.Address)
			if err != nil {
				t.Fatal(err)
			}
			r.listeners = append(r.listeners, tcp)
		} else {
			r.listeners = append(r.listeners, &net.UnixAddr{Net: "unix", Name: said.Address})
		}
	}
	if len(r.listeners) != 3 {
		t.Fatalf("it listens on %v", r.listeners)
	}
	return r
}

// rotate replaces the certificate.
func (r *rotating) rotate() {
	r.t.Helper()
	pair := r.authority.Issue(r.t, mtlstest.Server())
	mtlstest.Put(r.t, r.certificate, append(pair.CertificatePEM(), pair.KeyPEM(r.t)...))
	r.serial = pair.Leaf.SerialNumber.String()
}

// text is a configuration: each other one has another policy, other limits of servers and
// other ways to the upstream than the one before it.
func (r *rotating) text() string {
	deny, n := "", r.applied
	if r.denied() {
		deny = `, deny: ["request.repository == 'docker.io/secret/app'"]`
	}
	return fmt.Sprintf("server: {listen: ['127.0.0.1:0', '127.0.0.2:0', 'unix:%s'], drain: 20s, timeouts: {idle: %ds}, tls: {certificate: '%s', key: '%[3]s'}}\n"+
		"authz: {policy: {allow: ['true']%s}}\nmirror:\n  well_known: false\n%s",
		r.socket, 60+n%3, r.certificate, deny, hub(r.u, fmt.Sprintf("      timeouts: {stall: %ds}\n", 30+n%2)))
}

// denied reports whether the last configuration keeps the secret.
func (r *rotating) denied() bool { return r.applied%2 == 1 }

// client asks at one of the listeners.
func (r *rotating) client(to net.Addr, http2, keep bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: r.authority.Pool(), ServerName: "localhost"},
		ForceAttemptHTTP2: http2,
		DisableKeepAlives: !keep,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, to.Network(), to.String())
		},
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// state is what who connects at a listener now sees: the policy and the certificate.
func (r *rotating) state(to net.Addr) string {
	r.t.Helper()
	resp, err := r.client(to, false, false).Get("https://localhost/v2/docker.io/secret/app/manifests/1")
	if err != nil {
		r.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return fmt.Sprintf("%d, certificate %s", resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber)
}

func (r *rotating) want() string {
	status := http.StatusOK
	if r.denied() {
		status = http.StatusForbidden
	}
	return fmt.Sprintf("%d, certificate %s", status, r.serial)
}

// everywhere wants that at all listeners.
func (r *rotating) everywhere(what string) {
	r.t.Helper()
	for _, l := range r.listeners {
		if got := r.state(l); got != r.want() {
			r.t.Errorf("%s, at %s: %s, want %s", what, l, got, r.want())
		}
	}
}

func (r *rotating) signal() {
	r.t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}

// until is eventually, and asks no more often than it has to: each time costs what is measured.
func (r *rotating) until(what string, so func() bool) {
	r.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	eventually(r.t, what, func() bool {
		<-ticker.C
		return so()
	})
}

// apply replaces the certificate and the configuration, and says so or leaves it to be noticed.
// What one listener shows then is shown at all. It gives how long it took from then on until
// they did.
func (r *rotating) apply(say bool) time.Duration {
	r.t.Helper()
	r.applied++
	r.rotate()
	text := r.head + r.text()
	begun := time.Now()
	r.put(text)
	if say {
		r.signal()
	}
	r.until("the configuration is applied", func() bool { return r.state(r.listeners[0]) == r.want() })
	r.everywhere(fmt.Sprintf("after reload %d", r.applied))
	return time.Since(begun)
}

// refuse puts something in the place of a file that is no good: it is counted, and what
// served goes on.
func (r *rotating) refuse(n int) {
	r.t.Helper()
	before := r.reloads(reloadRejected)
	good, err := os.ReadFile(r.certificate)
	if err != nil {
		r.t.Fatal(err)
	}
	switch n % 4 {
	case 0:
		r.put(r.head + strings.Replace(r.text(), "'true'", "'nonsense('", 1))
	case 1:
		r.put(r.head + strings.Replace(r.text(), "authz:", "auth:", 1))
	case 2:
		r.put("\n")
	case 3:
		mtlstest.Put(r.t, r.certificate, good[:len(good)/2])
	}
	r.signal()
	r.until("the configuration is rejected", func() bool { return r.reloads(reloadRejected) > before })
	r.everywhere(fmt.Sprintf("after mistake %d", n))
	mtlstest.Put(r.t, r.certificate, good)
}

// load asks for a blob so many times a second, by the clock, in all ways there are, until over is
// closed; it gives how often. Each of them is to be answered.
func (r *rotating) load(rate int, path string, size int64, over <-chan struct{}) (answered int64) {
	due := make(chan struct{})
	var clients sync.WaitGroup
	var n atomic.Int64
	for i := range rate / 4 {
		client := r.client(r.listeners[i%3], i%2 == 0, i%12 >= 3)
		clients.Go(func() {
			for range due {
				resp, err := client.Get("https://localhost" + path)
				if err != nil {
					r.t.Errorf("request %d: %v", n.Load(), err)
					continue
				}
				got, err := io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK || got != size || err != nil {
					r.t.Errorf("request %d: %d, %d bytes, %v", n.Load(), resp.StatusCode, got, err)
				}
				n.Add(1)
			}
		})
	}
	defer func() {
		close(due)
		clients.Wait()
		answered = n.Load()
	}()
	begun := time.Now()
	for asked := 0; ; asked++ {
		select {
		case <-time.After(time.Until(begun.Add(time.Duration(asked) * time.Second / time.Duration(rate)))):
		case <-over:
			return
		}
		select {
		case due <- struct{}{}: // late, where all are waiting: this machine has no more
		case <-over:
			return
		}
	}
}

// rotated is what came of rotations.
type rotated struct {
	answered, cycles int64         // requests, and configurations
	rate             float64       // of requests, a second
	slowest          time.Duration // from the change until all listeners showed it
}

// rotations has so many configurations be applied, each with another certificate, policy, limits
// and upstream than the one before, and a mistake after each third, under so many requests a
// second on three listeners, over both versions of HTTP: no request fails, all listeners
// show the same, and a mistake changes nothing. Of each other one nobody tells weir.
func rotations(t *testing.T, applied, rate int) rotated {
	t.Helper()
	u := remotetest.New(t)
	u.AddImage("secret/app", "1", []byte("layer"))
	img := u.AddImage("library/nginx", "1.27", origintest.Bytes(1, 3000))
	r := startRotating(t, u)
	path := "/v2/docker.io/library/nginx/blobs/" + digests(img)[0]
	r.everywhere("before")

	over := make(chan struct{})
	counted := make(chan int64)
	begun := time.Now()
	go func() { counted <- r.load(rate, path, 3000, over) }()
	var came rotated
	mistakes := 0
	for i := range applied {
		came.slowest = max(came.slowest, r.apply(i%2 == 0))
		if i%3 == 2 {
			r.refuse(mistakes)
			mistakes++
		}
	}
	lasted := time.Since(begun).Seconds()
	close(over)
	came.answered = <-counted
	came.cycles, came.rate = int64(applied+mistakes), float64(came.answered)/lasted
	if came.answered < came.cycles {
		t.Errorf("only %d requests", came.answered)
	}
	if got := r.reloads(reloadRejected); got < mistakes {
		t.Errorf("%d were rejected, want %d", got, mistakes)
	}
	t.Logf("%d reloads were applied, %d mistakes refused: %+v", r.reloads(reloadApplied), mistakes, came)
	return came
}

// A fifth of what C-3 asks for, at a rate that the race detector leaves room for, and with what else
// this machine does; TestNightlyReloads has all of it, and what it may take.
func TestReloadsAtARate(t *testing.T) {
	if came := rotations(t, 30, 48); came.slowest > time.Minute {
		t.Errorf("a reload took %v", came.slowest)
	}
}
