package fill

import (
	"context"
	"errors"
)

// errYielded is the end of a fill ahead whose turn somebody else wants.
var errYielded = errors.New("fill: gave its turn to one that somebody waits for")

// Ahead fetches the blob of key before anybody asks for it, and waits until that is
// done. It is as Join, but that such a fill takes a turn only while nobody waits for
// one, gives it back to whoever comes, and goes on later where it was; once somebody
// has joined it, it is a fill like any other. What runs already is waited for. When ctx
// ends, what nobody has asked for ends too, and what it has fetched is left for the
// next. Errors: ErrClosed, ctx's, and those of src.
func (g *Group) Ahead(ctx context.Context, key Key, size int64, src Source, keep Keep) error {
	for {
		f, err := g.joinAhead(ctx, key, size, src, keep)
		if err != nil {
			return err
		}
		if err := f.await(ctx); !errors.Is(err, errYielded) {
			return err
		}
	}
}

// joinAhead gives the running fill of key, or begins one that is ahead.
func (g *Group) joinAhead(ctx context.Context, key Key, size int64, src Source, keep Keep) (*Fill, error) {
	for {
		g.mu.Lock()
		turns := g.turnsOf(key.Upstream, size)
		if f, err := g.enterAhead(key); f != nil || err != nil {
			g.mu.Unlock()
			return f, err
		}
		g.mu.Unlock()
		f := &Fill{key: key, src: src, size: size, ahead: true}
		if turns != nil {
			if err := turns.Acquire(ctx, 1); err != nil {
				return nil, context.Cause(ctx)
			}
			f.turn = func() { turns.Release(1) }
		}
		// Whoever waits for a turn has said so under g.mu, and then looked for a fill
		// ahead: either it is seen here, or it sees this one.
		g.mu.Lock()
		if g.open.Err() != nil || g.fills[key] != nil || turns != nil && g.wanted[turns] > 0 {
			g.mu.Unlock()
			f.release()
			continue
		}
		g.begin(ctx, f, keep)
		g.mu.Unlock()
		return f, nil
	}
}

// enterAhead joins the fill of key, if one is running, for somebody who is ahead of those
// who will ask. g.mu is held.
func (g *Group) enterAhead(key Key) (*Fill, error) {
	if g.open.Err() != nil {
		return nil, ErrClosed
	}
	f := g.fills[key]
	if f != nil {
		ahead := f.ahead
		g.enter(f)
		f.ahead = ahead
	}
	return f, nil
}

// yield has a fill ahead of an upstream give its turn back, if there is one. g.mu is
// held: nobody joins it meanwhile, and whoever does so later is told to look again.
func (g *Group) yield(upstream string) {
	for _, f := range g.fills {
		if f.key.Upstream != upstream || !f.ahead {
			continue
		}
		f.mu.Lock()
		has := f.turn != nil && f.err == nil && !f.verified
		f.mu.Unlock()
		if has {
			f.fail(errYielded)
			return
		}
	}
}

// await waits until the group has forgotten f, and gives back what joining it gave.
func (f *Fill) await(ctx context.Context) error {
	g := f.group
	defer g.leave(f)
	select {
	case <-f.gone:
	case <-ctx.Done():
		g.mu.Lock()
		if f.ahead {
			f.fail(ErrClosed)
		}
		g.mu.Unlock()
		return context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(f.err, ErrStored) {
		return nil
	}
	return f.err
}

// yielded makes the end of a fill ahead that gave its turn back, once it has left what
// it has, a request to look again.
func (f *Fill) yielded(ctx context.Context, err error) error {
	if !errors.Is(err, errYielded) {
		return err
	}
	select {
	case <-f.gone:
		return ErrStored
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
