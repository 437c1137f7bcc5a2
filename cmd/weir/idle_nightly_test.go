//go:build nightly

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/origin/oracletest"
)

// idlers are connections over TLS that have asked once, and stay.
type idlers struct {
	*process
	client *tls.Config
	conns  []*tls.Conn
}

// ask asks on the i-th, and reads the answer.
func (d *idlers) ask(i int) error {
	if err := d.conns[i].SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(d.conns[i], "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(d.conns[i], 512), nil)
	if err != nil {
		return err
	}
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return err
}

// come has so many connect.
func (d *idlers) come(n int) error {
	d.conns = make([]*tls.Conn, n)
	var all errgroup.Group
	all.SetLimit(16)
	for i := range n {
		all.Go(func() (err error) {
			if d.conns[i], err = tls.Dial("tcp", d.public, d.client); err != nil {
				return err
			}
			return d.ask(i)
		})
	}
	return all.Wait()
}

// pulls pulls a manifest a hundred times a second over 16 connections, and gives the time
// that 99 of 100 did not exceed, counted from when each was due.
func (d *idlers) pulls(n int, path string, size int) (time.Duration, error) {
	transport := &http.Transport{TLSClientConfig: d.client, MaxIdleConnsPerHost: 16, MaxConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var (
		mu    sync.Mutex
		times []time.Duration
		all   errgroup.Group
	)
	pull := func() error {
		begun := time.Now()
		resp, err := client.Get("https://" + d.public + path)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || len(got) != size {
			return fmt.Errorf("pull: %s, %d bytes, %w", resp.Status, len(got), err)
		}
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Since(begun))
		return nil
	}
	for range 16 { // connections are there before anything is measured
		all.Go(pull)
	}
	if err := all.Wait(); err != nil {
		return 0, err
	}
	times = nil
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for range n {
		<-ticker.C
		all.Go(pull)
	}
	if err := all.Wait(); err != nil {
		return 0, err
	}
	slices.Sort(times)
	return times[len(times)*99/100], nil
}

// manifest pushes one of size bytes, and gives its path.
func (d *idlers) manifest(size int) (string, error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: d.client, DisableKeepAlives: true}}
	put := func(method, path, mediaType, body string) error {
		req, err := http.NewRequestWithContext(context.Background(), method, "https://"+d.public+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", mediaType)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		said, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusCreated {
			err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, said)
		}
		return err
	}
	config := digest.FromString("{}")
	if err := put(http.MethodPost, "/v2/app/blobs/uploads/?digest="+config.String(), "application/octet-stream", "{}"); err != nil {
		return "", err
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	text := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"x":"%%s"}}`, mediaType, config)
	text = fmt.Sprintf(text, strings.Repeat("x", size-len(text)+len("%s")))
	path := "/v2/app/manifests/v1"
	return path, put(http.MethodPut, path, mediaType, text)
}

// C-1: 10,000 connections over TLS that are kept and idle cost weir no more than 600 MiB,
// all are still good, and a manifest of 1 KiB takes those who pull beside them at most twice
// as long as before they came. They are in this process, and weir in its own.
func TestNightlyIdleConnections(t *testing.T) {
	const most, each, size = 600 << 20, 60 << 10, 1 << 10
	rep := oracletest.NewReport(t, "disk", 0)
	defer rep.Keep(t)
	// What else the machine does comes and goes: of several rounds the quietest counts.
	const rounds, pulls = 5, 600
	n := oracletest.PartOf(t, 10_000)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(n)+1000 {
		t.Fatalf("a process may have %d files, %v", files.Cur, err)
	}
	servers, tlsFiles := mtlstest.NewAuthority(t, "servers"), mtlstest.NewFiles(t)
	tlsFiles.PutPair(t, servers.Issue(t, mtlstest.Server()))
	d := &idlers{process: newProcess(t, t.TempDir(), "authz: {policy: {default: allow}}\n"), client: &tls.Config{RootCAs: servers.Pool(), ServerName: "localhost"}}
	d.serves(fmt.Sprintf("timeouts: {idle: 1h}, tls: {certificate: %q, key: %q}", tlsFiles.Certificate, tlsFiles.Key))
	d.start()
	path, err := d.manifest(size)
	if err != nil {
		t.Fatal(err)
	}
	measure := func(what string) time.Duration {
		t.Helper()
		var all []time.Duration
		for range rounds {
			p99, err := d.pulls(pulls, path, size)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			all = append(all, p99)
		}
		rep.Operations += rounds * pulls
		rep.More["p99_ms_"+what] = float64(slices.Min(all).Microseconds()) / 1000
		return slices.Min(all)
	}
	before := measure("before")
	resident := d.memory("VmRSS")
	begun := time.Now()
	if err := d.come(n); err != nil {
		t.Fatal(err)
	}
	rep.More["seconds_to_come"] = time.Since(begun).Seconds()
	beside := measure("beside")
	rep.More["rss_before"], rep.More["rss"], rep.More["rss_peak"] = float64(resident), float64(d.memory("VmRSS")), float64(d.memory("VmHWM"))
	for i := range d.conns {
		if err := d.ask(i); err != nil {
			t.Fatalf("connection %d is not good any more: %v", i, err)
		}
	}
	for _, c := range d.conns {
		_ = c.Close()
	}
	after := measure("after")
	rep.Cycles = int64(n)

	peak, growth := d.memory("VmHWM"), d.memory("VmHWM")-resident
	rep.More["bytes_per_connection"] = float64(growth) / float64(n)
	if peak > most {
		t.Errorf("%d bytes at most, want %d", peak, most)
	}
	// Of few connections it is what weir needs anyway that counts.
	if n >= 1000 && growth > int64(n)*each {
		t.Errorf("%d bytes for each connection, want %d", growth/int64(n), each)
	}
	if unloaded := max(before, after); beside > 2*unloaded {
		t.Errorf("a pull takes %v beside them, and %v without", beside, unloaded)
	}
	d.stop()
	d.saidNothingBad()
}
