package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A bench is one run of everything.
type bench struct {
	dir      string // for all data
	data     *dataset
	servers  []server // those that are to be had
	tools    string   // tools.sh
	blobs    int      // how many a collection of garbage looks at
	progress io.Writer
	trials   int // so far: each has a directory of its own
}

// A row is a piece of work that several servers do.
type row struct {
	name     string
	work     string // in words
	servers  []string
	measures []measure
	within   time.Duration // how long one server may need; 0: limit
	run      func(ctx context.Context, t *trial) (values, error)
}

// A value is what was measured: a number, or in words why there is none.
type value struct {
	Number float64 `json:"number,omitempty"`
	Text   string  `json:"text,omitempty"`
}

// values are by the name of the measure.
type values map[string]value

func number(x float64) value { return value{Number: x} }

// A trial is one server at one row.
type trial struct {
	*bench
	server
	scratch  string // a directory that was empty
	seconds  int    // of profile to take in the measured part; 0 for none
	profile  string // file for it
	measured time.Duration
	running  *process
	bucket   *process // the S3 server that it is on, if it is
	up       *upstream
	second   *upstream // where what up has is had too, if anywhere
}

// limit is how long one server may need for one row that does not say more.
const limit = 4 * time.Minute

// measure lets every server that takes part do a row and notes what it reached.
func (b *bench) measure(ctx context.Context, w row, r *report) {
	result := r.row(w)
	for _, name := range w.servers {
		s, ok := b.server(name)
		if !ok {
			continue
		}
		fmt.Fprintf(b.progress, "%-16s %-16s", w.name, name)
		began := time.Now()
		v, measured, err := b.try(ctx, w, s, 0, "")
		result.note(name, v, measured, err)
		if err != nil {
			fmt.Fprintf(b.progress, "%5.1f s  %v\n", time.Since(began).Seconds(), err)
		} else {
			fmt.Fprintf(b.progress, "%5.1f s  %s\n", time.Since(began).Seconds(), v)
		}
	}
}

func (b *bench) server(name string) (server, bool) {
	for _, s := range b.servers {
		if s.name == name {
			return s, true
		}
	}
	return server{}, false
}

// try does one row with one server, in a directory that is gone afterwards. With
// seconds, a CPU profile of that length is taken and written to profile.
func (b *bench) try(ctx context.Context, w row, s server, seconds int, profile string) (values, time.Duration, error) {
	b.trials++
	t := &trial{bench: b, server: s, scratch: filepath.Join(b.dir, fmt.Sprintf("%03d", b.trials)), seconds: seconds, profile: profile}
	if err := os.Mkdir(t.scratch, 0o755); err != nil {
		return nil, 0, err
	}
	// What earlier trials left to be written must not be written in this one.
	syscall.Sync()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(w.within, limit))
	defer cancel()
	v, err := w.run(ctx, t)
	// The upstream first: a server may wait for an answer of it before it ends.
	for _, u := range []*upstream{t.up, t.second} {
		if u != nil {
			err = errors.Join(err, u.close())
		}
	}
	err = errors.Join(err, t.stop())
	if t.bucket != nil {
		err = errors.Join(err, t.bucket.stop())
	}
	return v, t.measured, errors.Join(err, os.RemoveAll(t.scratch))
}

// start runs the trial's server in its directory. A mirror is given the URL of its
// upstream, and how long it is to believe a tag where it can be told.
func (t *trial) start(ctx context.Context, upstream string, ttl time.Duration) error {
	p := place{dir: t.scratch, upstream: upstream, ttl: ttl}
	if t.second != nil {
		p.second = t.second.url
	}
	var err error
	if p.addr, err = freeAddr(); err != nil {
		return err
	}
	if p.admin, err = freeAddr(); err != nil {
		return err
	}
	t.running, err = start(ctx, t.server, p)
	return err
}

// stop ends what start began; it may be called again.
func (t *trial) stop() error {
	if t.running == nil {
		return nil
	}
	p := t.running
	t.running = nil
	return p.stop()
}

// filled starts the server, lets fill put content into it, and starts it again.
// nginx has no way to push: its content is put into its directory by files.
func (t *trial) filled(ctx context.Context, repo, tag string, i image) error {
	if t.name == nginx {
		if err := layOut(filepath.Join(t.scratch, "data"), repo, tag, i); err != nil {
			return err
		}
	} else {
		if err := t.start(ctx, "", 0); err != nil {
			return err
		}
		c := newClient(t.running.addr)
		err := c.push(ctx, repo, tag, i)
		c.close()
		if err := errors.Join(err, t.stop()); err != nil {
			return err
		}
	}
	syscall.Sync()
	if err := t.start(ctx, "", 0); err != nil {
		return err
	}
	// Everything is right, and in the page cache, before the clock starts.
	c := newClient(t.running.addr)
	defer c.close()
	_, _, err := c.pull(ctx, repo, tag, i)
	return err
}

// layOut writes an image as files where a registry would have it.
func layOut(root, repo, tag string, i image) error {
	manifests := filepath.Join(root, "v2", repo, "manifests")
	blobs := filepath.Join(root, "v2", repo, "blobs")
	if err := errors.Join(os.MkdirAll(manifests, 0o755), os.MkdirAll(blobs, 0o755)); err != nil {
		return err
	}
	for _, b := range i.blobs {
		text, err := os.ReadFile(b.file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(blobs, b.digest.String()), text, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(manifests, tag), i.manifest, 0o644),
		os.WriteFile(filepath.Join(manifests, i.digest.String()), i.manifest, 0o644))
}

// A cost is what a piece of work cost a server.
type cost struct {
	wall, cpu time.Duration
	peak      int64         // bytes
	bucket    time.Duration // CPU of the S3 server, if there is one
}

// clock does work and gives what it cost the running server, if there is one. The
// profile, if one is wanted, is taken beside it.
func (t *trial) clock(ctx context.Context, work func(ctx context.Context) error) (cost, error) {
	if t.running == nil {
		began := time.Now()
		err := work(ctx)
		return cost{wall: time.Since(began)}, err
	}
	if err := resetPeak(t.running.pid); err != nil {
		return cost{}, err
	}
	profiled := make(chan error, 1)
	if t.seconds > 0 {
		go func() { profiled <- takeProfile(ctx, t.running.admin, t.seconds, t.profile) }()
	} else {
		profiled <- nil
	}
	before, err := readUsage(t.running.pid)
	bucketBefore, bucketErr := t.bucketUsage()
	if err := errors.Join(err, bucketErr); err != nil {
		return cost{}, err
	}
	began := time.Now()
	err = work(ctx)
	t.measured = time.Since(began)
	after, usageErr := readUsage(t.running.pid)
	bucketAfter, bucketErr := t.bucketUsage()
	spent := cost{t.measured, after.cpu - before.cpu, after.peak, bucketAfter.cpu - bucketBefore.cpu}
	return spent, errors.Join(err, usageErr, bucketErr, <-profiled)
}

// bucketUsage is that of the S3 server; none where there is none.
func (t *trial) bucketUsage() (usage, error) {
	if t.bucket == nil {
		return usage{}, nil
	}
	return readUsage(t.bucket.pid)
}

// on gives what it cost to move that many bytes.
func (c cost) on(bytes int64) values {
	v := values{throughput: c.rate(bytes), cpu: c.perGB(bytes), peak: c.memory()}
	if c.bucket > 0 {
		v[bucketCPU] = cost{cpu: c.bucket}.perGB(bytes)
	}
	return v
}

// perGB is CPU seconds for each 10^9 bytes.
func (c cost) perGB(bytes int64) value { return number(c.cpu.Seconds() * gB / float64(bytes)) }

// perRequest is CPU microseconds for each request.
func (c cost) perRequest(n int64) value {
	return number(float64(c.cpu.Microseconds()) / float64(n))
}

// rate is megabytes per second.
func (c cost) rate(bytes int64) value { return number(float64(bytes) / mB / c.wall.Seconds()) }

// memory is the peak in megabytes.
func (c cost) memory() value { return number(float64(c.peak) / mB) }
