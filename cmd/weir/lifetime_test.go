package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// command runs a command with p's configuration, wants that exit code, and decodes what it
// prints into v, which has to have a place for all of it.
func (p *process) command(code int, v any, args ...string) (said string) {
	p.t.Helper()
	var out, log bytes.Buffer
	if got := run(p.t.Context(), append(args, "--json", "--config", p.file), &out, &log); got != code {
		p.t.Errorf("weir %v: exit %d, want %d: %s", args, got, code, &log)
	}
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		p.t.Errorf("weir %v: %v", args, err)
	}
	return log.String()
}

// retained and scrubbed are the reports as the contract has them.
type retained struct {
	DryRun        *bool `json:"dry_run"`
	Deleted, Kept []struct {
		Repository, Tag, Rule string
		Digest                digest.Digest
	}
}

type scrubbed struct {
	Checked *int64
	Corrupt []struct {
		Digest       digest.Digest
		Repositories []string
	}
	Repaired []digest.Digest
}

// deleted gives the tags of a report that go.
func (r retained) deleted() (names []string) {
	for _, t := range r.Deleted {
		names = append(names, t.Repository+":"+t.Tag)
	}
	return names
}

// tags gives the tags of a repository.
func (p *process) tags(name string) []string {
	p.t.Helper()
	l, err := p.registry().Tags(p.t.Context(), origintest.Repo(p.t, name), origin.Page{N: 100})
	if err != nil {
		p.t.Error(err)
	}
	return l.Items
}

// Rules of retention are applied beside a running server, which does it by itself too; a
// dry run changes nothing, and more than a fifth of a repository does not go at once.
func TestRetainBesideServer(t *testing.T) {
	p := newProcess(t, t.TempDir(), `
repositories:
  - {match: "team/**", retention: {keep: ["image.tag != 't0'"]}}
  - {match: "other/**", retention: {keep: ["image.tag == 'kept'"]}}
  - {match: "small/**", quota: 1KB}
`)
	p.start()
	tree := origintest.Image([]byte("{}"), []byte("layer"))
	for i := range 10 {
		tree.Push(t, p.registry(), "team/app", fmt.Sprint("t", i))
	}
	tree.Push(t, p.registry(), "other/app", "kept", "lost")

	var r retained
	p.command(exitFailed, &r, "retain", "--dry-run")
	if r.DryRun == nil || !*r.DryRun || !slices.Equal(r.deleted(), []string{"team/app:t0"}) || r.Deleted[0].Digest != tree.Digest() || len(r.Kept) != 11 {
		t.Errorf("%+v", r)
	}
	if got := p.tags("team/app"); len(got) != 10 {
		t.Errorf("after a dry run: %v", got)
	}
	r = retained{}
	if said := p.command(exitFailed, &r, "retain"); !strings.Contains(said, "--force") || !slices.Equal(r.deleted(), []string{"team/app:t0"}) || *r.DryRun {
		t.Errorf("%+v, %s", r, said)
	}
	if team, other := p.tags("team/app"), p.tags("other/app"); len(team) != 9 || len(other) != 2 {
		t.Errorf("%v, %v", team, other)
	}
	r = retained{}
	p.command(exitDone, &r, "retain", "--force")
	if !slices.Equal(r.deleted(), []string{"other/app:lost"}) || len(r.Kept) != 10 || r.Kept[0].Rule == "" {
		t.Errorf("%+v", r)
	}
	if got := p.tags("other/app"); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("%v", got)
	}

	// A push over the quota is refused, with the numbers, and leaves nothing.
	large, reg, small := origintest.Image([]byte("{}"), origintest.Bytes(1, 2000)), p.registry(), origintest.Repo(t, "small/app")
	in, err := reg.Upload(t.Context(), small, "", digest.SHA256)
	if err == nil {
		_, err = in.Write(large.Blobs[1].Bytes)
	}
	if err == nil {
		_, err = in.Commit(t.Context(), large.Blobs[1].Digest)
	}
	if e, ok := errors.AsType[*origin.Error](err); !ok || e.Code != origin.CodeDenied || e.Status != http.StatusForbidden || !strings.Contains(e.Message, "1000 bytes") {
		t.Errorf("over the quota: %v", err)
	}
	tree.Push(t, reg, "small/app", "x")
	if err := oracletest.ReadBlob(t.Context(), reg, small, tree.Blobs[1].Digest); err != nil {
		t.Error(err)
	}

	// By itself.
	p.stop()
	text, err := os.ReadFile(p.file)
	if err == nil {
		err = os.WriteFile(p.file, append(text, "origin: {retention: {interval: 100ms}}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	tree.Push(t, p.registry(), "team/app", "t0")
	eventually(t, "the rules are applied", func() bool { return !slices.Contains(p.tags("team/app"), "t0") })
	p.stop()
	p.saidNothingBad()
}

// A server scrubs by itself when the configuration says how often: what is spoilt is not served.
func TestScrubByItself(t *testing.T) {
	data := t.TempDir()
	p := newProcess(t, data, "origin: {scrub: {interval: 100ms}}\n")
	p.start()
	tree, repo := origintest.Image([]byte("{}"), origintest.Bytes(2, 200_000)), origintest.Repo(t, "team/app")
	tree.Push(t, p.registry(), "team/app", "x")
	spoilt := tree.Blobs[1].Digest
	name := filepath.Join(data, "blobs", "sha256", spoilt.Encoded())
	b, err := os.ReadFile(name)
	if err == nil {
		b[len(b)-10] ^= 8
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the blob is quarantined", func() bool {
		_, err := p.registry().Stat(t.Context(), repo, spoilt)
		return origin.Unknown(err)
	})
	tree.Push(t, p.registry(), "team/app", "x")
	if err := oracletest.ReadBlob(t.Context(), p.registry(), repo, spoilt); err != nil {
		t.Errorf("pushed again: %v", err)
	}
}

// A scrub without a server has a budget to keep as well, and fetches anew all the same.
func TestScrubRepairsAlone(t *testing.T) {
	data, upstream := t.TempDir(), remotetest.New(t)
	spoilt := upstream.AddImage("library/app", "1", origintest.Bytes(1, 300_000)).Layers[0].Digest
	p := newProcess(t, data, hub(upstream, "  cache: {max_size: 1GiB}\n"))
	p.start()
	repo := origintest.Repo(t, "docker.io/library/app")
	_, err := p.registry().Manifest(t.Context(), repo, origintest.Ref(t, "1"))
	if err := errors.Join(err, oracletest.ReadBlob(t.Context(), p.registry(), repo, spoilt)); err != nil {
		t.Fatal(err)
	}
	p.stop()
	name := filepath.Join(data, "blobs", "sha256", spoilt.Encoded())
	b, err := os.ReadFile(name)
	if err == nil {
		b[5] ^= 8
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var r scrubbed
	if p.command(exitDone, &r, "scrub", "--repair"); !slices.Equal(r.Repaired, []digest.Digest{spoilt}) {
		t.Errorf("%+v", r)
	}
}

// What a disk has spoilt while the server runs is found by a scrub in it, named with who
// has it, and where it is mirrored fetched anew; pulls go on meanwhile, none of them with a
// wrong byte.
func TestScrubBesideServer(t *testing.T) {
	data, upstream := t.TempDir(), remotetest.New(t)
	img := upstream.AddImage("library/app", "1", origintest.Bytes(1, 300_000))
	p := newProcess(t, data, hub(upstream, ""))
	p.start()
	mirrored, up := img.Layers[0].Digest, "docker.io/library/app"
	pull := func() error {
		_, err := p.registry().Manifest(t.Context(), origintest.Repo(t, up), origintest.Ref(t, "1"))
		return errors.Join(err, oracletest.ReadBlob(t.Context(), p.registry(), origintest.Repo(t, up), mirrored))
	}
	if err := pull(); err != nil {
		t.Fatal(err)
	}
	tree := origintest.Image([]byte("{}"), origintest.Bytes(2, 200_000))
	tree.Push(t, p.registry(), "team/app", "x")
	pushed := tree.Blobs[1].Digest
	file := func(d digest.Digest) string { return filepath.Join(data, "blobs", "sha256", d.Encoded()) }
	p.stop() // then what was in the log is in files, and the blob is stored
	p.start()

	var r scrubbed
	p.command(exitDone, &r, "scrub")
	if r.Checked == nil || *r.Checked < 8 || r.Corrupt == nil || len(r.Corrupt) != 0 || r.Repaired == nil {
		t.Errorf("all is well: %+v", r)
	}
	manifest := filepath.Join(data, "records/r", up, "_m/sha256", img.Digest.Encoded())
	for _, name := range []string{file(mirrored), file(pushed), manifest} {
		b, err := os.ReadFile(name)
		if err == nil {
			b[len(b)-10] ^= 8
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r = scrubbed{}
	said := p.command(exitFailed, &r, "scrub", "--repair")
	if len(r.Corrupt) != 3 || !strings.Contains(said, "1 of") {
		t.Errorf("%+v, %s", r, said)
	}
	for _, c := range r.Corrupt {
		want := up
		if c.Digest == pushed {
			want = "team/app"
		}
		if !slices.Equal(c.Repositories, []string{want}) {
			t.Errorf("%s is in %v", c.Digest, c.Repositories)
		}
	}
	if len(r.Repaired) != 2 || !slices.Contains(r.Repaired, mirrored) || !slices.Contains(r.Repaired, img.Digest) {
		t.Errorf("repaired: %v", r.Repaired)
	}
	if err := pull(); err != nil {
		t.Error(err)
	}
	if err := oracletest.ReadBlob(t.Context(), p.registry(), origintest.Repo(t, "team/app"), pushed); !origin.Unknown(err) {
		t.Errorf("what is quarantined: %v", err)
	}
	tree.Push(t, p.registry(), "team/app", "x")
	r = scrubbed{}
	if p.command(exitDone, &r, "scrub"); len(r.Corrupt) != 0 {
		t.Errorf("when it was pushed again: %+v", r)
	}

	// What is pulled before a scrub finds it is cut, and good with the next pull.
	b, err := os.ReadFile(file(mirrored))
	if err == nil {
		b[5] ^= 8
		err = os.WriteFile(file(mirrored), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := pull(); err == nil {
		t.Error("a corrupt blob was pulled whole")
	}
	if err := pull(); err != nil {
		t.Errorf("when it was found: %v", err)
	}
	p.stop()
	p.saidNothingBad()
}
