package storetest

import (
	"os"
	"testing"

	"github.com/weir-registry/weir/store"
)

// Filer is implemented by records under examination that are kept in files.
type Filer interface {
	// File is the name of a record's file; its data is at the end.
	File(key string) string
}

// damageCases ask nothing of records that lie in no files.
var damageCases = []recordCase{
	{"damaged", func(t *testing.T, r store.Records) {
		f, ok := r.(Filer)
		if !ok {
			return
		}
		set(t, r, "a/b", "value", store.Always())
		text, err := os.ReadFile(f.File("a/b"))
		must(t, err)
		text[len(text)-1] ^= 1
		must(t, os.WriteFile(f.File("a/b"), text, 0o600))
		rec, err := r.Get(t.Context(), "a/b")
		wantErr(t, err, store.ErrDamaged)
		wantBytes(t, rec.Data, []byte("valud"))
		if rec.Version != "" || rec.Modified.IsZero() {
			t.Errorf("version %q, modified %s", rec.Version, rec.Modified)
		}
		refused(t, r, "a/b", store.Absent())
		for e, err := range r.List(t.Context(), "a", "") {
			if must(t, err); e.Version != "" { // of this state, as of any
				set(t, r, "a/b", "again", store.Version(e.Version))
				refused(t, r, "a/b", store.Version(e.Version))
			}
		}
		wantRecord(t, r, "a/b", "anew", set(t, r, "a/b", "anew", store.Always()))
	}},
}
