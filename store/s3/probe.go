package s3

import (
	"context"
	"fmt"
	"strings"
)

// probe finds out which conditions the bucket keeps. One that it takes no notice of is
// worse than one that it refuses: the answer is a success either way.
func (s *Store) probe(ctx context.Context, locker Locker) error {
	key := probeDir + newID()
	defer func() { _ = s.delete(context.WithoutCancel(ctx), key) }() // what is left says nothing
	first, _, err := s.putObject(ctx, key, text("a"), nil)
	if err != nil {
		return err
	}
	creates, err := s.refuses(ctx, key, "")
	if err != nil {
		return fmt.Errorf("probe If-None-Match: %w", err)
	}
	replaces, err := s.refuses(ctx, key, other(first))
	if err != nil {
		return fmt.Errorf("probe If-Match: %w", err)
	}
	if creates && replaces {
		// It must also let those pass whose condition holds.
		if first, _, err = s.putObject(ctx, key, text("c"), condition(first)); err != nil {
			if code(err) != "PreconditionFailed" {
				return fmt.Errorf("probe If-Match: %w", err)
			}
			replaces = false
		}
	}
	if !creates || !replaces {
		if locker == nil {
			return ErrConditions
		}
		s.cells.locker = locker
		s.log.WarnContext(ctx, "the bucket does not keep conditions on writes: a lock of all replicas stands in for them, and losing it may lose a write",
			"bucket", s.bucket, "create_only", creates, "if_match", replaces)
		return nil
	}
	err = s.cells.erase(ctx, key, other(first))
	s.cells.removes = code(err) == "PreconditionFailed"
	if !s.cells.removes {
		s.log.WarnContext(ctx, "the bucket does not keep conditions on deletes: an empty object stays in the place of each record that was deleted", "bucket", s.bucket)
	}
	return nil
}

// refuses reports whether the bucket refuses to write over something else than what is
// there.
func (s *Store) refuses(ctx context.Context, key, over string) (bool, error) {
	for n := 0; ; n++ {
		_, _, err := s.putObject(ctx, key, text("b"), condition(over))
		switch {
		case err == nil:
			return false, nil
		case code(err) == "PreconditionFailed":
			return true, nil
		case code(err) == "NotImplemented" || code(err) == "InvalidArgument":
			return false, nil
		case n == retries || !retryable(err):
			return false, err
		}
		if err := pause(ctx, n); err != nil {
			return false, err
		}
	}
}

// other is an ETag that looks like v and is not.
func other(v string) string {
	if strings.HasPrefix(v, "0") {
		return "1" + v[min(1, len(v)):]
	}
	return "0" + v[min(1, len(v)):]
}
