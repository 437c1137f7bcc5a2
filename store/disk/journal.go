package disk

import (
	"errors"
	"fmt"
	"path"
	"sync"
)

// logSize is how large a log grows before the next one is begun, in bytes. It bounds
// what Open reads.
const logSize = 4 << 20

// journal makes changes of records durable, before anybody sees them: it writes them
// to the end of a log and syncs that. Who comes meanwhile waits for the next write
// and sync, together with all who come until then; who comes alone waits for nobody.
// An error is that of all who share it.
//
// A log that is full is sealed. When all that it holds is durable in the records'
// files too, it is removed; nobody waits for that.
type journal struct {
	fs   FS
	dirs *dirs
	size int64 // of a log that is full

	mu     sync.Mutex
	busy   bool   // a group is being written
	next   *group // the one behind it, or nil
	sealed []*log // oldest first

	// Of whoever is busy.
	open *log // nil if the next write begins one
	last uint64

	settling sync.Mutex
	given    error // why no log is removed any more; settling is held

	behind sync.WaitGroup // those who settle
}

// log is one file of the journal.
type log struct {
	number uint64
	file   File
	size   int64
	// seen counts the changes which the log has and the records' files may not have yet.
	seen sync.WaitGroup
}

func logName(number uint64) string { return path.Join(logDir, fmt.Sprintf("%020d", number)) }

// group is what is written and synced at once.
type group struct {
	entries []entry
	seal    bool
	begin   chan struct{} // closed for the first of those who wait: it is theirs to do
	end     chan struct{} // closed for the others
	log     *log
	err     error
}

// append makes changes durable, which stand one behind the other. The caller makes them
// in the records' files, and calls seen then. After an error there are no such changes,
// unless the power is cut before the log that they may be in is removed.
func (j *journal) append(e ...entry) (seen func(), err error) {
	g := j.join(func(g *group) { g.entries = append(g.entries, e...) })
	if g.err != nil {
		return nil, g.err
	}
	return func() { g.log.seen.Add(-len(e)) }, nil
}

// flush makes all changes that were seen until now durable in the records' files, and
// removes their logs.
func (j *journal) flush() error {
	j.join(func(g *group) { g.seal = true })
	return j.settle()
}

// close flushes. What that cannot do is left to the next Open.
func (j *journal) close() {
	_ = j.flush()
	j.behind.Wait()
}

// join takes part in a group and waits until it is written.
func (j *journal) join(add func(*group)) *group {
	j.mu.Lock()
	g := j.next
	first := g == nil
	if first {
		g = &group{begin: make(chan struct{}), end: make(chan struct{})}
		j.next = g
	}
	add(g)
	if !j.busy {
		j.busy = true
		close(g.begin)
	}
	j.mu.Unlock()
	if first {
		<-g.begin
		j.commit(g)
	} else {
		<-g.end
	}
	return g
}

// commit writes a group and lets the next one begin.
func (j *journal) commit(g *group) {
	j.mu.Lock()
	j.next = nil // nobody joins any more
	j.mu.Unlock()
	if len(g.entries) > 0 {
		g.log, g.err = j.write(g.entries)
	}
	if j.open != nil && (g.seal || j.open.size >= j.size) {
		j.seal()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.next != nil {
		close(j.next.begin)
	} else {
		j.busy = false
	}
	close(g.end)
}

// write makes entries durable in a log. After an error they are cut off again, so that
// no other process finds them in the system's memory. A log whose sync has failed is not
// written to any more, for nobody knows what of it is on the disk: it goes as soon as all
// that was seen is durable without it.
func (j *journal) write(entries []entry) (*log, error) {
	if j.open == nil {
		if err := j.begin(); err != nil {
			return nil, err
		}
	}
	l := j.open
	var b []byte
	for _, e := range entries {
		b = appendEntry(b, l.number, e)
	}
	_, err := l.file.Write(b)
	written := err == nil
	if written {
		err = l.file.Sync()
	}
	if err != nil {
		cut := l.file.Truncate(l.size)
		if written || cut != nil {
			j.seal()
		}
		return nil, errors.Join(err, cut)
	}
	l.size += int64(len(b))
	l.seen.Add(len(entries))
	return l, nil
}

// begin begins a log, and makes its name durable.
func (j *journal) begin() error {
	// Nobody prunes this directory.
	if err := j.dirs.make(logDir); err != nil {
		return err
	}
	j.last++
	l := &log{number: j.last}
	var err error
	if l.file, err = j.fs.Create(logName(l.number)); err != nil {
		j.dirs.forgetIfGone(err)
		return err
	}
	j.open = l
	if err := j.dirs.sync(logDir); err != nil {
		j.seal()
		return err
	}
	return nil
}

// seal ends the open log, and has it removed.
func (j *journal) seal() {
	l := j.open
	j.open = nil
	_ = l.file.Close() // what counts of it is durable
	j.mu.Lock()
	j.sealed = append(j.sealed, l)
	j.mu.Unlock()
	j.behind.Go(func() { _ = j.settle() }) // else the next one does it, or Open
}

// settle makes what the sealed logs hold durable in the records' files, and removes
// them. A failed sync is not repeated: Open writes all that they hold anew.
func (j *journal) settle() error {
	j.settling.Lock()
	defer j.settling.Unlock()
	j.mu.Lock()
	logs := j.sealed
	j.mu.Unlock()
	if len(logs) == 0 || j.given != nil {
		return j.given
	}
	for _, l := range logs {
		l.seen.Wait()
	}
	if j.given = j.fs.SyncAll(); j.given != nil {
		return j.given
	}
	for _, l := range logs {
		if err := j.drop(l.number); err != nil {
			return err
		}
		j.mu.Lock()
		j.sealed = j.sealed[1:]
		j.mu.Unlock()
	}
	return nil
}

// drop removes a log, durably: that an older one came back without those behind it
// would undo what they say.
func (j *journal) drop(number uint64) error {
	if err := j.fs.Remove(logName(number)); err != nil {
		return err
	}
	j.given = j.dirs.sync(logDir)
	return j.given
}
