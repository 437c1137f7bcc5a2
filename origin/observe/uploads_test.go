package observe_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/store/mem"
)

// An upload is known from its first byte to its end, however it ends; one that nobody
// goes on with until it expires.
func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var known observe.OpenUploads
		watch := func() *observe.Uploads {
			return observe.NewUploads(&known, r, func(_ context.Context, repo origin.Repo) (origin.Repo, error) { return repo.Under("full") }, time.Hour)
		}
		u := watch()
		repo, err := origin.ParseRepo("app")
		if err != nil {
			t.Fatal(err)
		}
		open := func() string {
			var text strings.Builder
			for _, one := range u.Open() {
				text.WriteString(fmt.Sprintf("%s %d %s;", one.Repo, one.Size, one.Updated.Sub(one.Begun)))
			}
			return text.String()
		}
		expect := func(what, want string) {
			t.Helper()
			if got := open(); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		begin := func() (id string) {
			t.Helper()
			in, err := u.Upload(t.Context(), repo, "", digest.SHA256)
			if err == nil {
				_, err = in.Write([]byte("some"))
			}
			if err == nil {
				err = in.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			return in.ID()
		}
		expect("before", "")
		id := begin()
		expect("begun", "full/app 4 0s;")
		time.Sleep(time.Minute)
		u = watch() // another configuration has one of its own
		expect("watched by another", "full/app 4 0s;")
		in, err := u.Upload(t.Context(), repo, id, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte("more")); err != nil {
			t.Fatal(err)
		}
		expect("resumed", "full/app 8 1m0s;")
		if _, err := in.Commit(t.Context(), digest.FromString("somemore")); err != nil {
			t.Fatal(err)
		}
		expect("committed", "")

		in, err = u.Upload(t.Context(), repo, begin(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Commit(t.Context(), digest.FromString("other")); err == nil {
			t.Error("a wrong digest was taken")
		}
		expect("refused", "")

		in, err = u.Upload(t.Context(), repo, begin(), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Cancel(); err != nil {
			t.Fatal(err)
		}
		expect("cancelled", "")

		begin()
		time.Sleep(time.Hour)
		expect("about to expire", "full/app 4 0s;")
		time.Sleep(time.Second)
		expect("expired", "")
	})
}
