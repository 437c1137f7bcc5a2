//go:build chaos

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

const (
	budget       = 64 << 20
	budgetImages = 60 // of 5 MiB each: 300 MiB in all
	budgetLayer  = 3 << 20
	// budgetPushed is of how many of their 180 layers pushes are taken too. Those are not
	// mirrored only any more: if it were all, nothing would be left to be evicted.
	budgetPushed = 24
)

// killed is the life between two.
const killed = 1

// tight is a weir whose cache is much smaller than what is pulled through it.
type tight struct {
	t      *testing.T
	up     *remotetest.Upstream
	client *http.Client
	images []map[string][]byte // what each has, by path; its manifest is under ""
	layers [][]byte            // of all images

	alive sync.RWMutex // held for reading by who asks, for writing while there is no weir
	weir  *weir
	lives atomic.Int64

	mu     sync.Mutex
	pushed map[digest.Digest][]byte
	counts map[string]int
	most   int64 // bytes of the cache on the disk
	// killedAt is when weir was killed, in nanoseconds, by the clock of files.
	killedAt int64
}

// TestChaosBudget pulls 300 MiB of images through a weir that may keep 64 MiB, for the
// time that $CHAOS says: some images much more than others, some clients slowly. Others
// push meanwhile, also what is mirrored. In the middle weir is killed. No reader is cut,
// no byte is wrong, the cache keeps its budget but for what is being fetched, and what
// was pushed is there at the end.
func TestChaosBudget(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("CHAOS"))
	if err != nil {
		t.Fatalf("CHAOS, how long it is to last: %v", err)
	}
	seed := oracletest.Seed(t)
	c := &tight{t: t, up: remotetest.New(t), client: newChaosClient(t), pushed: map[digest.Digest][]byte{}, counts: map[string]int{}}
	c.fillUpstream(seed)
	addr, data := freeAddr(t), filepath.Join(t.TempDir(), "data")
	start := func() {
		c.weir = startWeirAt(t, addr, data, fmt.Sprintf(`
mirror:
  well_known: false
  cache: {max_size: 64MiB, min_free: 0}
  upstreams: [{name: docker.io, endpoints: [{url: %q}], tags: {ttl: 1h}}]
`, c.up.URL()))
	}
	start()

	running, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var all sync.WaitGroup
	for i := range chaosClients {
		all.Go(func() { c.pull(running, rand.New(rand.NewPCG(seed, uint64(i))), i < 2) })
	}
	all.Go(func() { c.push(running, rand.New(rand.NewPCG(seed, 1<<32))) })
	all.Go(func() { c.watch(running) })

	wait(running, length/2)
	_ = syscall.Kill(-c.weir.cmd.Process.Pid, syscall.SIGKILL)
	c.lives.Add(1) // it is killed
	<-c.weir.over
	c.weir.err = nil // it was killed: that is what it says
	c.mu.Lock()
	c.killedAt = time.Now().UnixNano()
	c.mu.Unlock()
	c.alive.Lock()
	c.lives.Add(1)
	start()
	c.alive.Unlock()
	all.Wait()
	// What the kill left of downloads is theirs who ask for the same again, for an hour.
	for _, image := range c.images {
		for path, want := range image {
			if path != "" {
				c.want(path, want, 0)
			}
		}
	}

	c.client.CloseIdleConnections()
	until(t, "fills end", func() bool { return c.weir.gauges(t)["weir_fills_active"] == 0 })
	until(t, "the budget is kept", func() bool { return sum(c.onDisk()) <= budget })
	now := c.weir.gauges(t)
	t.Logf("%v; at most %.1f MiB on the disk; %.0f MiB evicted since the kill, %.1f MiB kept; %d blobs pushed",
		c.counts, float64(c.most)/(1<<20), now["weir_cache_evicted_bytes_total"]/(1<<20), now["weir_cache_bytes"]/(1<<20), len(c.pushed))
	for d, want := range c.pushed {
		if got, err := c.read(t.Context(), "/v2/team/app/blobs/"+d.String(), 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("pushed %s: %d bytes of %d, %v", d, len(got), len(want), err)
		}
	}
	switch {
	case now["weir_cache_bytes"] > budget || c.most > budget+chaosClients*budgetLayer:
		t.Errorf("the cache has %.0f bytes, and took %d of the disk", now["weir_cache_bytes"], c.most)
	case now["weir_cache_evicted_bytes_total"] == 0 || c.counts["hit"] == 0 || c.counts["fill"] == 0 || len(c.pushed) == 0:
		t.Error("nothing left, was kept or was pushed: this was no test")
	}
}

// fillUpstream makes images that share a layer with some others.
func (c *tight) fillUpstream(seed uint64) {
	for i := range uint64(budgetImages) {
		layers := [][]byte{
			origintest.Bytes(seed+1000+i%6, 1<<20),
			origintest.Bytes(seed+2000+i, budgetLayer),
			origintest.Bytes(seed+3000+i, 1<<20),
		}
		name := fmt.Sprintf("library/image%d", i)
		image := c.up.AddImage(name, "1", layers...)
		parts := map[string][]byte{"": image.Bytes}
		for j, l := range image.Layers {
			parts["/v2/docker.io/"+name+"/blobs/"+l.Digest.String()] = layers[j]
		}
		c.images = append(c.images, parts)
		c.layers = append(c.layers, layers...)
	}
}

// pull pulls images until ctx ends. What it has begun it ends.
func (c *tight) pull(ctx context.Context, random *rand.Rand, slow bool) {
	some := rand.NewZipf(random, 1.2, 4, budgetImages-1)
	for ctx.Err() == nil {
		i := some.Uint64()
		c.want(fmt.Sprintf("/v2/docker.io/library/image%d/manifests/1", i), c.images[i][""], 0)
		for path, want := range c.images[i] {
			if path == "" {
				continue
			}
			pause := time.Duration(0)
			if slow {
				pause = time.Millisecond * time.Duration(random.IntN(10))
			}
			c.want(path, want, pause)
		}
	}
}

// want wants an answer that is whole and right, unless weir was killed meanwhile.
func (c *tight) want(path string, want []byte, pause time.Duration) {
	c.alive.RLock()
	defer c.alive.RUnlock()
	life := c.lives.Load()
	got, err := c.read(c.t.Context(), path, pause)
	if c.lives.Load() != life || life == killed {
		return
	}
	if err != nil || !bytes.Equal(got, want) {
		c.t.Errorf("%s: %d bytes of %d, %v", path, len(got), len(want), err)
	}
}

// read reads an answer, with a pause after each 64 KiB.
func (c *tight) read(ctx context.Context, path string, pause time.Duration) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.weir.addr+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // what counts was read
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	var got bytes.Buffer
	for {
		_, err := io.CopyN(&got, resp.Body, 64<<10)
		switch {
		case err == io.EOF:
			c.mu.Lock()
			c.counts[resp.Header.Get("Weir-Cache")]++
			c.mu.Unlock()
			return got.Bytes(), nil
		case err != nil:
			return got.Bytes(), err
		}
		wait(ctx, pause)
	}
}

// push pushes blobs until ctx ends: new ones, and some that are mirrored, by upload or
// by mount.
func (c *tight) push(ctx context.Context, random *rand.Rand) {
	repo := origintest.Repo(c.t, "team/app")
	for i := 0; ctx.Err() == nil; i++ {
		content := origintest.Bytes(random.Uint64(), 100<<10)
		if i%3 > 0 {
			content = c.layers[random.IntN(budgetPushed)]
		}
		d := digest.FromBytes(content)
		c.alive.RLock()
		life := c.lives.Load()
		registry := &oracletest.HTTP{Base: "http://" + c.weir.addr, Client: c.client}
		err := func() error {
			if i%3 == 1 {
				image := random.IntN(budgetImages)
				from := origintest.Repo(c.t, "docker.io/library/image"+strconv.Itoa(image))
				if _, err := registry.Mount(c.t.Context(), from, repo, d); !origin.Unknown(err) {
					return err
				}
			}
			in, err := registry.Upload(c.t.Context(), repo, "", digest.SHA256)
			if err != nil {
				return err
			}
			if _, err := in.Write(content); err != nil {
				return err
			}
			_, err = in.Commit(c.t.Context(), d)
			return err
		}()
		if err == nil {
			c.mu.Lock()
			c.pushed[d] = content
			c.mu.Unlock()
		} else if c.lives.Load() == life && life != killed {
			c.t.Errorf("push: %v", err)
		}
		c.alive.RUnlock()
		wait(ctx, 300*time.Millisecond)
	}
}

// watch looks at what is on the disk until ctx ends. A look takes a while, in which blobs come
// and go: those that are there in two looks, one after the other, were all there in between.
func (c *tight) watch(ctx context.Context) {
	before := c.onDisk()
	for ctx.Err() == nil {
		now, both := c.onDisk(), int64(0)
		for file, size := range before {
			both += min(size, now[file])
		}
		c.most = max(c.most, both)
		before = now
		wait(ctx, 50*time.Millisecond)
	}
}

// sum gives the bytes of files.
func sum(files map[uint64]int64) (n int64) {
	for _, size := range files {
		n += size
	}
	return n
}

// onDisk gives the bytes of blobs, and of what is being fetched, by the number of the file: one
// that has both names counts once. What was pushed does not count, nor what the kill has left
// of fills, which ended with it, until somebody fetches the rest.
func (c *tight) onDisk() map[uint64]int64 {
	files := map[uint64]int64{}
	for _, dir := range []string{"blobs", "spool"} {
		err := filepath.WalkDir(filepath.Join(c.weir.data, dir), func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went while we looked
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			c.mu.Lock()
			_, pushed := c.pushed[digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(e.Name(), ".journal"))]
			left := dir == "spool" && st.Mtim.Nano() < c.killedAt
			c.mu.Unlock()
			if !pushed && !left {
				files[st.Ino] = st.Blocks * 512 // a spool has holes
			}
			return nil
		})
		if err != nil {
			c.t.Error(err)
		}
	}
	return files
}
