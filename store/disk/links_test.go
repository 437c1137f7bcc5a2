package disk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

const (
	linkedID  = "0123456789abcdef0123456789abcdef"
	linkedKey = "dir/sub/key"
)

var (
	linkedData = []byte("what a planted link stands in the way of")
	linked     = digest.FromBytes(linkedData)
)

// links are names in a store's directory that are planted as links to what lies
// outside: to the directory there, or to the file.
var links = []struct {
	name   string
	toFile bool
	hard   bool
}{
	{name: "blobs"},
	{name: "blobs/sha256"},
	{name: "blobs/sha256/" + linked.Encoded(), toFile: true},
	{name: "ingest"},
	{name: "ingest/" + linkedID + ".sha256", toFile: true},
	{name: "ingest/" + linkedID + ".sha256", toFile: true, hard: true},
	{name: "ingest/" + linkedID + ".state", toFile: true},
	{name: "log"},
	{name: "log/00000000000000000001", toFile: true},
	{name: "log/00000000000000000001", toFile: true, hard: true},
	{name: "records"},
	{name: "records/dir"},
	{name: "records/dir/sub"},
	{name: "records/" + linkedKey, toFile: true},
	{name: "records/" + linkedKey, toFile: true, hard: true},
	{name: "tmp"},
	{name: "tmp/left", toFile: true},
	{name: "tmp/left"},
	{name: ".lock", toFile: true},
	{name: ".lock", toFile: true, hard: true},
	{name: "spool"},
	{name: "spool/file", toFile: true},
}

// Whatever link is planted in the store's directory, nothing outside is opened,
// changed or removed.
func TestPlantedLinks(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(base, "outside")
	secret := filepath.Join(outside, "secret")
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o700))
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(outside, "sub", "key"), []byte("secret"), 0o600))
	for i, link := range links {
		name := filepath.Join(base, "roots", fmt.Sprint(i), link.name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o700))
		target := outside
		if link.toFile {
			target = secret
		}
		if link.hard {
			must(t, os.Link(target, name))
		} else {
			must(t, os.Symlink(target, name))
		}
	}
	before := snapshot(t, outside)

	events := traced(t, "links", filepath.Join(base, "roots"))

	opened := 0
	for _, e := range events {
		for _, name := range e.Paths {
			if e.OK && (name == outside || strings.HasPrefix(name, outside+"/")) {
				t.Errorf("%s of %s", e.Name, name)
			}
			if strings.HasPrefix(name, filepath.Join(base, "roots")+"/") {
				opened++
			}
		}
	}
	if opened < 100 {
		t.Errorf("%d calls are about the stores: the trace does not show what they do", opened)
	}
	if after := snapshot(t, outside); after != before {
		t.Errorf("outside is now\n%s\nand was\n%s", after, before)
	}
}

// helpLinks does everything there is to do, in every store; most of it fails.
func helpLinks(dir string) error {
	ran := 0
	for i := range links {
		root := filepath.Join(dir, fmt.Sprint(i))
		err := withStore(root, func(ctx context.Context, s *disk.Store) error {
			ran++
			everything(ctx, s, root)
			return nil
		})
		// Links in these places keep the store from being opened.
		name := links[i].name
		kept := name == "tmp" || name == ".lock" || name == "log" || strings.HasPrefix(name, "log/") && !links[i].hard
		if err != nil && !kept {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if ran < len(links)-5 {
		return fmt.Errorf("only %d stores could be opened", ran)
	}
	return nil
}

// everything does all that a store can do, about the names that links have.
func everything(ctx context.Context, s *disk.Store, root string) {
	blobs, records := s.Blobs(), s.Records()
	read := func() {
		blobs.Stat(ctx, linked)
		if blob, err := blobs.Open(ctx, linked, store.Range{}); err == nil {
			io.Copy(io.Discard, blob.Body)
			blob.Body.Close()
		}
		for range blobs.All(ctx) {
		}
		for range blobs.Ingests(ctx) {
		}
		records.Get(ctx, linkedKey)
		for _, prefix := range []string{"", "dir", "dir/sub", linkedKey} {
			for range records.List(ctx, prefix, "") {
			}
		}
	}
	write := func(id string) {
		ing, err := blobs.Ingest(ctx, id, digest.SHA256)
		if err != nil {
			return
		}
		ing.Write(linkedData)
		ing.Close()
		if ing, err = blobs.Ingest(ctx, ing.ID(), ""); err != nil {
			return
		}
		if _, err := ing.Commit(ctx, linked); err != nil {
			ing.Cancel()
		}
	}
	read()
	write(linkedID)
	write("")
	if f, err := os.OpenInRoot(root, "spool/file"); err == nil {
		blobs.Adopt(ctx, f, linked)
		f.Close()
	}
	records.Put(ctx, linkedKey, linkedData, store.Always())
	records.Put(ctx, linkedKey, linkedData, store.Absent())
	read()
	blobs.Delete(ctx, linked)
	records.Delete(ctx, linkedKey, store.Always())
	records.Put(ctx, linkedKey, linkedData, store.Always())
	read()
}

// A name outside that is given to Adopt by way of a link inside is not adopted.
func TestAdoptThroughLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	must(t, os.WriteFile(secret, linkedData, 0o600))
	must(t, os.Symlink(secret, filepath.Join(dir, "file")))
	must(t, os.Symlink(outside, filepath.Join(dir, "spool")))
	s := open(t, dir, disk.Options{})
	for _, name := range []string{"file", "spool/secret"} {
		f, err := os.Open(filepath.Join(dir, name))
		must(t, err)
		defer f.Close()
		if _, err := s.Blobs().Adopt(t.Context(), f, linked); !errors.Is(err, store.ErrForeign) {
			t.Errorf("Adopt of %s: error %v, want ErrForeign", name, err)
		}
	}
}

// snapshot describes a tree: names, modes, links and contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		var data []byte
		if fi.Mode().IsRegular() {
			if data, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %v %v %q\n", name, fi.Mode(), fi.ModTime(), data)
		return nil
	}))
	return b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
