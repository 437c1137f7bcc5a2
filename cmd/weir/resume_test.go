package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// weir is killed in the middle of a download. When the blob is next asked for, what is
// on the disk is kept, and only the rest is fetched.
func TestKilledInTheMiddleOfAFill(t *testing.T) {
	const (
		size    = 32 << 20
		each    = 6 << 20 // of each of the four ranges, when it is killed
		losable = 2 << 20 // of each: what came after the last line of the journal
	)
	u := remotetest.New(t)
	data := origintest.Bytes(1, size)
	img := u.AddImage("library/nginx", "1.27", data)
	layer := digests(img)[0]
	gate := u.GateAt("/blobs/"+layer, each)
	p := newProcess(t, t.TempDir(), hub(u, "      timeouts: {stall: 10m}\n"))
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
	if _, err := pull("manifests/1.27"); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
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
	p.kill()
	reading.Wait()
	gate.Open()

	before := u.Sent("/blobs/" + layer)
	p.start()
	if b, err := pull("blobs/" + layer); err != nil || !bytes.Equal(b, data) {
		t.Errorf("the next pull: %d bytes, %v", len(b), err)
	}
	again := u.Sent("/blobs/"+layer) - before
	if least, most := int64(size-4*each), int64(size-4*each+4*losable); again < least || again > most {
		t.Errorf("%d bytes were fetched, %d to %d were missing", again, least, most)
	}
	p.stop()
	p.saidNothingBad()
}
