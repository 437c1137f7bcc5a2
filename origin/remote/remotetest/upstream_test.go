package remotetest_test

import (
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// get follows redirects, and gives the status and what there was of the body.
func get(t *testing.T, url, rng string) (status int, body []byte, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func TestLog(t *testing.T) {
	u := remotetest.New(t)
	u.CDN()
	img := u.AddImage("team/app", "1", []byte("a layer"))
	layer := img.Layers[0].Digest.String()
	base := u.URL().String() + "/v2/team/app/"
	if status, body, err := get(t, base+"manifests/1", ""); status != 200 || !bytes.Equal(body, img.Bytes) || err != nil {
		t.Errorf("manifest: %d %q %v", status, body, err)
	}
	if status, body, err := get(t, base+"blobs/"+layer, "bytes=2-"); status != 206 || string(body) != "layer" || err != nil {
		t.Errorf("blob: %d %q %v", status, body, err)
	}
	if status, _, _ := get(t, base+"blobs/sha256:00", ""); status != 404 {
		t.Errorf("unknown blob: %d", status)
	}
	want := []string{
		"GET /v2/team/app/manifests/1 200",
		"GET /v2/team/app/blobs/" + layer + " bytes=2- 307",
		"GET cdn:/team/app/" + layer + "?signature=s3cr3t bytes=2- 206",
		"GET /v2/team/app/blobs/sha256:00 404",
	}
	if got := u.Take(); !reflect.DeepEqual(got, want) {
		t.Errorf("log\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := u.Requests(); got != nil {
		t.Errorf("left after Take: %q", got)
	}
}

func TestFaults(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789"), 10_000)
	flipped := bytes.Clone(blob)
	flipped[70_000] ^= 0xff
	tests := map[string]struct {
		faults []remotetest.Fault
		status int
		body   []byte
		broken bool
	}{
		"none":          {status: 200, body: blob},
		"cut":           {faults: []remotetest.Fault{remotetest.Cut(50_000)}, status: 200, body: blob[:50_000], broken: true},
		"flip":          {faults: []remotetest.Fault{remotetest.Flip(70_000)}, status: 200, body: flipped},
		"no length":     {faults: []remotetest.Fault{remotetest.NoLength()}, status: 200, body: blob},
		"unmarked end":  {faults: []remotetest.Fault{remotetest.Cut(50_000), remotetest.CloseDelimited()}, status: 200, body: blob[:50_000]},
		"status":        {faults: []remotetest.Fault{remotetest.Status(503)}, status: 503, body: []byte(`{"errors":[{"code":"UNKNOWN","message":"the upstream says no"}]}`)},
		"html":          {faults: []remotetest.Fault{remotetest.HTML()}, status: 200, body: []byte("<!DOCTYPE html><title>Welcome</title>")},
		"last in front": {faults: []remotetest.Fault{remotetest.Status(503), remotetest.HTML()}, status: 200, body: []byte("<!DOCTYPE html><title>Welcome</title>")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			d := u.AddBlob("x", blob).Digest.String()
			for _, f := range test.faults {
				defer u.Fault("GET /v2/x/blobs/", f)()
			}
			status, body, err := get(t, u.URL().String()+"/v2/x/blobs/"+d, "")
			if status != test.status || !bytes.Equal(body, test.body) || (err != nil) != test.broken {
				t.Errorf("%d, %d bytes, %v", status, len(body), err)
			}
		})
	}
}

func TestGateHoldsOnce(t *testing.T) {
	u := remotetest.New(t)
	blob := bytes.Repeat([]byte("x"), 100_000)
	d := u.AddBlob("x", blob).Digest.String()
	g := u.GateAt("/blobs/", 32<<10) // where io.Copy ends a piece
	read := make(chan []byte)
	go func() {
		_, body, err := get(t, u.URL().String()+"/v2/x/blobs/"+d, "")
		if err != nil {
			t.Error(err)
		}
		read <- body
	}()
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-read:
		t.Fatal("an answer passed a closed gate")
	default:
	}
	g.Open()
	if got := <-read; !bytes.Equal(got, blob) {
		t.Errorf("%d bytes", len(got))
	}
}
