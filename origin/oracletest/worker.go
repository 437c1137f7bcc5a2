package oracletest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// Worker does random operations, one after the other. Several may work on one registry
// with one ledger. A Worker is not safe for concurrent use.
type Worker struct {
	// Lossy says that uploads need not survive what happens to the registry: a power
	// cut takes what was not committed.
	Lossy bool

	reg      origin.Registry
	ledger   *Ledger
	world    *World
	rnd      *rand.Rand
	sessions []*session
}

// NewWorker makes the n-th worker of a seed.
func NewWorker(reg origin.Registry, ledger *Ledger, world *World, seed, n uint64) *Worker {
	return &Worker{reg: reg, ledger: ledger, world: world, rnd: rand.New(rand.NewPCG(seed, n+1))}
}

// Use lets the worker go on with the registry of a new process, or with another ledger.
func (w *Worker) Use(reg origin.Registry, ledger *Ledger) { w.reg, w.ledger = reg, ledger }

// Step does one operation. That it fails is no error; it is one if the registry breaks
// its word at once, by a wrong body, or by a refusal that has no reason.
func (w *Worker) Step(ctx context.Context) error {
	repo := w.world.Repos[w.rnd.IntN(len(w.world.Repos))]
	tree := w.world.Trees[w.rnd.IntN(len(w.world.Trees))]
	content := w.world.Blobs[w.rnd.IntN(len(w.world.Blobs))]
	n := w.rnd.IntN(22)
	if len(w.world.Mirrored) == 0 {
		n = w.rnd.IntN(19)
	}
	switch {
	case n < 2:
		return w.upload(ctx, repo, content, 1)
	case n < 4:
		return w.upload(ctx, repo, content, 2+w.rnd.IntN(3))
	case n < 6:
		return w.resume(ctx)
	case n < 7:
		return w.mount(ctx, w.world.Repos[w.rnd.IntN(len(w.world.Repos))], repo, content)
	case n < 10:
		return w.image(ctx, repo, tree, w.tags()...)
	case n < 12:
		return w.manifest(ctx, repo, tree, w.tags()...)
	case n < 13:
		op := Op{Kind: DeleteTag, Repo: repo.String(), Tags: []string{w.tag()}}
		return w.do(op, func() error { return w.reg.DeleteManifest(ctx, repo, mustTag(op.Tags[0])) })
	case n < 14:
		op := Op{Kind: DeleteManifest, Repo: repo.String(), Digest: tree.Digest()}
		return w.do(op, func() error { return w.reg.DeleteManifest(ctx, repo, origin.ByDigest(op.Digest)) })
	case n < 15:
		op := Op{Kind: DeleteBlob, Repo: repo.String(), Digest: digest.FromBytes(content)}
		return w.do(op, func() error { return w.reg.DeleteBlob(ctx, repo, op.Digest) })
	case n < 19:
		return w.pull(ctx, repo)
	default:
		return w.pullMirrored(ctx)
	}
}

func (w *Worker) tag() string { return w.world.Tags[w.rnd.IntN(len(w.world.Tags))] }

// tags gives up to two different tags.
func (w *Worker) tags() []string {
	perm := w.rnd.Perm(len(w.world.Tags))
	var tags []string
	for _, i := range perm[:w.rnd.IntN(3)] {
		tags = append(tags, w.world.Tags[i])
	}
	return tags
}

// do does an operation and notes it. Its error says that the registry refuses it and
// must not.
func (w *Worker) do(op Op, call func() error) error {
	_, err := w.try(op, call)
	return err
}

func (w *Worker) try(op Op, call func() error) (Outcome, error) {
	began := w.ledger.now()
	end := w.ledger.Begin(op)
	err := call()
	outcome := end(err)
	if outcome != Refused {
		return outcome, nil
	}
	h := w.ledger.history()
	now := w.ledger.now()
	for _, t := range op.wants() {
		if h.may(t, absent, began, now) {
			return outcome, nil
		}
	}
	return outcome, fmt.Errorf("%v: refused, and nothing is missing: %w", op, err)
}

// wants gives what must be there for an operation to be possible.
func (o Op) wants() []thing {
	switch o.Kind {
	case Mount:
		return []thing{{blob, o.From, o.Digest.String()}}
	case DeleteBlob:
		return []thing{{blob, o.Repo, o.Digest.String()}}
	case DeleteTag:
		return []thing{{tag, o.Repo, o.Tags[0]}}
	case DeleteManifest:
		return []thing{{manifest, o.Repo, o.Digest.String()}}
	case PushManifest:
		var things []thing
		for _, d := range o.Needs {
			things = append(things, thing{blob, o.Repo, d.String()})
		}
		for _, d := range o.Needed {
			things = append(things, thing{manifest, o.Repo, d.String()})
		}
		return things
	default:
		return nil
	}
}

func (w *Worker) mount(ctx context.Context, from, to origin.Repo, content []byte) error {
	op := Op{Kind: Mount, Repo: to.String(), From: from.String(), Digest: digest.FromBytes(content)}
	return w.do(op, func() error {
		_, err := w.reg.Mount(ctx, from, to, op.Digest)
		return err
	})
}

// image pushes a manifest and before it what it needs.
func (w *Worker) image(ctx context.Context, repo origin.Repo, tree origintest.Tree, tags ...string) error {
	for _, b := range tree.Blobs {
		if err := w.upload(ctx, repo, b.Bytes, 1); err != nil {
			return err
		}
	}
	for _, c := range tree.Children {
		if err := w.image(ctx, repo, c); err != nil {
			return err
		}
	}
	return w.manifest(ctx, repo, tree, tags...)
}

func (w *Worker) manifest(ctx context.Context, repo origin.Repo, tree origintest.Tree, tags ...string) error {
	o := origin.PushOptions{}
	for _, t := range tags {
		o.Tags = append(o.Tags, mustTag(t))
	}
	return w.do(PushOf(repo, tree, tags...), func() error {
		d, err := w.reg.Push(ctx, repo, tree.Manifest, o)
		if err == nil && d.Digest != tree.Digest() {
			err = fmt.Errorf("push answers with %s", d.Digest)
		}
		return err
	})
}

// pull reads a tag, its manifest, and the blobs of that.
func (w *Worker) pull(ctx context.Context, repo origin.Repo) error {
	began := w.ledger.now()
	name := w.tag()
	m, err := w.reg.Manifest(ctx, repo, mustTag(name))
	got := absent
	switch {
	case err == nil:
		if err := rightManifest(m, ""); err != nil {
			return fmt.Errorf("tag %s of %s: %w", name, repo, err)
		}
		got = m.Digest.String()
	case !origin.Unknown(err):
		return nil // it has failed, and says so
	}
	h, now := w.ledger.history(), w.ledger.now()
	t := thing{tag, repo.String(), name}
	if !h.may(t, got, began, now) {
		return fmt.Errorf("tag %s of %s names %q, and may name one of %q", name, repo, got, h.possible(t, began, now))
	}
	if got == absent {
		return nil
	}
	c, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return fmt.Errorf("tag %s of %s: %w", name, repo, err)
	}
	for _, b := range c.Blobs {
		began := w.ledger.now()
		err := ReadBlob(ctx, w.reg, repo, b.Digest)
		if errors.Is(err, errWrong) {
			return err
		}
		if origin.Unknown(err) && !w.ledger.history().may(thing{blob, repo.String(), b.Digest.String()}, absent, began, w.ledger.now()) {
			return fmt.Errorf("blob %s of %s: %w", b.Digest, repo, err)
		}
	}
	return nil
}

// pullMirrored pulls an image, or one blob of it.
func (w *Worker) pullMirrored(ctx context.Context) error {
	m := w.world.Mirrored[w.rnd.IntN(len(w.world.Mirrored))]
	repo := mustRepo(m.Repo)
	man, err := w.reg.Manifest(ctx, repo, mustTag(m.Tag))
	if err != nil {
		return failed(err)
	}
	if err := rightManifest(man, m.Manifest); err != nil {
		return fmt.Errorf("tag %s of %s: %w", m.Tag, repo, err)
	}
	for _, i := range w.rnd.Perm(len(m.Blobs))[:1+w.rnd.IntN(len(m.Blobs))] {
		if err := ReadBlob(ctx, w.reg, repo, m.Blobs[i]); err != nil {
			return failed(err)
		}
	}
	return nil
}

// failed lets pass what may happen to a request: that it fails, and says so.
func failed(err error) error {
	if errors.Is(err, errWrong) || OutcomeOf(err) == Refused {
		return err
	}
	return nil
}
