package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/weir-registry/weir/origin"
)

const (
	// warmImagesAtATime and warmBlobs are how much is fetched at a time. weir fetches a
	// blob in several streams, and takes turns beyond 32 blobs of one upstream.
	warmImagesAtATime, warmBlobs = 4, 8
	// warmDepth is how deep indexes may lie in indexes.
	warmDepth = 4
)

// warmer pulls images through a weir.
type warmer struct {
	server  *url.URL
	client  *http.Client
	wants   []origin.Platform // nil: all
	refresh bool
	show    warmShow

	turns *semaphore.Weighted // of blobs
	mu    sync.Mutex
	blobs map[string]*warmBlob // by repository and digest: each is fetched once
}

// warmShow tells a person how it goes on. Its methods may be called at the same time.
type warmShow interface {
	// blob begins to show a blob of an image.
	blob(x image, d v1.Descriptor) warmBar
	// done says that all of an image is there: blobs that its platforms need, and their
	// bytes. note is "" or what is remarkable about it.
	done(x image, d digest.Digest, blobs int, bytes int64, note string)
	failed(x image, err error)
	close()
}

// warmBar shows one blob on its way.
type warmBar interface {
	add(n int)
	// end is called once; cached says that weir had it.
	end(cached bool, err error)
}

// warmBlob is a blob that one image fetches, and others that name it wait for.
type warmBlob struct {
	once sync.Once
	err  error
}

// run fetches the images, and gives how many failed.
func (w *warmer) run(ctx context.Context, images []image) (failed int) {
	w.turns, w.blobs = semaphore.NewWeighted(warmBlobs), map[string]*warmBlob{}
	defer w.show.close()
	var (
		mu    sync.Mutex
		group errgroup.Group
	)
	group.SetLimit(warmImagesAtATime)
	for _, x := range images {
		group.Go(func() error {
			if err := w.image(ctx, x); err != nil {
				w.show.failed(x, err)
				mu.Lock()
				failed++
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // what fails is counted
	return failed
}

// image fetches one image.
func (w *warmer) image(ctx context.Context, x image) error {
	top, note, err := w.manifest(ctx, x, x.ref)
	if err != nil {
		return err
	}
	needs := map[digest.Digest]v1.Descriptor{}
	if err := w.walk(ctx, x, top, needs, warmDepth); err != nil {
		return err
	}
	var (
		group errgroup.Group
		bytes int64
	)
	for _, d := range needs {
		bytes = origin.AddSizes(bytes, d.Size)
		group.Go(func() error { return w.blob(ctx, x, d) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	w.show.done(x, top.Digest, len(needs), bytes, note)
	return nil
}

// walk gathers the blobs that a manifest needs; of an index, those of the manifests for
// the platforms that are wanted.
func (w *warmer) walk(ctx context.Context, x image, m origin.Manifest, needs map[digest.Digest]v1.Descriptor, depth int) error {
	content, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", m.Digest, err)
	}
	for _, b := range content.Blobs {
		if len(b.URLs) == 0 { // others are somewhere else, and never fetched
			needs[b.Digest] = b
		}
	}
	if !content.Index {
		return nil
	}
	if depth == 0 {
		return errors.New("its indexes are nested too deep")
	}
	children, err := w.choose(content.Manifests)
	if err != nil {
		return err
	}
	for _, c := range children {
		child, _, err := w.manifest(ctx, x, origin.ByDigest(c.Digest))
		if err != nil {
			return err
		}
		if err := w.walk(ctx, x, child, needs, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// choose gives the manifests of an index that are wanted. Those that say no platform
// are never left out.
func (w *warmer) choose(all []v1.Descriptor) ([]v1.Descriptor, error) {
	if w.wants == nil {
		return all, nil
	}
	var chosen []v1.Descriptor
	for _, d := range all {
		if d.Platform == nil || slices.ContainsFunc(w.wants, func(p origin.Platform) bool { return p.Match(d.Platform) }) {
			chosen = append(chosen, d)
		}
	}
	for _, p := range w.wants {
		has := func(d v1.Descriptor) bool { return d.Platform == nil || p.Match(d.Platform) }
		if !slices.ContainsFunc(all, has) {
			return nil, fmt.Errorf("it is not for %s: there is %s", p, platformsOf(all))
		}
	}
	return chosen, nil
}

func platformsOf(all []v1.Descriptor) string {
	var names []string
	for _, d := range all {
		if d.Platform != nil && d.Platform.OS != "unknown" {
			name := strings.TrimSuffix(d.Platform.OS+"/"+d.Platform.Architecture+"/"+d.Platform.Variant, "/")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// blob fetches a blob, or waits for the image that fetches it.
func (w *warmer) blob(ctx context.Context, x image, d v1.Descriptor) error {
	key := x.host + " " + x.repo.String() + " " + d.Digest.String()
	w.mu.Lock()
	b := w.blobs[key]
	if b == nil {
		b = &warmBlob{}
		w.blobs[key] = b
	}
	w.mu.Unlock()
	b.once.Do(func() {
		if b.err = w.turns.Acquire(ctx, 1); b.err != nil {
			return
		}
		defer w.turns.Release(1)
		bar := w.show.blob(x, d)
		var cached bool
		cached, b.err = w.fetch(ctx, x, d, bar.add)
		bar.end(cached, b.err)
	})
	return b.err
}
