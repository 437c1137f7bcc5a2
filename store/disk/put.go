package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"syscall"

	"github.com/weir-registry/weir/store"
)

// Put implements store.Records. A key above or below one that exists is answered
// with ErrKey.
func (r *Records) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	changes, err := r.put(ctx, []store.Write{{Key: key, Data: data, If: if_}})
	if err != nil {
		return "", err
	}
	return changes[0].version, nil
}

// PutAll implements store.Batcher. What the log has of a batch after a power cut is
// a beginning of it, as it is one piece there.
func (r *Records) PutAll(ctx context.Context, writes []store.Write) error {
	if len(writes) == 0 {
		return ctx.Err()
	}
	_, err := r.put(ctx, writes)
	return err
}

// change is a write that is under way.
type change struct {
	entry
	version string
	exists  bool // there is a record that it goes over
	tmp     string
}

func (r *Records) put(ctx context.Context, writes []store.Write) ([]change, error) {
	for _, w := range writes {
		if err := ready(ctx, w.Key); err != nil {
			return nil, err
		}
	}
	changes, err := r.putReady(ctx, writes)
	if err == nil {
		return changes, nil
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w: %w", store.ErrKey, err) // a record in place of a directory, or the reverse
	}
	if len(writes) > 1 {
		return nil, fmt.Errorf("put record %s and %d more: %w", writes[0].Key, len(writes)-1, err)
	}
	return nil, fmt.Errorf("put record %s: %w", writes[0].Key, err)
}

func (r *Records) putReady(ctx context.Context, writes []store.Write) ([]change, error) {
	unlock, err := r.lock(writes)
	if err != nil {
		return nil, err
	}
	defer unlock()
	changes := make([]change, len(writes))
	for i, w := range writes {
		exists, err := r.allowed(w.Key, w.If)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		version := newID()
		changes[i] = change{entry: entry{key: w.Key, file: recordFile(version, w.Data)}, version: version, exists: exists}
	}
	if err := r.write(changes); err != nil {
		for _, c := range changes {
			if !c.exists {
				r.s.dirs.prune(path.Dir(recordPath(c.key)), recordsDir)
			}
		}
		return nil, err
	}
	return changes, nil
}

// lock takes the locks of all that is to be written. What will be refused waits for
// nobody: whatever is seen is durable.
func (r *Records) lock(writes []store.Write) (unlock func(), err error) {
	keys := make([]string, len(writes))
	for i, w := range writes {
		keys[i] = w.Key
	}
	held := r.locks.all(keys)
	for i, l := range held {
		if l.TryLock() {
			continue
		}
		for _, w := range writes {
			if _, err := r.allowed(w.Key, w.If); err != nil {
				unlockAll(held[:i])
				return nil, err
			}
		}
		l.Lock()
	}
	return func() { unlockAll(held) }, nil
}

func unlockAll(held []*sync.Mutex) {
	for _, l := range held {
		l.Unlock()
	}
}

// allowed reports whether a record exists, and its error is ErrConflict if a
// condition does not allow to write it, or EISDIR if a directory has its name.
func (r *Records) allowed(key string, if_ store.Condition) (exists bool, err error) {
	exists, version, err := r.state(key)
	if (err == nil || errors.Is(err, syscall.EISDIR)) && !if_.Allows(exists, version) {
		err = store.ErrConflict
	}
	return exists, err
}

// write gives records their files, one after the other: these are ready when the log
// says so, and are seen when the log is durable. The records' locks are held.
func (r *Records) write(changes []change) (err error) {
	leave := r.s.dirs.stay()
	defer leave()
	named := 0
	defer func() {
		for _, c := range changes[named:] {
			if c.tmp != "" {
				r.s.discard(c.tmp)
			}
		}
	}()
	entries := make([]entry, len(changes))
	for i := range changes {
		c := &changes[i]
		if !c.exists {
			// What could not get its name later is not for the log.
			if err := r.s.dirs.find(path.Dir(recordPath(c.key))); err != nil {
				return err
			}
		}
		if c.tmp, err = r.s.temp(c.file); err != nil {
			return err
		}
		entries[i] = c.entry
	}
	seen, err := r.log.append(entries...)
	if err != nil {
		return err
	}
	defer seen()
	for _, c := range changes {
		if err := r.s.fs.Rename(c.tmp, recordPath(c.key)); err != nil {
			for _, c := range changes[named:] {
				err = errors.Join(err, r.unsay(c.key))
			}
			return err
		}
		named++
	}
	return nil
}

// unsay tells the log that a change which it has was not made: the record is what its
// file says. Its lock is held.
func (r *Records) unsay(key string) error {
	e := entry{key: key}
	f, err := openFile(r.s.root, recordPath(key))
	if err == nil {
		defer f.Close()
		e.file, err = io.ReadAll(f)
	}
	if isAbsent(err) || errors.Is(err, syscall.EISDIR) {
		e.gone, err = true, nil
	}
	if err != nil {
		return err
	}
	seen, err := r.log.append(e)
	if err == nil {
		seen()
	}
	return err
}
