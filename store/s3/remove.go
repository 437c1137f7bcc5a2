package s3

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weir-registry/weir/store"
)

// remove deletes a cell if its state is as the condition says, and gives what was
// deleted. Errors: store.ErrNotFound, store.ErrConflict, errUncertain.
//
// A tombstone decides, since its write has a condition that every bucket takes seriously
// which has any: of many who delete one state one does, and one who writes beside them
// loses or wins. The object itself goes after that. Nobody writes over a tombstone that
// is fresh; so even a bucket which looks at the condition of a delete first, and then
// deletes, does not take what is newer.
func (c *cells) remove(ctx context.Context, key string, if_ store.Condition) (cell, error) {
	if c.locker != nil {
		return c.removeLocked(ctx, key, if_)
	}
	for n := 0; ; n++ {
		was, err := c.get(ctx, key)
		if err != nil && !errors.Is(err, errDamaged) {
			return cell{}, err
		}
		if !if_.Allows(true, was.version) {
			return cell{}, store.ErrConflict
		}
		// Whoever was stopped here, and goes on when others have made up their minds, may
		// remove no more than what he has seen in time: the version tells.
		if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
			return cell{}, context.DeadlineExceeded
		}
		since := time.Now()
		dead, _, err := c.swap(ctx, write{key: key, text: text("")}, was.version)
		switch {
		case err == nil:
			if c.removes && dead.version != "" && time.Since(since) < tombstoneLife {
				// What is left of it, if this fails, is swept.
				_ = c.erase(ctx, key, dead.version)
			}
			return was, nil
		case !errors.Is(err, store.ErrConflict):
			return cell{}, err
		}
		if err := pause(ctx, min(n, 2)); err != nil {
			return cell{}, err
		}
	}
}

// erase removes the object of a cell in one attempt, if it has that version.
func (c *cells) erase(ctx context.Context, key, version string) error {
	ctx, cancel := context.WithTimeout(ctx, tombstoneLife)
	defer cancel()
	_, err := c.s.client.DeleteObject(ctx, &s3.DeleteObjectInput{
		Bucket: &c.s.bucket, Key: c.s.key(key), IfMatch: aws.String(`"` + version + `"`),
	}, once)
	return err
}

// delete removes an object whose key nobody writes to again. One that is not there is no
// error.
func (s *Store) delete(ctx context.Context, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.key(key)})
	if errors.Is(missing(err), store.ErrNotFound) {
		return nil
	}
	return err
}
