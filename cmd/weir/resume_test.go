package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// weir is killed in the middle of a download. When the blob is next asked for, what is
// on the disk is kept, and only the rest is fetched. What nobody has asked for within an
// hour is swept.
func TestKilledInTheMiddleOfAFill(t *testing.T) {
	const (
		size    = 32 << 20
		each    = 6 << 20 // of each of the four ranges, when it is killed
		losable = 2 << 20 // of each: what came after the last line of the journal
	)
	u := remotetest.New(t)
	data, stale, young := origintest.Bytes(1, size), origintest.Bytes(2, size/4), origintest.Bytes(3, size/4)
	layers := digests(u.AddImage("library/nginx", "1.27", data, stale, young))
	dir := t.TempDir()
	p := newProcess(t, dir, hub(u, "      timeouts: {stall: 10m}\n"))
	p.start()
	pull := func(path string) ([]byte, error) {
		resp, err := p.client.Get("http://" + p.public + "/v2/docker.io/library/nginx/" + path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, b)
		}
		return b, err
	}
	var reading sync.WaitGroup
	// halfway has a download come to that many bytes of each of its four ranges.
	halfway := func(layer string, each int64) *remotetest.Gate {
		if _, err := pull("manifests/1.27"); err != nil { // it says how large the layer is
			t.Fatal(err)
		}
		gate := u.GateAt("/blobs/"+layer, each)
		reading.Go(func() {
			if b, err := pull("blobs/" + layer); err == nil {
				t.Errorf("%d bytes came to a good end though weir was killed", len(b))
			}
		})
		received := fmt.Sprintf(`"received":%d`, 4*each)
		eventually(t, "four times as much has come", func() bool {
			resp, err := p.client.Get("http://" + p.public + "/v2/_ext/fills")
			if err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			b, _ := io.ReadAll(resp.Body)
			return strings.Contains(string(b), received)
		})
		return gate
	}
	gate := halfway(layers[0], each)
	p.kill()
	reading.Wait()
	gate.Open()

	before := u.Sent("/blobs/" + layers[0])
	p.start()
	if b, err := pull("blobs/" + layers[0]); err != nil || !bytes.Equal(b, data) {
		t.Errorf("the next pull: %d bytes, %v", len(b), err)
	}
	again := u.Sent("/blobs/"+layers[0]) - before
	if least, most := int64(size-4*each), int64(size-4*each+4*losable); again < least || again > most {
		t.Errorf("%d bytes were fetched, %d to %d were missing", again, least, most)
	}

	left := func() (names []string) {
		entries, err := os.ReadDir(filepath.Join(dir, spoolDir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, filepath.Join(dir, spoolDir, e.Name()))
		}
		return names
	}
	eventually(t, "the spool has gone", func() bool { return len(left()) == 0 })
	gates := []*remotetest.Gate{halfway(layers[1], 3<<19)}
	old := left()
	gates = append(gates, halfway(layers[2], 5<<18))
	p.kill()
	reading.Wait()
	both := left()
	if len(old) != 2 || len(both) != 4 {
		t.Fatalf("left: %q, and then %q", old, both)
	}
	for _, name := range both {
		age := 30 * time.Minute
		if slices.Contains(old, name) {
			age = 2 * time.Hour
		}
		if err := os.Chtimes(name, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range gates {
		g.Open()
	}
	before = u.Sent("/blobs/" + layers[2])
	p.start()
	eventually(t, "what is two hours old has gone", func() bool {
		return !slices.ContainsFunc(left(), func(name string) bool { return slices.Contains(old, name) })
	})
	// Once the first of them goes, nothing is opened before all have been looked at.
	if b, err := pull("blobs/" + layers[2]); err != nil || !bytes.Equal(b, young) {
		t.Errorf("what is half an hour old: %d bytes, %v", len(b), err)
	}
	if again := u.Sent("/blobs/"+layers[2]) - before; again > size/4-4<<20 {
		t.Errorf("%d bytes were fetched of what is half an hour old", again)
	}
	p.stop()
	p.saidNothingBad()
}
