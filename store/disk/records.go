package disk

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strconv"
	"syscall"

	"github.com/weir-registry/weir/store"
)

// Records is a store.Records. A version is 128 random bits, so that none comes
// twice.
type Records struct {
	s     *Store
	log   *journal
	locks stripes // of keys: held while a record changes
}

var (
	_ store.Records = (*Records)(nil)
	_ store.Batcher = (*Records)(nil)
)

// A record's file begins with a line: its version, a space, and the checksum of both the
// version and the data in 8 hexadecimal digits. Those of older stores lack the checksum.
const (
	plainLen  = idLen + 1
	headerLen = idLen + 1 + 8 + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordFile is the file of a record.
func recordFile(version string, data []byte) []byte {
	file := make([]byte, 0, headerLen+len(data))
	file = fmt.Appendf(file, "%s %08x\n", version, recordSum(version, data))
	return append(file, data...)
}

func recordSum(version string, data []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(version), castagnoli), castagnoli, data)
}

// errDamaged says that a record's file is not one.
var errDamaged = fmt.Errorf("%w record on disk", store.ErrDamaged)

func recordPath(key string) string { return path.Join(recordsDir, key) }

// Get implements store.Records.
func (r *Records) Get(ctx context.Context, key string) (store.Record, error) {
	if err := ready(ctx, key); err != nil {
		return store.Record{}, err
	}
	rec, err := r.get(key)
	if err != nil {
		return rec, fmt.Errorf("get record %s: %w", key, err)
	}
	return rec, nil
}

func (r *Records) get(key string) (store.Record, error) {
	f, err := openFile(r.s.root, recordPath(key))
	if err != nil {
		return store.Record{}, r.s.missing(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return store.Record{}, err
	}
	if fi.IsDir() {
		return store.Record{}, store.ErrNotFound
	}
	// A record's file is never written to again, so this is one state of it.
	data := make([]byte, fi.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return store.Record{}, err
	}
	version, length, sum, ok := header(data)
	rec := store.Record{Data: data[length:], Version: version, Modified: fi.ModTime()}
	if !ok || length == headerLen && sum != recordSum(version, rec.Data) {
		rec.Version = ""
		return rec, errDamaged
	}
	return rec, nil
}

// header reads the line that a record's file begins with, of that length: 0 if it is none.
func header(data []byte) (version string, length int, sum uint32, ok bool) {
	if len(data) < plainLen || !validID(string(data[:idLen])) {
		return "", 0, 0, false
	}
	version = string(data[:idLen])
	if data[idLen] == '\n' {
		return version, plainLen, 0, true
	}
	if len(data) < headerLen || data[idLen] != ' ' || data[headerLen-1] != '\n' {
		return "", 0, 0, false
	}
	n, err := strconv.ParseUint(string(data[plainLen:headerLen-1]), 16, 32)
	return version, headerLen, uint32(n), err == nil
}

// state reports whether a record exists, and its version: "" if it is damaged.
// It may then be overwritten and deleted, unconditionally. Errors: EISDIR.
func (r *Records) state(key string) (exists bool, version string, err error) {
	f, err := openFile(r.s.root, recordPath(key))
	if err != nil {
		if err = r.s.missing(err); errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return false, "", err
	}
	defer f.Close()
	var line [headerLen]byte
	n, err := io.ReadFull(f, line[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, "", err
	}
	version, _, _, _ = header(line[:n])
	return true, version, nil
}

// Delete implements store.Records. Durable when it returns.
func (r *Records) Delete(ctx context.Context, key string, if_ store.Condition) error {
	if err := ready(ctx, key); err != nil {
		return err
	}
	if err := r.remove(key, if_); err != nil {
		return fmt.Errorf("delete record %s: %w", key, err)
	}
	return nil
}

func (r *Records) remove(key string, if_ store.Condition) error {
	lock := r.locks.of(key)
	lock.Lock()
	defer lock.Unlock()
	exists, version, err := r.state(key)
	if err != nil && !errors.Is(err, syscall.EISDIR) {
		return err
	}
	if !exists {
		return store.ErrNotFound
	}
	if !if_.Allows(true, version) {
		return store.ErrConflict
	}
	name := recordPath(key)
	seen, err := r.log.append(entry{key: key, gone: true})
	if store.NoRoom(err) {
		return r.removeUnlogged(name)
	}
	if err != nil {
		return err
	}
	defer seen()
	if err := r.s.fs.Remove(name); err != nil {
		return errors.Join(err, r.unsay(key))
	}
	r.s.dirs.prune(path.Dir(name), recordsDir)
	return nil
}

// removeUnlogged removes the file of a record without a word in the log. A full disk
// may lack the room for one, and deleting is what helps it. No log may have the record
// then: they all go before, which makes room too.
func (r *Records) removeUnlogged(name string) error {
	if err := r.log.flush(); err != nil {
		return err
	}
	if err := r.s.fs.Remove(name); err != nil {
		return err
	}
	if err := r.s.dirs.sync(path.Dir(name)); err != nil {
		return err
	}
	r.s.dirs.prune(path.Dir(name), recordsDir)
	return nil
}

// ready is what every call on a key begins with.
func ready(ctx context.Context, key string) error {
	if !store.ValidKey(key) {
		return fmt.Errorf("record %q: %w", key, store.ErrKey)
	}
	return ctx.Err()
}
