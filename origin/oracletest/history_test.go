package oracletest

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

var (
	d1, d2 = digest.FromString("1"), digest.FromString("2")
	tagX   = thing{tag, "a", "x"}
)

func push(d digest.Digest) Op {
	return Op{Kind: PushManifest, Repo: "a", Digest: d, Tags: []string{"x"}}
}

var errDown = errors.New("it has failed")

// What a tag may name follows from what was answered, and when.
func TestPossible(t *testing.T) {
	deleteTag := Op{Kind: DeleteTag, Repo: "a", Tags: []string{"x"}}
	deleteOne := Op{Kind: DeleteManifest, Repo: "a", Digest: d1}
	for _, c := range []struct {
		name string
		do   func(l *Ledger)
		want []string
	}{
		{"nothing", func(*Ledger) {}, []string{absent}},
		{"acked", func(l *Ledger) { l.Begin(push(d1))(nil) }, []string{d1.String()}},
		{"unknown", func(l *Ledger) { l.Begin(push(d1))(errDown) }, []string{absent, d1.String()}},
		{"running", func(l *Ledger) { l.Begin(push(d1)) }, []string{absent, d1.String()}},
		{"moved", func(l *Ledger) {
			l.Begin(push(d1))(nil)
			l.Begin(push(d2))(nil)
		}, []string{d2.String()}},
		{"moved, perhaps", func(l *Ledger) {
			l.Begin(push(d1))(nil)
			l.Begin(push(d2))(errDown)
		}, []string{d1.String(), d2.String()}},
		{"a failure is over when the next one begins", func(l *Ledger) {
			l.Begin(push(d2))(errDown)
			l.Begin(push(d1))(nil)
		}, []string{d1.String()}},
		{"without an answer it may come later", func(l *Ledger) {
			l.Begin(push(d2))(ErrUnanswered)
			l.Begin(push(d1))(nil)
		}, []string{d1.String(), d2.String()}},
		{"but not when the process has ended", func(l *Ledger) {
			end := l.Begin(push(d2))
			l.Settle()
			end(ErrUnanswered)
			l.Begin(push(d1))(nil)
		}, []string{d1.String()}},
		{"two at once", func(l *Ledger) {
			one, two := l.Begin(push(d1)), l.Begin(push(d2))
			one(nil)
			two(nil)
		}, []string{d1.String(), d2.String()}},
		{"deleted", func(l *Ledger) {
			l.Begin(push(d1))(nil)
			l.Begin(deleteTag)(nil)
		}, []string{absent}},
		{"deleted with its manifest", func(l *Ledger) {
			l.Begin(push(d1))(nil)
			l.Begin(deleteOne)(nil)
		}, []string{absent}},
		{"deleted with its manifest, perhaps", func(l *Ledger) {
			l.Begin(push(d1))(nil)
			l.Begin(deleteOne)(errDown)
		}, []string{d1.String(), absent}},
		{"another manifest is deleted", func(l *Ledger) {
			l.Begin(push(d1))(nil)
			l.Begin(push(d2))(nil)
			l.Begin(deleteOne)(nil)
		}, []string{d2.String()}},
	} {
		l := new(Ledger)
		c.do(l)
		got := l.history().possible(tagX, never, never)
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Whoever reads while a tag moves may see both; whoever begins later sees the new one.
func TestPossibleWhileReading(t *testing.T) {
	l := new(Ledger)
	l.Begin(push(d1))(nil)
	before := l.now()
	end := l.Begin(push(d2))
	during := l.now()
	end(nil)
	after := l.now()
	for _, c := range []struct {
		from, to int
		want     []string
	}{
		{before, before, []string{d1.String()}},
		{before, during, []string{d1.String(), d2.String()}},
		{before, after, []string{d1.String(), d2.String()}},
		{during, after, []string{d1.String(), d2.String()}},
		{after, after, []string{d2.String()}},
	} {
		if got := l.history().possible(tagX, c.from, c.to); !slices.Equal(got, c.want) {
			t.Errorf("read from %d to %d: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

// A snapshot does not learn what comes later, and both can be gone on with.
func TestSnapshot(t *testing.T) {
	l := new(Ledger)
	end := l.Begin(push(d1))
	s := l.Snapshot()
	end(nil)
	s.Begin(push(d2))(nil)
	if got := l.history().possible(tagX, never, never); !slices.Equal(got, []string{d1.String()}) {
		t.Errorf("the ledger says %q", got)
	}
	if got := s.history().possible(tagX, never, never); !slices.Equal(got, []string{d1.String(), d2.String()}) {
		t.Errorf("the snapshot says %q", got)
	}
}

// Where garbage is collected a blob stays as long as a manifest that needs it.
func TestCollectable(t *testing.T) {
	needed := thing{blob, "a", d2.String()}
	for _, c := range []struct {
		name string
		do   func(l *Ledger)
		want []string
	}{
		{"nobody needs it", func(*Ledger) {}, []string{there, absent}},
		{"needed", func(l *Ledger) {
			l.Begin(Op{Kind: PushManifest, Repo: "a", Digest: d1, Needs: []digest.Digest{d2}})(nil)
		}, []string{there}},
		{"needed elsewhere", func(l *Ledger) {
			l.Begin(Op{Kind: PushManifest, Repo: "b", Digest: d1, Needs: []digest.Digest{d2}})(nil)
		}, []string{there, absent}},
		{"needed, perhaps", func(l *Ledger) {
			l.Begin(Op{Kind: PushManifest, Repo: "a", Digest: d1, Needs: []digest.Digest{d2}})(errDown)
		}, []string{there, absent}},
		{"needed no more", func(l *Ledger) {
			l.Begin(Op{Kind: PushManifest, Repo: "a", Digest: d1, Needs: []digest.Digest{d2}})(nil)
			l.Begin(Op{Kind: DeleteManifest, Repo: "a", Digest: d1})(nil)
		}, []string{there, absent}},
	} {
		l := &Ledger{Collects: true}
		l.Begin(Op{Kind: PushBlob, Repo: "a", Digest: d2})(nil)
		c.do(l)
		if got := l.history().possible(needed, never, never); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
