package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/mem"
)

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func status(err error) int {
	if e, ok := errors.AsType[*origin.Error](err); ok {
		return e.HTTPStatus()
	}
	return 0
}

// Every mutation that takes something away is refused, however it is spelled, and
// whether there is something or not.
func TestDeleteOff(t *testing.T) {
	reg := open(t, local.Options{})
	tree := origintest.Image([]byte("{}"), []byte("layer"))
	tree.Push(t, reg, "a", "x")
	repo := origintest.Repo(t, "a")
	nothing := digest.FromString("nothing has this content")
	for name, err := range map[string]error{
		"tag":           reg.DeleteManifest(t.Context(), repo, origintest.Ref(t, "x")),
		"digest":        reg.DeleteManifest(t.Context(), repo, origin.ByDigest(tree.Digest())),
		"blob":          reg.DeleteBlob(t.Context(), repo, tree.Blobs[1].Digest),
		"no such tag":   reg.DeleteManifest(t.Context(), repo, origintest.Ref(t, "y")),
		"no such thing": reg.DeleteManifest(t.Context(), repo, origin.ByDigest(nothing)),
		"no such blob":  reg.DeleteBlob(t.Context(), repo, nothing),
	} {
		wantError(t, "delete "+name, err, origin.ErrUnsupported)
	}
	origintest.CheckManifest(t, reg, "a", "x", tree.Manifest)
	origintest.CheckBlob(t, reg, "a", tree.Blobs[1].Digest, []byte("layer"))
}

func TestImmutableTags(t *testing.T) {
	one, two := origintest.Image([]byte(`{"n":1}`)), origintest.Image([]byte(`{"n":2}`))
	for _, c := range []struct {
		tag       string
		immutable bool
	}{
		{"v1", true},
		{"v12", true}, // the whole tag, also where a shorter alternative comes first
		{"release-1", true},
		{"v0", false},
		{"v1x", false},
		{"xv1", false},
		{"release-1-dev", false},
		{"latest", false},
	} {
		t.Run(c.tag, func(t *testing.T) {
			reg := open(t, local.Options{
				Delete:              true,
				ImmutableTags:       []*regexp.Regexp{regexp.MustCompile(`v|v1|v\d+`), regexp.MustCompile("release-.*")},
				ImmutableTagsExcept: []*regexp.Regexp{regexp.MustCompile("v0"), regexp.MustCompile(".*-dev")},
			})
			repo, tag := origintest.Repo(t, "a"), origintest.Ref(t, c.tag)
			one.Push(t, reg, "a", c.tag)
			one.Push(t, reg, "a", c.tag) // the same again
			origintest.PushBlob(t, reg, "a", two.Blobs[0].Bytes)
			_, err := reg.Push(t.Context(), repo, two.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "also"), tag}})
			if !c.immutable {
				wantError(t, "overwrite", err, nil)
				wantError(t, "delete the tag", reg.DeleteManifest(t.Context(), repo, tag), nil)
				wantError(t, "delete the digest", reg.DeleteManifest(t.Context(), repo, origin.ByDigest(two.Digest())), nil)
				return
			}
			wantError(t, "overwrite", err, origin.ErrDenied)
			if err != nil && !strings.Contains(err.Error(), c.tag) {
				t.Errorf("the error does not name the tag: %v", err)
			}
			for _, ref := range []string{two.Digest().String(), "also"} {
				if _, err := reg.Resolve(t.Context(), repo, origintest.Ref(t, ref)); !origin.Unknown(err) {
					t.Errorf("after the refused push, %s: %v", ref, err)
				}
			}
			wantError(t, "delete the tag", reg.DeleteManifest(t.Context(), repo, tag), origin.ErrDenied)
			wantError(t, "delete the digest", reg.DeleteManifest(t.Context(), repo, origin.ByDigest(one.Digest())), origin.ErrDenied)
			origintest.CheckManifest(t, reg, "a", c.tag, one.Manifest)
			origintest.CheckManifest(t, reg, "a", one.Digest().String(), one.Manifest)
			unknown := reg.DeleteManifest(t.Context(), origintest.Repo(t, "b"), tag)
			wantError(t, "delete the tag where it is not", unknown, origin.ErrManifestUnknown)
		})
	}
}

// What one repository says of its tags, retention is told, too, and other repositories are
// not.
func TestImmutableTagsOfOne(t *testing.T) {
	own := origintest.Repo(t, "own")
	reg := open(t, local.Options{Delete: true, Immutable: func(repo origin.Repo, tag string) bool { return repo == own && tag == "v1" }})
	for _, c := range []struct {
		repo, tag string
		want      bool
	}{{"own", "v1", true}, {"own", "v2", false}, {"other", "v1", false}} {
		if got := reg.Immutable(origintest.Repo(t, c.repo), c.tag); got != c.want {
			t.Errorf("%s:%s: %v", c.repo, c.tag, got)
		}
	}
}

// A tag that came to its manifest later guards it as the first one does.
func TestImmutableTagOfOldManifest(t *testing.T) {
	reg := open(t, local.Options{Delete: true, ImmutableTags: []*regexp.Regexp{regexp.MustCompile("v.*")}})
	tree := origintest.Image([]byte("{}"))
	tree.Push(t, reg, "a")
	origintest.PushManifest(t, reg, "a", tree.Manifest, "v1")
	err := reg.DeleteManifest(t.Context(), origintest.Repo(t, "a"), origin.ByDigest(tree.Digest()))
	wantError(t, "delete", err, origin.ErrDenied)
	origintest.CheckManifest(t, reg, "a", "v1", tree.Manifest)
}

// Of several registries over one store, with memories of their own, one wins an
// immutable tag: the first Put that finds nothing there. The others read what it
// names, and say no.
func TestImmutableTagOneWinner(t *testing.T) {
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	const pushers = 8
	var trees [pushers]origintest.Tree
	var regs [pushers]*local.Registry
	for i := range trees {
		reg, err := local.New(blobs, records, local.Options{ImmutableTags: []*regexp.Regexp{regexp.MustCompile(".*")}})
		if err != nil {
			t.Fatal(err)
		}
		regs[i] = reg
		trees[i] = origintest.Image(fmt.Appendf(nil, `{"n":%d}`, i))
		for _, b := range trees[i].Blobs {
			origintest.PushBlob(t, reg, "a", b.Bytes)
		}
	}
	for round := range 20 {
		tag := fmt.Sprintf("v%d", round)
		var errs [pushers]error
		var wg sync.WaitGroup
		for i := range trees {
			wg.Go(func() {
				_, errs[i] = regs[i/2].Push(t.Context(), origintest.Repo(t, "a"), trees[i].Manifest,
					origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, tag)}})
			})
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Errorf("%s: %d and %d both won", tag, winner, i)
			case err == nil:
				winner = i
			default:
				wantError(t, "a loser", err, origin.ErrDenied)
			}
		}
		if winner < 0 {
			t.Fatalf("%s: nobody won", tag)
		}
		for _, reg := range regs {
			origintest.CheckManifest(t, reg, "a", tag, trees[winner].Manifest)
		}
	}
}

func TestMaxManifestSize(t *testing.T) {
	m := func(n int) origin.Manifest {
		tree := origintest.Image([]byte("{}"))
		b := append(bytes.TrimSuffix(tree.Manifest.Bytes, []byte("}")), bytes.Repeat([]byte(" "), n-len(tree.Manifest.Bytes))...)
		return origintest.NewManifest(tree.Manifest.MediaType, append(b, '}'))
	}
	for most, o := range map[int]local.Options{1000: {MaxManifestSize: 1000}, local.DefaultMaxManifestSize: {}} {
		reg := open(t, o)
		origintest.PushBlob(t, reg, "a", []byte("{}"))
		origintest.PushManifest(t, reg, "a", m(most), "fits")
		for _, sparse := range []bool{false, true} {
			_, err := reg.Push(t.Context(), origintest.Repo(t, "a"), m(most+1), origin.PushOptions{Sparse: sparse})
			wantError(t, "one byte more", err, origin.ErrManifestInvalid)
			if status(err) != http.StatusRequestEntityTooLarge {
				t.Errorf("status %d", status(err))
			}
		}
	}
}

func TestMaxBlobSize(t *testing.T) {
	reg := open(t, local.Options{MaxBlobSize: 10})
	in, err := reg.Upload(t.Context(), origintest.Repo(t, "a"), "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("0123456")); err != nil {
		t.Fatal(err)
	}
	n, err := in.Write([]byte("7890"))
	wantError(t, "one byte more", err, origin.ErrSizeInvalid)
	if n != 0 || in.Size() != 7 || status(err) != http.StatusRequestEntityTooLarge {
		t.Errorf("%d bytes were taken, %d in all, status %d", n, in.Size(), status(err))
	}
	if _, err := in.Write([]byte("789")); err != nil {
		t.Errorf("the tenth byte: %v", err)
	}
	if _, err := in.Commit(t.Context(), digest.FromString("0123456789")); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesNegativeLimits(t *testing.T) {
	for _, o := range []local.Options{{MaxBlobSize: -1}, {MaxManifestSize: -1}, {Grace: -time.Second}} {
		if _, err := local.New(mem.NewBlobs(), mem.NewRecords(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// Options that change hold at once, for an upload that runs too; an invalid one changes
// nothing.
func TestConfigure(t *testing.T) {
	r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{MaxBlobSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.Upload(t.Context(), origintest.Repo(t, "app"), "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 20)); !errors.Is(err, origin.ErrSizeInvalid) {
		t.Errorf("a large blob: %v", err)
	}
	if err := r.Configure(local.Options{MaxBlobSize: -1}); err == nil {
		t.Error("a negative limit is taken")
	}
	if err := r.Configure(local.Options{MaxBlobSize: 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, 20)); err != nil {
		t.Errorf("after the change: %v", err)
	}
	if err := in.Cancel(); err != nil {
		t.Error(err)
	}
}
