package fill

import (
	"context"
	"errors"
)

// errDropped is why a verified blob was not stored.
var errDropped = errors.New("fill: dropped")

// Drop lets the running fill of key, if there is one, end without being stored; those
// who read it read on. One that is being stored is waited for. When Drop returns,
// nothing more of it comes into the store. Errors: ctx's.
func (g *Group) Drop(ctx context.Context, key Key) error {
	g.mu.Lock()
	f, ok := g.fills[key]
	g.mu.Unlock()
	if !ok {
		return nil
	}
	f.mu.Lock()
	f.dropped = true
	storing := f.storing
	f.mu.Unlock()
	if storing == nil {
		return nil
	}
	select {
	case <-storing:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// beginStore reports whether f is to be stored. end is called when it was.
func (f *Fill) beginStore() (end func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropped {
		return nil, false
	}
	f.storing = make(chan struct{})
	return func() { close(f.storing) }, true
}
