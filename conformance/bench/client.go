package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A client speaks to one registry over connections of its own. It checks whatever
// it gets.
type client struct {
	base   string // "http://host:port"
	prefix string // of every repository's name there
	token  string // bearer token, or ""
	anew   bool   // a pull begins without a token, and has one by the challenge
	http   *http.Client
}

func newClient(addr string) *client {
	return &client{base: "http://" + addr, http: &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 256,
		ReadBufferSize:      64 << 10,
		DisableCompression:  true,
	}}}
}

// close ends its connections.
func (c *client) close() { c.http.CloseIdleConnections() }

func (c *client) path(repo, rest string) string {
	return c.base + "/v2/" + c.prefix + repo + "/" + rest
}

// do sends a request and gives its answer, whose status must be want. A body that can
// be closed is closed; a file that ends after length bytes is sent by the kernel.
func (c *client) do(ctx context.Context, method, url string, body io.Reader, length int64, want int, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return nil, errors.Join(&statusError{method + " " + url, resp.StatusCode, want, text}, resp.Body.Close())
	}
	return resp, nil
}

// A statusError is an answer with another status than the one wanted.
type statusError struct {
	request   string
	got, want int
	text      []byte // the beginning of the body
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: %d, want %d: %s", e.request, e.got, e.want, bytes.Join(bytes.Fields(e.text), []byte(" ")))
}

// finish reads an answer to its end, so that its connection is used again.
func finish(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// begin starts an upload and gives its address.
func (c *client) begin(ctx context.Context, repo string) (*url.URL, error) {
	resp, err := c.do(ctx, http.MethodPost, c.path(repo, "blobs/uploads/"), nil, 0, http.StatusAccepted)
	if err := finish(resp, err); err != nil {
		return nil, err
	}
	return resp.Location()
}

// pushBlob is HEAD, POST, PUT.
func (c *client) pushBlob(ctx context.Context, repo string, b chunk) error {
	resp, err := c.do(ctx, http.MethodHead, c.path(repo, "blobs/"+b.digest.String()), nil, 0, http.StatusNotFound)
	if err := finish(resp, err); err != nil {
		return err
	}
	at, err := c.begin(ctx, repo)
	if err != nil {
		return err
	}
	f, err := os.Open(b.file)
	if err != nil {
		return err
	}
	return c.commit(ctx, at, b.digest, f, b.n)
}

// commit sends the last n bytes of an upload.
func (c *client) commit(ctx context.Context, at *url.URL, d digest.Digest, body io.Reader, n int64) error {
	q := at.Query()
	q.Set("digest", d.String())
	at.RawQuery = q.Encode()
	if n == 0 {
		body = nil
	}
	return finish(c.do(ctx, http.MethodPut, at.String(), body, n, http.StatusCreated, "Content-Type", "application/octet-stream"))
}

// pushChunked sends the blob whose parts these are, each in a PATCH.
func (c *client) pushChunked(ctx context.Context, repo string, parts []chunk, d digest.Digest) error {
	at, err := c.begin(ctx, repo)
	if err != nil {
		return err
	}
	var off int64
	for _, p := range parts {
		f, err := os.Open(p.file)
		if err != nil {
			return err
		}
		resp, err := c.do(ctx, http.MethodPatch, at.String(), f, p.n, http.StatusAccepted,
			"Content-Type", "application/octet-stream", "Content-Range", fmt.Sprintf("%d-%d", off, off+p.n-1))
		if err := finish(resp, err); err != nil {
			return err
		}
		if at, err = resp.Location(); err != nil {
			return err
		}
		off += p.n
	}
	return c.commit(ctx, at, d, nil, 0)
}

// putManifest pushes a manifest under a reference.
func (c *client) putManifest(ctx context.Context, repo, ref string, i image) error {
	return finish(c.do(ctx, http.MethodPut, c.path(repo, "manifests/"+ref), bytes.NewReader(i.manifest), int64(len(i.manifest)),
		http.StatusCreated, "Content-Type", manifestType))
}

// push sends an image: its blobs, then its manifest under tag.
func (c *client) push(ctx context.Context, repo, tag string, i image) error {
	for _, b := range i.blobs {
		if err := c.pushBlob(ctx, repo, b); err != nil {
			return err
		}
	}
	return c.putManifest(ctx, repo, tag, i)
}

// manifest gets a manifest and checks that it is i's.
func (c *client) manifest(ctx context.Context, repo, ref string, i image) error {
	resp, err := c.do(ctx, http.MethodGet, c.path(repo, "manifests/"+ref), nil, 0, http.StatusOK, "Accept", manifestType)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if !bytes.Equal(text, i.manifest) {
		return fmt.Errorf("manifest %s of %s: other bytes than were pushed", ref, repo)
	}
	return nil
}

// blob gets a whole blob, checks it, and says when its first byte came.
func (c *client) blob(ctx context.Context, repo string, d digest.Digest, size int64) (first time.Time, err error) {
	resp, err := c.do(ctx, http.MethodGet, c.path(repo, "blobs/"+d.String()), nil, 0, http.StatusOK)
	if err != nil {
		return first, err
	}
	defer resp.Body.Close()
	hash := sha256.New()
	buf := make([]byte, 128<<10)
	var n int64
	for {
		k, err := resp.Body.Read(buf)
		if k > 0 && first.IsZero() {
			first = time.Now()
		}
		n += int64(k)
		hash.Write(buf[:k])
		if err == io.EOF {
			break
		}
		if err != nil {
			return first, fmt.Errorf("blob %s of %s after %d bytes: %w", d, repo, n, err)
		}
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != d || n != size {
		return first, fmt.Errorf("blob %s of %s: got %d bytes of %s", d, repo, n, got)
	}
	return first, nil
}

// admit has the token that the registry asks for when it is asked for a manifest.
func (c *client) admit(ctx context.Context, repo, ref string) error {
	c.token = ""
	resp, err := c.do(ctx, http.MethodGet, c.path(repo, "manifests/"+ref), nil, 0, http.StatusUnauthorized, "Accept", manifestType)
	if err := finish(resp, err); err != nil {
		return err
	}
	realm, err := tokenURL(resp.Header.Get("WWW-Authenticate"))
	if err != nil {
		return err
	}
	if resp, err = c.do(ctx, http.MethodGet, realm, nil, 0, http.StatusOK); err != nil {
		return err
	}
	var said struct{ Token string }
	err = json.NewDecoder(resp.Body).Decode(&said)
	c.token = said.Token
	return errors.Join(err, finish(resp, nil))
}

// tokenURL is where a challenge wants a token to be asked for: its realm, with all
// else that it says.
func tokenURL(challenge string) (string, error) {
	said, ok := strings.CutPrefix(challenge, "Bearer ")
	if !ok {
		return "", fmt.Errorf("%q is no challenge for a token", challenge)
	}
	realm, q := "", url.Values{}
	for said != "" {
		name, rest, named := strings.Cut(said, `="`)
		value, rest, quoted := strings.Cut(rest, `"`)
		if !named || !quoted {
			return "", fmt.Errorf("%q is no challenge", challenge)
		}
		if name == "realm" {
			realm = value
		} else {
			q.Set(name, value)
		}
		said = strings.TrimPrefix(rest, ",")
	}
	return realm + "?" + q.Encode(), nil
}

// pull gets an image as clients do: the manifest by tag, then its blobs at once. It
// gives the time from its start to the first byte of any layer, and to the end.
func (c *client) pull(ctx context.Context, repo, tag string, i image) (first, total time.Duration, err error) {
	began := time.Now()
	if c.anew {
		if err := c.admit(ctx, repo, tag); err != nil {
			return 0, 0, err
		}
	}
	if err := c.manifest(ctx, repo, tag, i); err != nil {
		return 0, 0, err
	}
	blobs, err := parseManifest(i.manifest)
	if err != nil {
		return 0, 0, err
	}
	firsts := make([]time.Time, len(blobs))
	pulls, ctx := errgroup.WithContext(ctx)
	for n, b := range blobs {
		pulls.Go(func() (err error) {
			firsts[n], err = c.blob(ctx, repo, b.Digest, b.Size)
			return err
		})
	}
	err = pulls.Wait()
	total = time.Since(began)
	first = total
	for _, at := range firsts[1:] {
		if d := at.Sub(began); !at.IsZero() && d < first {
			first = d
		}
	}
	return first, total, err
}
