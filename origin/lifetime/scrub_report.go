package lifetime

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// ScrubReport is what came of a run.
type ScrubReport struct {
	Checked  int64           `json:"checked"` // blobs and records
	Corrupt  []Corrupt       `json:"corrupt"`
	Repaired []digest.Digest `json:"repaired"`
	Mended   int64           `json:"-"` // derived records that were put right
}

// Corrupt is content that is not what its digest says, and who has it.
type Corrupt struct {
	Digest       digest.Digest `json:"digest"`
	Repositories []string      `json:"repositories"`
}

func (r *ScrubReport) sort() {
	slices.SortFunc(r.Corrupt, func(a, b Corrupt) int { return cmp.Compare(a.Digest, b.Digest) })
	slices.Sort(r.Repaired)
}

// Text writes the report for people.
func (r ScrubReport) Text(w io.Writer) error {
	var text bytes.Buffer
	for _, c := range r.Corrupt {
		what := "corrupt"
		if slices.Contains(r.Repaired, c.Digest) {
			what = "repaired"
		}
		in := "in no repository"
		if len(c.Repositories) > 0 {
			in = "in " + strings.Join(c.Repositories, ", ")
		}
		fmt.Fprintf(&text, "%s %s %s\n", what, c.Digest, in)
	}
	fmt.Fprintf(&text, "checked %d objects, %d corrupt, %d repaired\n", r.Checked, len(r.Corrupt), len(r.Repaired))
	_, err := w.Write(text.Bytes())
	return err
}

// keyCursor is the record that says how far a scheduled run has come: the last key of a
// blob that was read, in hex.
const keyCursor = "scrub/cursor"

// saveCursor is how often it is written.
const saveCursor = time.Minute

// cursor is how far a run has come.
type cursor struct {
	records store.Records // nil: nobody wants to know
	after   []byte
	saved   time.Time
}

func (s *Scrubber) cursor(ctx context.Context, resume bool) (*cursor, error) {
	c := &cursor{saved: time.Now()}
	if !resume {
		return c, nil
	}
	c.records = s.opts.Records
	rec, err := c.records.Get(ctx, keyCursor)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
		return c, nil // from the beginning, then
	}
	if err != nil {
		return nil, fmt.Errorf("read how far it has come: %w", err)
	}
	if c.after, err = hex.DecodeString(string(rec.Data)); err != nil {
		c.after = nil // as above
	}
	return c, nil
}

// past reports whether a blob was read before.
func (c *cursor) past(k key) bool { return c.after != nil && bytes.Compare(k[:], c.after) <= 0 }

// save takes note that a blob was read.
func (c *cursor) save(ctx context.Context, k key) error {
	if c.records == nil || time.Since(c.saved) < saveCursor {
		return nil
	}
	c.saved = time.Now()
	if _, err := c.records.Put(ctx, keyCursor, []byte(hex.EncodeToString(k[:])), store.Always()); err != nil {
		return fmt.Errorf("write down how far it has come: %w", err)
	}
	return nil
}

// clear takes note that all were read.
func (c *cursor) clear(ctx context.Context) error {
	if c.records == nil {
		return nil
	}
	err := c.records.Delete(ctx, keyCursor, store.Always())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
