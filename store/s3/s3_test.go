package s3_test

import (
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
	"github.com/weir-registry/weir/store/storetest"
)

func TestBlobs(t *testing.T) {
	inEachStyle(t, func(t *testing.T, _ *s3test.Server, fresh func(testing.TB) s3.Options) {
		storetest.Blobs(t, func(t *testing.T) store.Blobs { return open(t, fresh(t)).Blobs() })
	})
}

func TestRecords(t *testing.T) {
	inEachStyle(t, func(t *testing.T, server *s3test.Server, fresh func(testing.TB) s3.Options) {
		storetest.Records(t, func(t *testing.T) store.Records {
			o := fresh(t)
			return filed{open(t, o).Records(), filepath.Join(server.Dir, o.Bucket, o.Prefix)}
		})
	})
}

// filed says where the server has the records of a store.
type filed struct {
	*s3.Records
	dir string
}

func (f filed) File(key string) string { return filepath.Join(f.dir, "records", key) }

// options are those of a new bucket.
func options(t testing.TB, s *s3test.Server) s3.Options {
	t.Helper()
	return s3.Options{
		Bucket: s.Bucket(t), Endpoint: s.URL, PathStyle: true, Prefix: "some/prefix",
		AccessKeyID: s3test.AccessKey, SecretAccessKey: func() (string, error) { return s3test.SecretKey, nil }, Spool: t.TempDir(),
	}
}

func open(t testing.TB, o s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
