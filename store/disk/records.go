package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/weir-registry/weir/store"
)

// Records is a store.Records. A version is 128 random bits, so that none comes
// twice.
type Records struct {
	s     *Store
	locks stripes // of keys: held while a record changes
}

var _ store.Records = (*Records)(nil)

// headerLen is the length of a record's first line: its version and a newline.
const headerLen = idLen + 1

// errDamaged says that a record's file is not one.
var errDamaged = errors.New("store/disk: damaged record")

func recordPath(key string) string { return path.Join(recordsDir, key) }

// Get implements store.Records.
func (r *Records) Get(ctx context.Context, key string) (store.Record, error) {
	if err := ready(ctx, key); err != nil {
		return store.Record{}, err
	}
	rec, err := r.get(key)
	if err != nil {
		return store.Record{}, fmt.Errorf("get record %s: %w", key, err)
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
	version, ok := header(data)
	if !ok {
		return store.Record{}, errDamaged
	}
	return store.Record{Data: data[headerLen:], Version: version}, nil
}

// header gives the version that a record's file begins with.
func header(data []byte) (version string, ok bool) {
	if len(data) < headerLen || data[idLen] != '\n' || !validID(string(data[:idLen])) {
		return "", false
	}
	return string(data[:idLen]), true
}

// Put implements store.Records. A key above or below one that exists is answered
// with ErrKey.
func (r *Records) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if err := ready(ctx, key); err != nil {
		return "", err
	}
	version, err := r.put(ctx, key, data, if_)
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w: %w", store.ErrKey, err) // a record in place of a directory, or the reverse
	}
	if err != nil {
		return "", fmt.Errorf("put record %s: %w", key, err)
	}
	return version, nil
}

func (r *Records) put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	// What will be refused is refused before anything is written. Only a look under the
	// lock counts: without it, what is there may be a record that its writer has not
	// synced yet, or is about to take back, and whoever is told of a conflict relies on
	// it.
	_, err := r.allowed(key, if_)
	if errors.Is(err, store.ErrConflict) {
		_, err = r.allowedLocked(key, if_)
	}
	if err != nil {
		return "", err
	}
	version := newID()
	tmp, err := r.s.temp(true, []byte(version+"\n"), data)
	if err != nil {
		return "", err
	}
	lock := r.locks.of(key)
	lock.Lock()
	defer lock.Unlock()
	exists, err := r.allowed(key, if_)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = r.replace(tmp, recordPath(key), exists)
	}
	if err != nil {
		r.s.discard(tmp)
		return "", err
	}
	return version, nil
}

// allowedLocked is allowed when nobody is changing the record.
func (r *Records) allowedLocked(key string, if_ store.Condition) (exists bool, err error) {
	lock := r.locks.of(key)
	lock.Lock()
	defer lock.Unlock()
	return r.allowed(key, if_)
}

// allowed reports whether a record exists, and its error is ErrConflict if a
// condition does not allow to write it.
func (r *Records) allowed(key string, if_ store.Condition) (exists bool, err error) {
	exists, version, err := r.state(key)
	if err == nil && !if_.Allows(exists, version) {
		err = store.ErrConflict
	}
	return exists, err
}

// state reports whether a record exists, and its version: "" if it is damaged.
// It may then be overwritten and deleted, unconditionally.
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
	switch {
	case errors.Is(err, syscall.EISDIR):
		return false, "", nil
	case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
		return false, "", err
	}
	version, _ = header(line[:n])
	return true, version, nil
}

// replace gives the durable file tmp the name of a record, durably; after an
// error the record is what it was. The record's lock is held.
func (r *Records) replace(tmp, name string, exists bool) error {
	s, dir := r.s, path.Dir(name)
	old := ""
	if exists {
		// A second name for what is there is the way back.
		old = s.tempName()
		if err := s.fs.Link(name, old); noLinks(err) {
			old = ""
		} else if err != nil {
			return err
		}
	}
	err := r.move(tmp, name)
	if err == nil {
		if err = s.dirs.sync(dir); err != nil {
			err = errors.Join(err, r.restore(old, name, exists))
		}
	}
	if old != "" {
		s.discard(old)
	}
	if err != nil && !exists {
		s.dirs.prune(dir, recordsDir)
	}
	return err
}

// move gives tmp the name, in a directory that is there and stays.
func (r *Records) move(tmp, name string) error {
	leave, err := r.s.dirs.enter(path.Dir(name))
	if err != nil {
		return err
	}
	defer leave()
	err = r.s.fs.Rename(tmp, name)
	r.s.dirs.forgetIfGone(err)
	return err
}

// restore takes back the name of a record: it is again what old is, or nothing.
func (r *Records) restore(old, name string, exists bool) error {
	switch {
	case !exists:
		return r.s.fs.Remove(name)
	case old != "":
		return r.s.fs.Rename(old, name)
	default:
		return nil // no links here, and so no way back: the new state is kept
	}
}

// Delete implements store.Records. Durable when it returns.
func (r *Records) Delete(ctx context.Context, key string, if_ store.Condition) error {
	if err := ready(ctx, key); err != nil {
		return err
	}
	if err := r.remove(key, if_); err != nil {
		return fmt.Errorf("delete record %s: %w", key, err)
	}
	r.s.dirs.prune(path.Dir(recordPath(key)), recordsDir)
	return nil
}

func (r *Records) remove(key string, if_ store.Condition) error {
	lock := r.locks.of(key)
	lock.Lock()
	defer lock.Unlock()
	exists, version, err := r.state(key)
	if err != nil {
		return err
	}
	if !exists {
		return store.ErrNotFound
	}
	if !if_.Allows(true, version) {
		return store.ErrConflict
	}
	leave := r.s.dirs.stay() // the way back needs the directory
	defer leave()
	return r.s.take(recordPath(key))
}

// ready is what every call on a key begins with.
func ready(ctx context.Context, key string) error {
	if !store.ValidKey(key) {
		return fmt.Errorf("record %q: %w", key, store.ErrKey)
	}
	return ctx.Err()
}
