package s3

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// StallAfter sets how long a bucket may take to answer, before anything is asked.
func (s *Store) StallAfter(limit time.Duration) {
	s.client = s3.New(s.client.Options(), func(o *s3.Options) {
		o.HTTPClient = timed{o.HTTPClient.(timed).next, limit}
	})
}
