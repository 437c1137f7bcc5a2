package events_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/origintest"
)

// elsewhere is a registry that does what it is asked for, and whose client is gone by then.
type elsewhere struct {
	origin.None
	leave func()
}

func (e *elsewhere) Resolve(context.Context, origin.Repo, origin.Ref) (origin.Descriptor, error) {
	return origin.Descriptor{}, nil
}

func (e *elsewhere) Push(context.Context, origin.Repo, origin.Manifest, origin.PushOptions) (origin.Descriptor, error) {
	e.leave()
	return origin.Descriptor{}, nil
}

func (e *elsewhere) DeleteManifest(context.Context, origin.Repo, origin.Ref) error {
	e.leave()
	return nil
}

// What another registry has done is told of though its client has gone meanwhile.
func TestRecordedOfHasty(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		b.Start(there{})
		defer b.Close(t.Context())
		r := events.Recorded{Journal: b, Records: b.records}
		repo, tag := origintest.Repo(t, "a"), origintest.Ref(t, "v1")
		reg := &elsewhere{}
		ctx, leave := context.WithCancel(t.Context())
		reg.leave = leave
		if _, err := r.Push(ctx, reg, repo, origin.Manifest{}, origin.PushOptions{Tags: []origin.Ref{tag}}); err != nil {
			t.Errorf("push: %v", err)
		}
		ctx, reg.leave = context.WithCancel(t.Context())
		if err := r.Delete(ctx, reg, repo, tag); err != nil {
			t.Errorf("deletion: %v", err)
		}
		synctest.Wait()
		if got := b.to.subjects(); got != "a:v1 a:v1" {
			t.Errorf("told: %s", got)
		}
	})
}
