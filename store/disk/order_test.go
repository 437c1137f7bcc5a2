package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// writers is how many write at once in the traced process, and writes what each of
// them writes.
const (
	writers = 4
	writes  = 50
)

// Of 200 writes by four writers, each was durable, in the order that makes it so,
// before it was acknowledged.
func TestOrderOfSystemCalls(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(base, "new", "root")
	events := traced(t, "writes", root)
	acks := acknowledged(events)
	if len(acks) != writers*writes {
		t.Fatalf("%d writes are acknowledged, want %d", len(acks), writers*writes)
	}
	for name, ack := range acks {
		if err := durable(events, ack, base, root, name); err != nil {
			t.Error(err)
		}
	}
}

// durable wants that a blob or a record was durable when it was acknowledged.
func durable(events []disktest.Call, ack disktest.Call, base, root, name string) error {
	if key, ok := strings.CutPrefix(name, "records/"); ok {
		return disktest.Logged(events, ack, base, root, key)
	}
	return disktest.Durable(events, ack, base, path.Join(root, name))
}

// helpWrites writes blobs and records, and says of each that it is durable.
func helpWrites(dir string) error {
	return withStore(dir, func(ctx context.Context, s *disk.Store) error {
		spool := filepath.Join(dir, "spool")
		if err := os.Mkdir(spool, 0o700); err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		for w := range writers {
			group.Go(func() error {
				for i := range writes {
					name, err := writeOne(ctx, s, spool, w, i)
					if err != nil {
						return err
					}
					// One system call, after all those that it speaks for.
					if _, err := os.Stdout.WriteString("ack " + name + "\n"); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return group.Wait()
	})
}

// writeOne makes the i-th write of writer w, and gives the name of its file.
func writeOne(ctx context.Context, s *disk.Store, spool string, w, i int) (string, error) {
	data := fmt.Appendf(nil, "content of writer %d: %d", w, i)
	d := digest.FromBytes(data)
	blob := path.Join("blobs", "sha256", d.Encoded())
	switch i % 6 {
	case 0: // in one piece
		ing, err := s.Blobs().Ingest(ctx, "", digest.SHA256)
		if err != nil {
			return "", err
		}
		defer ing.Cancel()
		if _, err := ing.Write(data); err != nil {
			return "", err
		}
		_, err = ing.Commit(ctx, d)
		return blob, err
	case 1: // resumed, and committed as another algorithm
		ing, err := s.Blobs().Ingest(ctx, "", digest.SHA512)
		if err != nil {
			return "", err
		}
		_, err = ing.Write(data[:10])
		if err = errors.Join(err, ing.Close()); err != nil {
			return "", err
		}
		if ing, err = s.Blobs().Ingest(ctx, ing.ID(), ""); err != nil {
			return "", err
		}
		defer ing.Cancel()
		if _, err := ing.Write(data[10:]); err != nil {
			return "", err
		}
		_, err = ing.Commit(ctx, d)
		return blob, err
	case 2:
		f, err := os.Create(filepath.Join(spool, d.Encoded()))
		if err != nil {
			return "", err
		}
		defer f.Close()
		if _, err := f.Write(data); err != nil {
			return "", err
		}
		_, err = s.Blobs().Adopt(ctx, f, d)
		return blob, errors.Join(err, os.Remove(f.Name()))
	case 3:
		f, err := os.Create(filepath.Join(spool, d.Encoded()))
		if err != nil {
			return "", err
		}
		defer f.Close()
		if _, err := f.Write(data); err != nil {
			return "", err
		}
		_, err = s.Blobs().Link(ctx, f, d)
		return blob, err
	case 4: // in a directory of its own
		key := fmt.Sprintf("new/%d/%d/key", w, i)
		if w%2 == 1 { // the last of a batch
			err := s.Records().PutAll(ctx, []store.Write{{Key: fmt.Sprintf("beside/%d/%d", w, i)}, {Key: key, Data: data, If: store.Absent()}})
			return path.Join("records", key), err
		}
		_, err := s.Records().Put(ctx, key, data, store.Absent())
		return path.Join("records", key), err
	default: // over another, in a directory that all share
		key := fmt.Sprintf("shared/%d-%d", w, i)
		version, err := s.Records().Put(ctx, key, []byte("old"), store.Absent())
		if err != nil {
			return "", err
		}
		_, err = s.Records().Put(ctx, key, data, store.Version(version))
		return path.Join("records", key), err
	}
}
