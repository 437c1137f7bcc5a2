package events_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
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

// full are records that take nothing, for that reason, until there is room.
type full struct {
	*mem.Records
	why error
}

func (f *full) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if f.why != nil {
		return "", f.why
	}
	return f.Records.Put(ctx, key, data, if_)
}

// A full disk does not keep anything from being deleted elsewhere: that it is about to be is
// written down afterwards. Where nothing can be for another reason it is not.
func TestRecordedOnFullDisk(t *testing.T) {
	for _, c := range []struct {
		why, err error
		room     bool // by then
		told     string
	}{
		{why: syscall.ENOSPC, room: true, told: "a:v1"},
		{why: syscall.EDQUOT, room: true, told: "a:v1"},
		// What nobody can be told of is not acknowledged.
		{why: syscall.ENOSPC, err: syscall.ENOSPC},
		{why: syscall.EIO, err: syscall.EIO},
	} {
		in(t, func(t *testing.T) {
			records := &full{Records: records(), why: c.why}
			b := newBox(t, records, nil)
			b.Start(there{})
			defer b.Close(t.Context())
			deleted := false
			reg := &elsewhere{leave: func() {
				if deleted = true; c.room {
					records.why = nil
				}
			}}
			err := events.Recorded{Journal: b, Records: records}.Delete(t.Context(), reg, origintest.Repo(t, "a"), origintest.Ref(t, "v1"))
			if !errors.Is(err, c.err) || deleted != store.NoRoom(c.why) {
				t.Errorf("%v: deleted: %t, %v", c.why, deleted, err)
			}
			synctest.Wait()
			if got := b.to.subjects(); got != c.told {
				t.Errorf("%v: told: %q", c.why, got)
			}
		})
	}
}
