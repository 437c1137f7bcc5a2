package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

// ingestParts writes the content in parts, in one ingest that is kept on an error.
func ingestParts(s *disk.Store, alg digest.Algorithm, d digest.Digest, parts int) (err error) {
	ing, err := s.Blobs().Ingest(context.Background(), "", alg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ing.Close()) }()
	for i := range parts {
		if _, err := ing.Write(content[len(content)*i/parts : len(content)*(i+1)/parts]); err != nil {
			return err
		}
	}
	_, err = ing.Commit(context.Background(), d)
	return err
}

// ingestChunks writes the content in chunks, each by a holder of its own.
func ingestChunks(s *disk.Store, chunks int) error {
	id := ""
	for i := range chunks {
		ing, err := s.Blobs().Ingest(context.Background(), id, digest.SHA256)
		if err != nil {
			return err
		}
		id = ing.ID()
		_, err = ing.Write(content[len(content)*i/chunks : len(content)*(i+1)/chunks])
		if err == nil && i == chunks-1 {
			_, err = ing.Commit(context.Background(), named)
		}
		if err = errors.Join(err, ing.Close()); err != nil {
			return err
		}
	}
	return nil
}

func ingestAndCancel(s *disk.Store, _ string) error {
	ing, err := s.Blobs().Ingest(context.Background(), "", digest.SHA256)
	if err != nil {
		return err
	}
	_, err = ing.Write(content)
	if err = errors.Join(err, ing.Close()); err != nil {
		return err
	}
	if ing, err = s.Blobs().Ingest(context.Background(), ing.ID(), ""); err != nil {
		return err
	}
	return ing.Cancel()
}

// finishIngests wants that every ingest can be resumed, has a beginning of the
// content, and can be cancelled or committed with the rest of it.
func finishIngests(s *disk.Store) error {
	for info, err := range s.Blobs().Ingests(context.Background()) {
		if err != nil {
			return err
		}
		ing, err := s.Blobs().Ingest(context.Background(), info.ID, "")
		if err != nil {
			return err
		}
		defer ing.Cancel()
		if ing.Size() > int64(len(content)) {
			return fmt.Errorf("ingest %s has %d bytes", info.ID, ing.Size())
		}
		if _, err := ing.Write(content[ing.Size():]); err != nil {
			return err
		}
		_, there := s.Blobs().Stat(context.Background(), named)
		if _, err := ing.Commit(context.Background(), named); err != nil {
			return err
		}
		if there != nil {
			if err := s.Blobs().Delete(context.Background(), named); err != nil {
				return err
			}
		}
	}
	return wantNoIngests(s)
}

func wantNoIngests(s *disk.Store) error {
	for info, err := range s.Blobs().Ingests(context.Background()) {
		return errors.Join(err, fmt.Errorf("ingest %s is left", info.ID))
	}
	return nil
}

func wantNoBlob(s *disk.Store) error {
	for info, err := range s.Blobs().All(context.Background()) {
		return errors.Join(err, fmt.Errorf("blob %s is there", info.Digest))
	}
	if _, err := s.Blobs().Open(context.Background(), named, store.Range{}); !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

func wantBlob(s *disk.Store) error {
	blob, err := s.Blobs().Open(context.Background(), named, store.Range{})
	if err != nil {
		return err
	}
	defer blob.Body.Close()
	got, err := io.ReadAll(blob.Body)
	if err == nil && !bytes.Equal(got, content) {
		err = fmt.Errorf("the blob has %d other bytes", len(got))
	}
	return err
}

func putRecord(s *disk.Store, key, value string, if_ store.Condition) error {
	_, err := s.Records().Put(context.Background(), key, []byte(value), if_)
	return err
}

// wantRecords wants exactly these records, given as key, value, key, value.
func wantRecords(s *disk.Store, want ...string) error {
	var got []string
	for e, err := range s.Records().List(context.Background(), "", "") {
		if err != nil {
			return err
		}
		rec, err := s.Records().Get(context.Background(), e.Key)
		if err != nil {
			return err
		}
		got = append(got, e.Key, string(rec.Data))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		return fmt.Errorf("records %q, want %q", got, want)
	}
	return nil
}
