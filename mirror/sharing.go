package mirror

import (
	"context"
	"encoding/json"
	"time"

	"github.com/weir-registry/weir/origin"
)

// Shared is what a mirror shares with others over the same origin and records. Nothing
// depends on it but how often upstreams are asked, and how soon a mirror sees what others
// record: a value that cannot be had is a miss, and a lock that cannot be had is nobody's.
type Shared interface {
	// Get, Set and Delete keep small values for a while.
	Get(ctx context.Context, key string) (value []byte, ok bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	Delete(ctx context.Context, key string)
	// Take takes a lock for ttl, until release. release is nil where it was not taken:
	// held says whether another mirror has it.
	Take(ctx context.Context, name string, ttl time.Duration) (release func(), held bool)
	// Await returns once nobody has that lock any more, as far as can be known. Errors: it
	// cannot be known; those of ctx.
	Await(ctx context.Context, name string) error
	// Subscribe has changed called with the keys of records that others have written, and
	// missed where it may be any; neither blocks. current reports whether all has been
	// told but for the last moment.
	Subscribe(changed func(keys []string), missed func()) (current func() bool)
}

const (
	// asking is for how long a mirror that has died while it asked keeps others from it.
	asking = 5 * time.Second
	// recording is how long a manifest may take to be recorded by the mirror that got it.
	// It is looked for after firstLook, and then after twice as long each time: what tells that
	// it is there is the origin, whose records a mirror does not know by their keys.
	recording = time.Second
	firstLook = 5 * time.Millisecond
)

// sharing is what mirrors share, in a mirror's terms. nil shares nothing.
type sharing struct{ with Shared }

func (s *sharing) tagKey(k tagKey) string { return "tag/" + k.String() }

// learnt tells the others what an upstream said of a tag.
func (s *sharing) learnt(ctx context.Context, u *Upstream, k tagKey, t tag) {
	if s == nil {
		return
	}
	if data, err := json.Marshal(t); err == nil && u.ttl() > 0 {
		s.with.Set(ctx, s.tagKey(k), data, u.ttl())
	}
	for _, what := range []kind{getTag, headTag} {
		s.with.Delete(ctx, refusalKey(question{k.repo, what, k.tag}))
	}
}

// tag gives what another mirror was told of a tag, if that needs no check.
func (s *sharing) tag(ctx context.Context, u *Upstream, k tagKey) (tag, bool) {
	if s == nil {
		return tag{}, false
	}
	data, ok := s.with.Get(ctx, s.tagKey(k))
	var t tag
	if !ok || json.Unmarshal(data, &t) != nil {
		return tag{}, false
	}
	if _, err := origin.ParseDigest(t.Digest.String()); err != nil {
		return tag{}, false
	}
	// Clocks differ: what was said later than now was said now.
	if now := time.Now(); t.Checked.After(now) {
		t.Checked = now
	}
	return t, fresh(ctx, u, k, t)
}

// ask lets one mirror at a time ask an upstream about a tag. What another one was told
// meanwhile is the answer here too: told is true then. Whoever asks calls done after.
func (s *sharing) ask(ctx context.Context, u *Upstream, k tagKey) (t tag, told bool, done func()) {
	done = func() {}
	if s == nil {
		return tag{}, false, done
	}
	waiting, stop := context.WithTimeout(ctx, impatience)
	defer stop()
	for {
		release, held := s.with.Take(ctx, s.tagKey(k), asking)
		// After it: whoever had it has told before he gave it back.
		if t, ok := s.tag(ctx, u, k); ok {
			if release != nil {
				release()
			}
			return t, true, done
		}
		switch {
		case release != nil:
			return tag{}, false, release
		case !held || s.with.Await(waiting, s.tagKey(k)) != nil:
			return tag{}, false, done
		}
	}
}

// sharedRefusal is an upstream's "not there" for the others.
type sharedRefusal struct {
	Endpoint string    `json:"endpoint"`
	Status   int       `json:"status"`
	Until    time.Time `json:"until"`
}

func refusalKey(q question) string {
	return "no/" + string(q.what) + "/" + q.repo.String() + "/" + q.name
}

// refuse tells the others of an upstream's "not there".
func (s *sharing) refuse(ctx context.Context, q question, err *origin.UpstreamError, ttl time.Duration) {
	if s == nil {
		return
	}
	data, e := json.Marshal(sharedRefusal{err.Endpoint, err.Status, time.Now().Add(ttl)})
	if e == nil {
		s.with.Set(ctx, refusalKey(q), data, ttl)
	}
}

// refused gives what another mirror was refused, and until when that holds.
func (s *sharing) refused(ctx context.Context, u *Upstream, q question) (refusal, bool) {
	if s == nil {
		return refusal{}, false
	}
	data, ok := s.with.Get(ctx, refusalKey(q))
	var r sharedRefusal
	if !ok || json.Unmarshal(data, &r) != nil {
		return refusal{}, false
	}
	cause := origin.ErrManifestUnknown
	if q.what == headBlob {
		cause = origin.ErrBlobUnknown
	}
	said := refusal{
		err:   &origin.UpstreamError{Endpoint: r.Endpoint, Status: r.Status, Err: cause},
		until: r.Until,
	}
	if most := time.Now().Add(u.Tags.NegativeTTL); said.until.After(most) {
		said.until = most
	}
	return said, absent(said.err) && said.stands(ctx, u)
}
