package coord

import (
	"context"
	"sync"
	"time"
)

// Process is a Locker, a Cache and, by its members, a Notify inside one process.
type Process struct {
	mu      sync.Mutex
	token   uint64
	locks   map[string]*processLock
	values  map[string]value
	members []*Member
}

var (
	_ Locker = (*Process)(nil)
	_ Cache  = (*Process)(nil)
	_ Notify = (*Member)(nil)
)

type value struct {
	data  []byte
	until time.Time
}

// NewProcess gives a Process without members.
func NewProcess() *Process {
	return &Process{locks: map[string]*processLock{}, values: map[string]value{}}
}

// TryLock implements Locker. Whoever holds a lock is alive as long as the process is:
// it is never lost.
func (p *Process) TryLock(_ context.Context, name, holder string, ttl time.Duration) (Lock, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held, ok := p.locks[name]; ok {
		return nil, &HeldError{Name: name, Holder: held.holder}
	}
	p.token++
	l := &processLock{process: p, ttl: ttl, name: name, holder: holder, token: p.token, freed: make(chan struct{})}
	p.locks[name] = l
	return l, nil
}

// Await implements Locker.
func (p *Process) Await(ctx context.Context, name string) error {
	p.mu.Lock()
	held, ok := p.locks[name]
	p.mu.Unlock()
	if !ok {
		return nil
	}
	select {
	case <-held.freed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

type processLock struct {
	process      *Process
	name, holder string
	token        uint64
	ttl          time.Duration
	freed        chan struct{} // closed when it is given back
}

func (l *processLock) Token() uint64         { return l.token }
func (l *processLock) Until() time.Time      { return time.Now().Add(l.ttl) }
func (l *processLock) Lost() <-chan struct{} { return nil }

func (l *processLock) Unlock() {
	l.process.mu.Lock()
	defer l.process.mu.Unlock()
	if l.process.locks[l.name] == l {
		delete(l.process.locks, l.name)
		close(l.freed)
	}
}

// most is how many values a Process keeps; all go when there are more.
const most = 1 << 16

// Get implements Cache.
func (p *Process) Get(_ context.Context, key string) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.values[key]
	if ok && !time.Now().Before(v.until) {
		delete(p.values, key)
		ok = false
	}
	return v.data, ok
}

// Set implements Cache.
func (p *Process) Set(_ context.Context, key string, data []byte, ttl time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.values, key)
	if len(data) > MaxValue || ttl <= 0 {
		return
	}
	if len(p.values) >= most {
		clear(p.values)
	}
	p.values[key] = value{append([]byte(nil), data...), time.Now().Add(ttl)}
}

// Delete implements Cache.
func (p *Process) Delete(_ context.Context, key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.values, key)
}

// Member is one of those in a Process who tell each other.
type Member struct {
	process     *Process
	subscribers []subscriber
}

type subscriber struct {
	changed func(keys []string)
	missed  func()
}

// Member adds one who is told what the others publish.
func (p *Process) Member() *Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &Member{process: p}
	p.members = append(p.members, m)
	return m
}

// Publish implements Notify: all others have been told when it returns.
func (m *Member) Publish(_ context.Context, keys ...string) {
	m.process.mu.Lock()
	var told []subscriber
	for _, other := range m.process.members {
		if other != m {
			told = append(told, other.subscribers...)
		}
	}
	m.process.mu.Unlock()
	for _, s := range told {
		s.changed(keys)
	}
}

// Mention implements Notify.
func (m *Member) Mention(ctx context.Context, keys ...string) { m.Publish(ctx, keys...) }

// Settle implements Notify: all have been told, and what they do when they are told is done.
func (m *Member) Settle(context.Context) error { return nil }

// Subscribe implements Notify. Nothing is ever missed.
func (m *Member) Subscribe(changed func(keys []string), missed func()) func() bool {
	m.process.mu.Lock()
	defer m.process.mu.Unlock()
	m.subscribers = append(m.subscribers, subscriber{changed, missed})
	return func() bool { return true }
}
