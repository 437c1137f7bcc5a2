package s3

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// errListing says that a listing ended where it said that it goes on.
var errListing = errors.New("store/s3: listing is cut")

// object is what a listing says of an object.
type object struct {
	key      string // below the prefix that was listed
	size     int64
	version  string
	modified time.Time
}

// list lists the objects below dir, which ends in a slash, whose key there is greater
// than after, in the byte order of their keys.
func (s *Store) list(ctx context.Context, dir, after string) iter.Seq2[object, error] {
	return func(yield func(object, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(object{}, err)
			return
		}
		prefix := s.prefix + dir
		last := after
		for {
			in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix}
			// A key is UTF-8 there; what is smaller than after is left out below.
			if start := printable(last); start != "" {
				in.StartAfter = aws.String(prefix + start)
			}
			out, err := s.client.ListObjectsV2(ctx, in)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(object{}, err)
				return
			}
			came := last
			for _, o := range out.Contents {
				key, ok := strings.CutPrefix(aws.ToString(o.Key), prefix)
				if !ok || key <= last {
					continue
				}
				last = key
				if !yield(object{key, aws.ToInt64(o.Size), version(o.ETag), aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			if last == came {
				yield(object{}, errListing)
				return
			}
		}
	}
}

// printable is the beginning of s that may stand in a request: valid UTF-8 without
// control characters.
func printable(s string) string {
	for i, r := range s {
		if r < ' ' || r == 0x7f {
			return s[:i]
		}
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return s[:i]
		}
	}
	return s
}
