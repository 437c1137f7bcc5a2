package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
)

// replay does anew what the logs say that an interrupted process has left, and gives
// their numbers, oldest first. What the records' files are by then is of no interest:
// the last word about each counts.
func (r *Records) replay() ([]uint64, error) {
	logs, err := r.logs()
	if err != nil {
		return nil, err
	}
	last := map[string]entry{}
	for _, number := range logs {
		// A process may have been killed before it could sync this. An entry that a power
		// cut takes away now must not have touched a record's file.
		if err := r.s.fs.Sync(logName(number)); err != nil {
			return nil, err
		}
		b, err := r.readLog(logName(number))
		if err != nil {
			return nil, err
		}
		for e, err := range entries(number, b) {
			if err != nil {
				return nil, fmt.Errorf("%s: %w", logName(number), err)
			}
			last[e.key] = e
		}
	}
	// A record may be where a path was, or the reverse: what is gone goes first.
	for key, e := range last {
		if e.gone {
			if err := r.forget(recordPath(key)); err != nil {
				return nil, err
			}
		}
	}
	for key, e := range last {
		if !e.gone {
			if err := r.again(recordPath(key), e.file); err != nil {
				return nil, err
			}
		}
	}
	return logs, nil
}

// logs gives the numbers of the logs that are there, oldest first.
func (r *Records) logs() ([]uint64, error) {
	var logs []uint64
	for name, err := range r.s.names(logDir) {
		if err != nil {
			return nil, err
		}
		number, err := strconv.ParseUint(name, 10, 64)
		if err == nil && logName(number) == path.Join(logDir, name) {
			logs = append(logs, number)
		}
	}
	slices.Sort(logs)
	return logs, nil
}

func (r *Records) readLog(name string) ([]byte, error) {
	f, err := openFile(r.s.root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// forget removes the file of a record, if it is there.
func (r *Records) forget(name string) error {
	fi, err := r.s.root.Lstat(name)
	if err == nil && !fi.IsDir() {
		err = r.s.fs.Remove(name)
	}
	if err != nil && !isAbsent(err) {
		return err
	}
	r.s.dirs.prune(path.Dir(name), recordsDir)
	return nil
}

// again writes the file of a record.
func (r *Records) again(name string, file []byte) error {
	if err := r.s.dirs.find(path.Dir(name)); err != nil {
		return err
	}
	if err := r.clear(name); err != nil {
		return err
	}
	tmp, err := r.s.temp(file)
	if err != nil {
		return err
	}
	if err := r.s.fs.Rename(tmp, name); err != nil {
		r.s.discard(tmp)
		return err
	}
	return nil
}

// clear removes a directory that has the name of a record, with those below: they were
// removed before the record was written, and a power cut has brought them back. There
// is no record among them.
func (r *Records) clear(name string) error {
	err := r.s.dirs.isDir(name)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for child, err := range r.s.names(name) {
		if err != nil {
			return err
		}
		if err := r.clear(path.Join(name, child)); err != nil {
			return err
		}
	}
	return r.s.fs.Remove(name)
}

// recover does what an interrupted process has left to do: it replays its logs, makes
// all that is there durable if that is in doubt, and removes them.
func (s *Store) recover(doubt bool) error {
	logs, err := s.records.replay()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if doubt || len(logs) > 0 {
		if err := s.fs.SyncAll(); err != nil {
			return err
		}
	}
	if len(logs) == 0 {
		return nil
	}
	if err := s.dirs.make(logDir); err != nil {
		return err
	}
	for _, number := range logs {
		if err := s.records.log.drop(number); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	s.records.log.last = logs[len(logs)-1]
	return nil
}
