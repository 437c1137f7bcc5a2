//go:build nightly

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// large is a blob that is nowhere kept: each of its blocks begins with the blob's number and
// its own, and goes on as all others do.
type large struct {
	number uint64
	size   int64
	off    int64
	block  []byte // shared
}

func newLarge(number uint64, size int64) *large {
	return &large{number: number, size: size, block: origintest.Bytes(number, 1<<20)}
}

// Read implements io.Reader.
func (l *large) Read(b []byte) (int, error) {
	if l.off >= l.size {
		return 0, io.EOF
	}
	at := l.off % int64(len(l.block))
	n := copy(b[:min(int64(len(b)), l.size-l.off)], l.block[at:])
	var head [16]byte
	binary.BigEndian.PutUint64(head[:], l.number)
	binary.BigEndian.PutUint64(head[8:], uint64(l.off/int64(len(l.block))))
	if at < int64(len(head)) {
		copy(b[:n], head[at:])
	}
	l.off += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (l *large) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += l.off
	case io.SeekEnd:
		off += l.size
	}
	if off < 0 {
		return 0, errors.New("before the beginning")
	}
	l.off = off
	return off, nil
}

// digest reads it once.
func (l *large) digest(t *testing.T) digest.Digest {
	t.Helper()
	d, err := digest.SHA256.FromReader(&large{number: l.number, size: l.size, block: l.block})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pushLarge pushes a blob in one request.
func (p *process) pushLarge(repo string, l *large, d digest.Digest) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.public+"/v2/"+repo+"/blobs/uploads/?digest="+d.String(), l)
	if err != nil {
		p.t.Fatal(err)
	}
	req.ContentLength = l.size
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	said, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		p.t.Fatalf("push: %s %s", resp.Status, said)
	}
}

// pullLarge pulls a blob, and gives how it came.
func (p *process) pullLarge(repo string, size int64, d digest.Digest) (cache string) {
	p.t.Helper()
	resp, err := p.client.Get("http://" + p.public + "/v2/" + repo + "/blobs/" + d.String())
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	v := d.Verifier()
	n, err := io.Copy(v, resp.Body)
	if err != nil || n != size || !v.Verified() || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("pull: %s, %d bytes of %d, %v", resp.Status, n, size, err)
	}
	return resp.Header.Get("Weir-Cache")
}

// grown wants that p never had so much more memory than before.
func (p *process) grown(rep *oracletest.Report, before int64) {
	p.t.Helper()
	const most = 64 << 20
	peak := p.memory("VmHWM")
	rep.More["rss_before"], rep.More["rss_peak"] = float64(before), float64(peak)
	if peak-before > most {
		p.t.Errorf("%d bytes of memory more than before", peak-before)
	}
}

// A blob of 5 GiB is pushed, another one fetched from an upstream, and both are pulled, in
// 64 MiB more memory (trust D-5).
func TestNightlyLargeDisk(t *testing.T) {
	rep := oracletest.NewReport(t, "disk", 0)
	defer rep.Keep(t)
	size := oracletest.PartOf[int64](t, 5<<30)
	pushed, above := newLarge(1, size), newLarge(2, size)
	d, up := pushed.digest(t), above.digest(t)
	u := remotetest.New(t)
	u.OnBlob(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, up.String()) {
			return false
		}
		w.Header().Set("Docker-Content-Digest", up.String())
		http.ServeContent(w, r, "", time.Time{}, newLarge(above.number, size))
		return true
	})
	p := newProcess(t, t.TempDir(), hub(u, ""))
	p.start()
	before := p.memory("VmRSS")
	p.pushLarge("team/app", pushed, d)
	p.pullLarge("team/app", size, d)
	if got := p.pullLarge("docker.io/library/large", size, up); got != "fill" {
		t.Errorf("the first pull is a %s", got)
	}
	if sent := u.Sent(up.String()); sent > size+size/100 {
		t.Errorf("the upstream sent %d bytes of %d", sent, size)
	}
	eventually(t, "what was fetched is kept", func() bool {
		resp, err := p.client.Head("http://" + p.public + "/v2/docker.io/library/large/blobs/" + up.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.Header.Get("Weir-Cache") == "hit"
	})
	p.pullLarge("docker.io/library/large", size, up)
	rep.Operations, rep.More["bytes"] = 4, float64(4*size)
	p.grown(rep, before)
	p.stop()
	p.saidNothingBad()
}

// A blob of 10 GiB goes through a bucket in parts, of which there are no more than S3
// allows, and comes back.
func TestNightlyLargeS3(t *testing.T) {
	rep := oracletest.NewReport(t, "bucket", 0)
	defer rep.Keep(t)
	size := oracletest.PartOf[int64](t, 10<<30)
	blob := newLarge(3, size)
	d := blob.digest(t)
	server := s3test.Start(t)
	faults := s3test.NewFaults(t, server) // counts requests
	var sent atomic.Int64
	faults.Set(func(r *http.Request) s3test.Fault {
		if r.URL.Query().Has("partNumber") {
			sent.Add(1)
		}
		return s3test.None
	})
	name := server.Bucket(t)
	through := &s3test.Server{URL: faults.URL, Dir: server.Dir}
	p := newProcessOn(t, freeAddr(t), "{blobs: "+bucket(through, name, ", redirect: false, spool: '"+t.TempDir()+"'")+"}", "")
	p.start()
	before := p.memory("VmRSS")
	p.pushLarge("team/app", blob, d)
	p.pullLarge("team/app", size, d)
	const most = 10_000
	if parts := sent.Load(); parts > most || size > 100<<20 && parts < 2 {
		t.Errorf("%d parts", parts)
	}
	rep.Operations, rep.More["bytes"], rep.More["parts"] = 2, float64(2*size), float64(sent.Load())
	p.grown(rep, before)
	p.stop()
	if left := files(t, inParts(server, name), filepath.Join(server.Dir, name, "weir/ingest")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	p.saidNothingBad()
}

// A blob that is made as it is read is the same each time, wherever reading begins.
func TestLarge(t *testing.T) {
	whole, err := io.ReadAll(newLarge(7, 3<<20+5))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{1, 15, 1 << 20, 2<<20 - 1, 3 << 20} {
		l := newLarge(7, 3<<20+5)
		if _, err := l.Seek(off, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(l); err != nil || !bytes.Equal(rest, whole[off:]) {
			t.Errorf("from %d: %d bytes, %v", off, len(rest), err)
		}
	}
	if bytes.Equal(whole[:1<<20], whole[1<<20:2<<20]) {
		t.Error("two blocks are the same")
	}
}
