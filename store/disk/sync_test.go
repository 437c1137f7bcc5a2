package disk_test

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

// inOrder wants that calls, each given by its beginning, were made in this order.
func inOrder(t *testing.T, calls []string, want ...string) {
	t.Helper()
	rest := calls
	for _, call := range want {
		i := slices.IndexFunc(rest, func(c string) bool { return strings.HasPrefix(c, call) })
		if i < 0 {
			t.Fatalf("%q does not come in its turn in\n%s", call, strings.Join(calls, "\n"))
		}
		rest = rest[i+1:]
	}
}

// Whoever finds a blob there syncs its directory: the process that made the name
// may have been killed before it did.
func TestCommitOfABlobThatIsThereSyncs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, disk.Options{})
	must(t, ingestParts(s, digest.SHA256, named, 1))
	must(t, s.Close())

	s, f := faulty(t, dir)
	f.Arm(nil)
	must(t, ingestParts(s, digest.SHA256, named, 1))
	inOrder(t, f.Disarm(), "syncname .", "syncname blobs", "syncname blobs/sha256", "remove ingest/")
}

// A deletion is durable too, and the name that a blob went by in between is gone.
func TestDeleteSyncs(t *testing.T) {
	s, f := faulty(t, t.TempDir())
	must(t, ingestParts(s, digest.SHA256, named, 1))
	must(t, putRecord(s, "a/b", "value", store.Absent()))
	blob := path.Join("blobs/sha256", named.Encoded())

	f.Arm(nil)
	must(t, s.Blobs().Delete(t.Context(), named))
	inOrder(t, f.Disarm(), "rename "+blob, "syncname "+path.Dir(blob), "remove tmp/")

	f.Arm(nil)
	must(t, s.Records().Delete(t.Context(), "a/b", store.Always()))
	inOrder(t, f.Disarm(), "write log/", "sync log/", "remove records/a/b", "remove records/a")
}
