package storetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/store"
)

// recordCase is one question about a store that was empty.
type recordCase struct {
	name string
	run  func(t *testing.T, r store.Records)
}

// Records examines the stores that open gives; each is empty, and of one case.
func Records(t *testing.T, open func(t *testing.T) store.Records) {
	for _, cases := range [][]recordCase{valueCases, timeCases, damageCases, conditionCases, batchCases, keyCases, raceCases, listCases} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
		}
	}
}

var valueCases = []recordCase{
	{"get of nothing", func(t *testing.T, r store.Records) {
		_, err := r.Get(t.Context(), "a/b")
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, err, fs.ErrNotExist)
	}},
	{"put and get", func(t *testing.T, r store.Records) {
		version := set(t, r, "a/b", "value", store.Always())
		if version == "" {
			t.Error("Put gives no version")
		}
		wantRecord(t, r, "a/b", "value", version)
	}},
	{"overwrite", func(t *testing.T, r store.Records) {
		set(t, r, "a/b", "a long value", store.Always())
		wantRecord(t, r, "a/b", "short", set(t, r, "a/b", "short", store.Always()))
	}},
	{"empty value", func(t *testing.T, r store.Records) {
		wantRecord(t, r, "a", "", set(t, r, "a", "", store.Always()))
	}},
	{"any bytes", func(t *testing.T, r store.Records) {
		value := "\n\x00\xff" + string(random(300)) + "\n"
		wantRecord(t, r, "a", value, set(t, r, "a", value, store.Always()))
	}},
	{"4 MiB", func(t *testing.T, r store.Records) {
		value := string(random(4 << 20))
		wantRecord(t, r, "a/b/c", value, set(t, r, "a/b/c", value, store.Absent()))
	}},
	{"the caller's bytes stay the caller's", func(t *testing.T, r store.Records) {
		data := []byte("value")
		_, err := r.Put(t.Context(), "a", data, store.Always())
		must(t, err)
		data[0] = 'X'
		got, err := r.Get(t.Context(), "a")
		must(t, err)
		wantBytes(t, got.Data, []byte("value"))
		got.Data[0] = 'Y'
		got, err = r.Get(t.Context(), "a")
		must(t, err)
		wantBytes(t, got.Data, []byte("value"))
	}},
	{"delete", func(t *testing.T, r store.Records) {
		set(t, r, "a/b", "value", store.Always())
		set(t, r, "a/c", "sibling", store.Always())
		must(t, r.Delete(t.Context(), "a/b", store.Always()))
		_, err := r.Get(t.Context(), "a/b")
		wantErr(t, err, store.ErrNotFound)
		wantErr(t, r.Delete(t.Context(), "a/b", store.Always()), store.ErrNotFound)
		wantValue(t, r, "a/c", "sibling")
	}},
	{"delete of nothing", func(t *testing.T, r store.Records) {
		wantErr(t, r.Delete(t.Context(), "a", store.Always()), store.ErrNotFound)
		wantErr(t, r.Delete(t.Context(), "a/b/c", store.Version("v")), store.ErrNotFound)
	}},
	{"put after delete", func(t *testing.T, r store.Records) {
		set(t, r, "a/b/c/d", "one", store.Absent())
		must(t, r.Delete(t.Context(), "a/b/c/d", store.Always()))
		wantRecord(t, r, "a/b/c/d", "two", set(t, r, "a/b/c/d", "two", store.Absent()))
	}},
	{"a key that was a path, after delete", func(t *testing.T, r store.Records) {
		set(t, r, "a/b/c", "one", store.Always())
		must(t, r.Delete(t.Context(), "a/b/c", store.Always()))
		wantRecord(t, r, "a", "two", set(t, r, "a", "two", store.Absent()))
		must(t, r.Delete(t.Context(), "a", store.Always()))
		wantRecord(t, r, "a/b", "three", set(t, r, "a/b", "three", store.Absent()))
	}},
	{"contexts that are over", func(t *testing.T, r store.Records) {
		set(t, r, "a", "value", store.Always())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := r.Get(ctx, "a")
		wantErr(t, err, context.Canceled)
		_, err = r.Put(ctx, "a", []byte("other"), store.Always())
		wantErr(t, err, context.Canceled)
		wantErr(t, r.Delete(ctx, "a", store.Always()), context.Canceled)
		wantErr(t, last(r.List(ctx, "", "")), context.Canceled)
		wantValue(t, r, "a", "value")
	}},
}

var conditionCases = []recordCase{
	{"absent: nothing there", func(t *testing.T, r store.Records) {
		wantRecord(t, r, "a", "value", set(t, r, "a", "value", store.Absent()))
	}},
	{"absent: something there", func(t *testing.T, r store.Records) {
		version := set(t, r, "a", "value", store.Always())
		refused(t, r, "a", store.Absent())
		wantRecord(t, r, "a", "value", version)
	}},
	{"version: the one there", func(t *testing.T, r store.Records) {
		version := set(t, r, "a", "one", store.Always())
		for _, value := range []string{"two", "three", "four"} {
			version = set(t, r, "a", value, store.Version(version))
			wantRecord(t, r, "a", value, version)
		}
	}},
	{"version: an older one", func(t *testing.T, r store.Records) {
		old := set(t, r, "a", "one", store.Always())
		version := set(t, r, "a", "two", store.Version(old))
		refused(t, r, "a", store.Version(old))
		wantRecord(t, r, "a", "two", version)
	}},
	{"version: of another record", func(t *testing.T, r store.Records) {
		other := set(t, r, "b", "value", store.Always())
		version := set(t, r, "a", "value", store.Always())
		refused(t, r, "a", store.Version(other))
		wantRecord(t, r, "a", "value", version)
	}},
	{"version: nothing there", func(t *testing.T, r store.Records) {
		refused(t, r, "a", store.Version("v"))
		_, err := r.Get(t.Context(), "a")
		wantErr(t, err, store.ErrNotFound)
		if got := list(t, r, "", ""); len(got) != 0 {
			t.Errorf("List = %v, want none", got)
		}
	}},
	{"version: deleted", func(t *testing.T, r store.Records) {
		version := set(t, r, "a", "value", store.Always())
		must(t, r.Delete(t.Context(), "a", store.Version(version)))
		refused(t, r, "a", store.Version(version))
	}},
	{"versions: the same data again", func(t *testing.T, r store.Records) {
		seen := map[string]bool{}
		for range 20 {
			version := set(t, r, "a", "value", store.Always())
			if seen[version] {
				t.Fatalf("version %s comes twice", version)
			}
			seen[version] = true
		}
	}},
	{"versions: the same data after delete", func(t *testing.T, r store.Records) {
		first := set(t, r, "a", "value", store.Absent())
		must(t, r.Delete(t.Context(), "a", store.Always()))
		if second := set(t, r, "a", "value", store.Absent()); second == first {
			t.Errorf("version %s comes twice", first)
		}
		refused(t, r, "a", store.Version(first))
	}},
	{"delete: the version there", func(t *testing.T, r store.Records) {
		version := set(t, r, "a", "value", store.Always())
		must(t, r.Delete(t.Context(), "a", store.Version(version)))
		_, err := r.Get(t.Context(), "a")
		wantErr(t, err, store.ErrNotFound)
	}},
	{"delete: an older version", func(t *testing.T, r store.Records) {
		old := set(t, r, "a", "one", store.Always())
		version := set(t, r, "a", "two", store.Always())
		wantErr(t, r.Delete(t.Context(), "a", store.Version(old)), store.ErrConflict)
		wantRecord(t, r, "a", "two", version)
	}},
	{"delete: absent", func(t *testing.T, r store.Records) {
		version := set(t, r, "a", "value", store.Always())
		wantErr(t, r.Delete(t.Context(), "a", store.Absent()), store.ErrConflict)
		wantRecord(t, r, "a", "value", version)
	}},
}

var keyCases = []recordCase{
	{"keys that are none", func(t *testing.T, r store.Records) {
		for _, key := range []string{
			"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a/.", "a b", "a\x00", "a\n", "a\x7f",
			`a\b`, "a%2fb", strings.Repeat("x", 256), "a/" + strings.Repeat("x", 256) + "/b",
		} {
			_, err := r.Get(t.Context(), key)
			wantErr(t, err, store.ErrKey)
			_, err = r.Put(t.Context(), key, nil, store.Always())
			wantErr(t, err, store.ErrKey)
			wantErr(t, r.Delete(t.Context(), key, store.Always()), store.ErrKey)
			if key != "" { // lists all
				wantErr(t, last(r.List(t.Context(), key, "")), store.ErrKey)
			}
		}
		if got := list(t, r, "", ""); len(got) != 0 {
			t.Errorf("List = %v, want none", got)
		}
	}},
	{"keys of all kinds", func(t *testing.T, r store.Records) {
		keys := []string{
			"a", "A", "...", "..a", ".hidden", "~", "!", "é", "sha256:abc", "a-b", "a.b", "a_b+c=d@e", "-rf", "*", "con",
			strings.Repeat("y", 255), "d/" + strings.Repeat("z", 255) + "/" + strings.Repeat("z", 255),
			strings.Repeat("deep/", 40) + "end",
		}
		for _, key := range keys {
			set(t, r, key, "value of "+key, store.Absent())
		}
		for _, key := range keys {
			wantValue(t, r, key, "value of "+key)
		}
		if got := list(t, r, "", ""); len(got) != len(keys) {
			t.Errorf("List has %d keys, want %d: %q", len(got), len(keys), got)
		}
	}},
	{"a path is not a record", func(t *testing.T, r store.Records) {
		set(t, r, "a/b/c", "value", store.Always())
		for _, key := range []string{"a", "a/b", "a/b/c/d", "a/b/c/d/e"} {
			_, err := r.Get(t.Context(), key)
			wantErr(t, err, store.ErrNotFound)
			wantErr(t, r.Delete(t.Context(), key, store.Always()), store.ErrNotFound)
		}
		wantValue(t, r, "a/b/c", "value")
	}},
}

var raceCases = []recordCase{
	{"race: one of 16 creates", func(t *testing.T, r store.Records) {
		var mu sync.Mutex
		winners := map[string]string{}
		crowd(t, 16, func(i int) error {
			value := fmt.Sprint("value ", i)
			version, err := r.Put(t.Context(), "a/b", []byte(value), store.Absent())
			if errors.Is(err, store.ErrConflict) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			winners[value] = version
			return err
		})
		if len(winners) != 1 {
			t.Fatalf("%d winners, want 1", len(winners))
		}
		for value, version := range winners {
			wantRecord(t, r, "a/b", value, version)
		}
	}},
	{"race: no addition is lost", func(t *testing.T, r store.Records) {
		set(t, r, "a/b", "", store.Absent())
		crowd(t, 8, func(i int) error {
			for {
				rec, err := r.Get(t.Context(), "a/b")
				if err != nil {
					return err
				}
				_, err = r.Put(t.Context(), "a/b", append(rec.Data, byte('0'+i)), store.Version(rec.Version))
				if !errors.Is(err, store.ErrConflict) {
					return err
				}
			}
		})
		rec, err := r.Get(t.Context(), "a/b")
		must(t, err)
		for i := range 8 {
			if strings.Count(string(rec.Data), fmt.Sprint(i)) != 1 {
				t.Errorf("%q lacks %d", rec.Data, i)
			}
		}
	}},
	{"race: one of 16 deletes", func(t *testing.T, r store.Records) {
		version := set(t, r, "a/b", "value", store.Absent())
		var mu sync.Mutex
		winners := 0
		crowd(t, 16, func(int) error {
			err := r.Delete(t.Context(), "a/b", store.Version(version))
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			winners++
			return err
		})
		if winners != 1 {
			t.Errorf("%d deleted it, want 1", winners)
		}
	}},
	{"race: writers of different keys", func(t *testing.T, r store.Records) {
		crowd(t, 32, func(i int) error {
			_, err := r.Put(t.Context(), fmt.Sprintf("dir%d/sub/key%d", i%3, i), []byte("value"), store.Absent())
			return err
		})
		if got := list(t, r, "", ""); len(got) != 32 {
			t.Errorf("List has %d keys, want 32", len(got))
		}
	}},
	{"race: siblings come while others go", func(t *testing.T, r store.Records) {
		// Where paths are directories, the last sibling takes its directory along,
		// and another is about to be written into it.
		crowd(t, 16, func(i int) error {
			key := fmt.Sprintf("a/b/c/key%d", i)
			for n := range 10 {
				if _, err := r.Put(t.Context(), key, fmt.Append(nil, n), store.Absent()); err != nil {
					return err
				}
				if _, err := r.Get(t.Context(), key); err != nil {
					return err
				}
				if err := r.Delete(t.Context(), key, store.Always()); err != nil {
					return err
				}
			}
			return nil
		})
		if got := list(t, r, "", ""); len(got) != 0 {
			t.Errorf("List = %v, want none", got)
		}
	}},
	{"race: a reader sees whole values", func(t *testing.T, r store.Records) {
		values := []string{strings.Repeat("a", 10), strings.Repeat("b", 100_000), strings.Repeat("c", 3000)}
		set(t, r, "a", values[0], store.Always())
		stop := make(chan struct{})
		done := make(chan error)
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				rec, err := r.Get(t.Context(), "a")
				if err != nil {
					done <- err
					return
				}
				if v := string(rec.Data); v != values[0] && v != values[1] && v != values[2] {
					done <- fmt.Errorf("read %d bytes that nobody wrote", len(v))
					return
				}
			}
		}()
		for i := range 30 {
			set(t, r, "a", values[i%3], store.Always())
		}
		close(stop)
		must(t, <-done)
	}},
}

// set puts a value and gives its version.
func set(t *testing.T, r store.Records, key, value string, if_ store.Condition) string {
	t.Helper()
	version, err := r.Put(t.Context(), key, []byte(value), if_)
	if err != nil {
		t.Fatalf("Put %s: %v", key, err)
	}
	return version
}

// refused wants that a Put conflicts.
func refused(t *testing.T, r store.Records, key string, if_ store.Condition) {
	t.Helper()
	version, err := r.Put(t.Context(), key, []byte("refused"), if_)
	wantErr(t, err, store.ErrConflict)
	if version != "" {
		t.Errorf("a refused Put gives version %s", version)
	}
}

func wantRecord(t *testing.T, r store.Records, key, value, version string) {
	t.Helper()
	got, err := r.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get %s: %v", key, err)
	}
	wantBytes(t, got.Data, []byte(value))
	if got.Version != version {
		t.Errorf("%s has version %s, want %s", key, got.Version, version)
	}
}

func wantValue(t *testing.T, r store.Records, key, value string) {
	t.Helper()
	got, err := r.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get %s: %v", key, err)
	}
	wantBytes(t, got.Data, []byte(value))
}
