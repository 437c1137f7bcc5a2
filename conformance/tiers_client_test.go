//go:build clients

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// pulled is what a client got, and when.
type pulled struct {
	began, first, end time.Time // first: the first byte of any layer
}

// pull pulls an image as container engines do: the manifest by its tag, then all blobs,
// each in one request that is not repeated. ask writes a path: what comes before
// and after the image's own part.
func (n *tierNode) pull(ctx context.Context, ask [2]string, i *tierImage) (p pulled, err error) {
	p.began = time.Now()
	text, err := n.get(ctx, ask, i.repo+"/manifests/1", "", nil)
	if err != nil {
		return p, err
	}
	if got := digest.FromBytes(text).String(); got != i.manifest {
		return p, fmt.Errorf("the manifest is %s, not %s", got, i.manifest)
	}
	var m struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(text, &m); err != nil || len(m.Layers)+1 != len(i.blobs) {
		return p, fmt.Errorf("%d layers, %w", len(m.Layers), err)
	}
	pulls, ctx := errgroup.WithContext(ctx)
	firsts := make(chan time.Time, len(i.blobs))
	for d := range i.blobs {
		pulls.Go(func() error {
			_, err := n.get(ctx, ask, i.repo+"/blobs/"+d, "", firsts)
			return err
		})
	}
	err = pulls.Wait()
	p.end = time.Now()
	if len(firsts) > 0 {
		p.first = <-firsts
	}
	return p, err
}

// get asks once, and gives the whole body of what is small or a range. Of a blob it
// says when the first byte came, and that all of it is right.
func (n *tierNode) get(ctx context.Context, ask [2]string, path, byteRange string, first chan<- time.Time) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:5000"+ask[0]+path+ask[1], nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, */*")
	want := http.StatusOK
	if byteRange != "" {
		want = http.StatusPartialContent
		req.Header.Set("Range", byteRange)
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // what counts was read
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	if first == nil {
		return io.ReadAll(resp.Body)
	}
	var start [1]byte
	if _, err := io.ReadFull(resp.Body, start[:]); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	first <- time.Now()
	body := io.MultiReader(bytes.NewReader(start[:]), resp.Body)
	if byteRange != "" {
		return io.ReadAll(body)
	}
	verifier := digest.SHA256.Hash()
	if k, err := io.Copy(verifier, body); err != nil {
		return nil, fmt.Errorf("%s: cut after %d bytes: %w", path, k, err)
	}
	if got := digest.NewDigest(digest.SHA256, verifier).String(); path[len(path)-len(got):] != got {
		return nil, fmt.Errorf("%s: other bytes, %s", path, got)
	}
	return nil, nil
}
