//go:build nightly

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// The nightly kills are 500, among 20,000 operations, on each kind of store (trust K-2).
const (
	nightKills      = 500
	nightOperations = 20_000
	// nightReady is for a machine that does nothing else (trust K-1).
	nightReady = 2 * time.Second
)

// night has the story last for one n-th of a night.
func (k *killing) night(n int) {
	k.ready = nightReady
	k.kills, k.enough, k.within = oracletest.PartOf(k.t, nightKills/n), oracletest.PartOf(k.t, nightOperations/n), 200
}

// into writes what came of it into a report that may have that of others.
func (k *killing) into(r *oracletest.Report) {
	r.Operations += int64(k.operations())
	r.Cycles += int64(k.killed)
	for what, n := range k.told {
		r.More[what] += float64(n)
	}
	r.More["collections"] += float64(k.p.collections())
	r.More["slowest_start_seconds"] = max(r.More["slowest_start_seconds"], k.slowest.Seconds())
	if k.t.Failed() {
		r.Lost++
	}
}

// debris is where what a killed process has left behind may be found.
type debris struct {
	roots []string // all that the processes keep is below these
	left  []string // and what is on its way below these
}

// files gives the regular files below directories.
func files(t *testing.T, dirs ...string) (names []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.Type().IsRegular() {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// ages makes all below it two days older.
func (p debris) ages(t *testing.T) {
	t.Helper()
	at := time.Now().Add(-48 * time.Hour)
	for _, root := range p.roots {
		err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = os.Chtimes(name, at, at)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it has gone meanwhile
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// nightCycle is the time from one collection to the next of those who sweep: what a start sweeps
// beside them is to be done within one, too.
const nightCycle = 30 * time.Second

// swept wants that nothing is left of what was on its way when processes were killed, once
// it is old and garbage was collected twice.
func (p debris) swept(t *testing.T, r *oracletest.Report, processes ...*process) {
	t.Helper()
	r.More["left_by_kills"] = float64(len(files(t, p.left...)))
	p.ages(t)
	for _, each := range processes {
		text, err := os.ReadFile(each.file)
		if err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`gc: {interval: \w+`).ReplaceAll(text, fmt.Appendf(nil, "gc: {interval: %v", nightCycle))
		if err := os.WriteFile(each.file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		before := each.collections()
		each.start()
		eventually(t, "garbage is collected", func() bool { return each.collections() > before+1 })
	}
	if left := files(t, p.left...); len(left) > 0 {
		t.Errorf("%d are left of what was on its way, as %s", len(left), left[0])
	}
	for _, each := range processes {
		each.stop()
		each.saidNothingBad()
	}
}

func TestNightlyKillDisk(t *testing.T) {
	dir, upstream, seed := t.TempDir(), remotetest.New(t), oracletest.Seed(t)
	rep := oracletest.NewReport(t, "disk", seed)
	defer rep.Keep(t)
	k := newKilling(t, newProcess(t, dir, hub(upstream, collecting)), seed)
	k.mirrored(upstream)
	k.night(1)
	k.run()
	k.into(rep)
	debris{[]string{dir}, below(dir, "ingest", "tmp", "spool")}.swept(t, rep, k.p)
}

// below gives the paths of names in a directory.
func below(dir string, names ...string) (paths []string) {
	for _, name := range names {
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths
}

// inParts is where the server of a bucket keeps uploads in parts.
func inParts(server *s3test.Server, bucket string) string {
	return filepath.Join(server.Dir, bucket, ".sgwtmp", "multipart")
}

func TestNightlyKillS3(t *testing.T) {
	server, upstream, spool, seed := s3test.Start(t), remotetest.New(t), t.TempDir(), oracletest.Seed(t)
	rep := oracletest.NewReport(t, "bucket", seed)
	defer rep.Keep(t)
	name := server.Bucket(t)
	k := newKilling(t, newProcessOn(t, freeAddr(t), "{blobs: "+bucket(server, name, ", spool: '"+spool+"'")+"}", hub(upstream, collectingBucket)), seed)
	k.mirrored(upstream)
	k.night(1)
	k.run()
	k.into(rep)
	dir := filepath.Join(server.Dir, name)
	debris{[]string{dir, spool}, append(below(dir, "weir/ingest"), inParts(server, name), spool)}.swept(t, rep, k.p)
}

// Of two replicas now one is killed and now the other. The clients of each work in
// repositories of their own, on the same blobs, and what they were told holds at both.
func TestNightlyKillReplicas(t *testing.T) {
	upstream, seed := remotetest.New(t), oracletest.Seed(t)
	rep := oracletest.NewReport(t, "bucket, two replicas", seed)
	defer rep.Keep(t)
	p := newPair(t, upstream, collectingBucket)
	stories := make([]*killing, len(p.each))
	t.Run("both", func(t *testing.T) {
		for i, each := range p.each {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				each.stop()
				each.t = t
				k := newKilling(t, each, seed)
				k.nth, k.world = uint64(i), k.world.Apart(i)
				k.mirrored(upstream)
				k.reg = oracletest.Within(each.registry(), k.world)
				k.night(len(p.each))
				stories[i] = k
				k.run()
			})
		}
	})
	for i, k := range stories {
		k.into(rep)
		k.t, k.p.t = t, t
		other := p.each[1-i]
		other.t = t
		other.start()
		k.check(oracletest.Within(other.registry(), k.world))
		other.stop()
	}
	dir := filepath.Join(p.server.Dir, p.bucket)
	debris{append([]string{dir}, p.spools...), append(below(dir, "weir/ingest"), append(p.spools, inParts(p.server, p.bucket))...)}.swept(t, rep, p.each[:]...)
}
