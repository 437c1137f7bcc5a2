package serve_test

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
)

const (
	sha256Hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sha256A   = digest.Digest("sha256:" + sha256Hex)
	uploadID  = "0123456789abcdef0123456789abcdef"
)

var sha512A = digest.SHA512.FromString("")

func repo(t testing.TB, s string) origin.Repo {
	t.Helper()
	r, err := origin.ParseRepo(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ref(t testing.TB, s string) origin.Ref {
	t.Helper()
	r, err := origin.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// parse parses a request target as a server is given it.
func parse(t testing.TB, method, target string) (serve.Call, error) {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	return serve.Parse(method, u)
}

func TestParse(t *testing.T) {
	app := repo(t, "team/app")
	page := origin.Page{N: 1000}
	for _, c := range []struct {
		method, target string
		want           serve.Call
	}{
		{"GET", "/v2", serve.Call{Kind: serve.KindBase}},
		{"GET", "/v2/", serve.Call{Kind: serve.KindBase}},
		{"GET", "/docker.io/v2/", serve.Call{Kind: serve.KindBase, Prefix: "docker.io"}},
		{"GET", "/docker.io/v2", serve.Call{Kind: serve.KindBase, Prefix: "docker.io"}},
		{"GET", "/v2/_catalog", serve.Call{Kind: serve.KindCatalog, Page: page}},
		{"GET", "/v2/_catalog?n=5&last=team/app", serve.Call{Kind: serve.KindCatalog, Page: origin.Page{After: "team/app", N: 5}}},
		{"GET", "/v2/_ext/explain?image=a%2fb", serve.Call{Kind: serve.KindExtension, Extension: "explain", Query: url.Values{"image": {"a/b"}}}},
		{"GET", "/v2/_ext/openapi.json", serve.Call{Kind: serve.KindExtension, Extension: "openapi.json"}},
		{"GET", "/v2/team/app/tags/list", serve.Call{Kind: serve.KindTags, Repo: app, Page: page}},
		{"GET", "/v2/team/app/tags/list?n=0", serve.Call{Kind: serve.KindTags, Repo: app}},
		{"GET", "/v2/team/app/tags/list?n=99999999999999999999999", serve.Call{Kind: serve.KindTags, Repo: app, Page: page}},
		{"GET", "/v2/team/app/tags/list?n=2&last=V1.0", serve.Call{Kind: serve.KindTags, Repo: app, Page: origin.Page{After: "V1.0", N: 2}}},
		{"GET", "/v2/team/app/manifests/latest", serve.Call{Kind: serve.KindManifest, Repo: app, Ref: ref(t, "latest")}},
		{"GET", "/v2/team/app/manifests/latest?ns=docker.io", serve.Call{Kind: serve.KindManifest, Repo: app, Ref: ref(t, "latest"), Namespace: "docker.io"}},
		{"GET", "/v2/team/app/manifests/latest?ns=localhost:5000", serve.Call{Kind: serve.KindManifest, Repo: app, Ref: ref(t, "latest"), Namespace: "localhost:5000"}},
		{"GET", "/v2/team/app/manifests/latest?ns=%5B::1%5D:5000", serve.Call{Kind: serve.KindManifest, Repo: app, Ref: ref(t, "latest"), Namespace: "[::1]:5000"}},
		{"GET", "/v2/team/app/manifests/latest?ns=", serve.Call{Kind: serve.KindManifest, Repo: app, Ref: ref(t, "latest")}},
		{"GET", "/v2/team/app/manifests/latest?tag=..", serve.Call{Kind: serve.KindManifest, Repo: app, Ref: ref(t, "latest")}},
		{"GET", "/registry.corp_5000/v2/team/app/manifests/latest", serve.Call{Kind: serve.KindManifest, Prefix: "registry.corp_5000", Repo: app, Ref: ref(t, "latest")}},
		{"GET", "/v2/team/app/manifests/" + string(sha256A), serve.Call{Kind: serve.KindManifest, Repo: app, Ref: origin.ByDigest(sha256A)}},
		{"PUT", "/v2/team/app/manifests/" + string(sha256A) + "?tag=a&tag=b", serve.Call{Kind: serve.KindManifest, Repo: app, Ref: origin.ByDigest(sha256A), Tags: []origin.Ref{ref(t, "a"), ref(t, "b")}}},
		{"GET", "/v2/team/app/blobs/" + string(sha512A), serve.Call{Kind: serve.KindBlob, Repo: app, Digest: sha512A}},
		{"GET", "/v2/team/app/referrers/" + string(sha256A) + "?artifactType=a/b%2Bc", serve.Call{Kind: serve.KindReferrers, Repo: app, Digest: sha256A, Page: page, ArtifactType: "a/b+c"}},
		{"POST", "/v2/team/app/blobs/uploads/", serve.Call{Kind: serve.KindUploads, Repo: app, Algorithm: digest.SHA256}},
		{"POST", "/v2/team/app/blobs/uploads", serve.Call{Kind: serve.KindUploads, Repo: app, Algorithm: digest.SHA256}},
		{"POST", "/v2/team/app/blobs/uploads/?digest-algorithm=sha512", serve.Call{Kind: serve.KindUploads, Repo: app, Algorithm: digest.SHA512}},
		{"POST", "/v2/team/app/blobs/uploads/?digest=" + string(sha512A), serve.Call{Kind: serve.KindUploads, Repo: app, Digest: sha512A, Algorithm: digest.SHA512}},
		{"POST", "/v2/team/app/blobs/uploads/?mount=" + string(sha512A) + "&from=other/app", serve.Call{Kind: serve.KindUploads, Repo: app, Mount: sha512A, From: repo(t, "other/app"), Algorithm: digest.SHA512}},
		{"POST", "/v2/team/app/blobs/uploads/?mount=" + string(sha256A), serve.Call{Kind: serve.KindUploads, Repo: app, Mount: sha256A, Algorithm: digest.SHA256}},
		{"PATCH", "/v2/team/app/blobs/uploads/" + uploadID, serve.Call{Kind: serve.KindUpload, Repo: app, ID: uploadID}},
		{"PUT", "/v2/team/app/blobs/uploads/" + uploadID + "?digest=" + string(sha256A), serve.Call{Kind: serve.KindUpload, Repo: app, ID: uploadID, Digest: sha256A}},

		// The words of the API are names too.
		{"GET", "/v2/v2/manifests/manifests", serve.Call{Kind: serve.KindManifest, Repo: repo(t, "v2"), Ref: ref(t, "manifests")}},
		{"GET", "/v2/x/tags/list/manifests/list", serve.Call{Kind: serve.KindManifest, Repo: repo(t, "x/tags/list"), Ref: ref(t, "list")}},
		{"GET", "/v2/x/manifests/tags/list", serve.Call{Kind: serve.KindTags, Repo: repo(t, "x/manifests"), Page: page}},
		{"GET", "/v2/x/blobs/uploads/manifests/uploads", serve.Call{Kind: serve.KindManifest, Repo: repo(t, "x/blobs/uploads"), Ref: ref(t, "uploads")}},
		{"POST", "/v2/blobs/uploads/blobs/uploads/", serve.Call{Kind: serve.KindUploads, Repo: repo(t, "blobs/uploads"), Algorithm: digest.SHA256}},
		{"GET", "/v2/v2/v2/tags/list", serve.Call{Kind: serve.KindTags, Repo: repo(t, "v2/v2"), Page: page}},
	} {
		got, err := parse(t, c.method, c.target)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s:\n got %+v, %v\nwant %+v", c.method, c.target, got, err, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("a", 256)
	for _, c := range []struct {
		method, target string
		kind           serve.Kind // as much as was understood
		want           *origin.Error
		status         int
	}{
		{"GET", "/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/v3/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/v2x", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "//v2/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/a/b/v2/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/../v2/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/-/v2/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/v2//", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/v2/app", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/v2/_catalog/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/docker.io/v2/_catalog", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/docker.io/v2/_ext/explain", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/v2/_ext/", serve.KindExtension, origin.ErrUnsupported, 404},
		{"GET", "/v2/_ext/../explain", serve.KindExtension, origin.ErrUnsupported, 404},
		{"GET", "/v2/app/tags/list/", serve.KindNone, origin.ErrUnsupported, 404},
		{"GET", "/v2/%61pp/tags/list", serve.KindNone, origin.ErrNameInvalid, 400},
		{"GET", "/v2/app%2f..%2f..%2fetc/tags/list", serve.KindNone, origin.ErrNameInvalid, 400},
		{"GET", "/v2/app/manifests/a%00", serve.KindNone, origin.ErrNameInvalid, 400},
		{"GET", `/v2/app\x/manifests/a`, serve.KindNone, origin.ErrNameInvalid, 400},
		{"GET", "/v2/App/manifests/a", serve.KindManifest, origin.ErrNameInvalid, 400},
		{"GET", "/v2//app/manifests/a", serve.KindManifest, origin.ErrNameInvalid, 400},
		{"GET", "/v2/app//manifests/a", serve.KindManifest, origin.ErrNameInvalid, 400},
		{"GET", "/v2/../app/manifests/a", serve.KindManifest, origin.ErrNameInvalid, 400},
		{"GET", "/v2/app/./manifests/a", serve.KindManifest, origin.ErrNameInvalid, 400},
		{"GET", "/v2/manifests/a", serve.KindManifest, origin.ErrNameInvalid, 400},
		{"GET", "/v2/" + long + "/manifests/a", serve.KindManifest, origin.ErrNameInvalid, 400},
		{"GET", "/v2/app/manifests/", serve.KindManifest, origin.ErrTagInvalid, 400},
		{"GET", "/v2/app/manifests/..", serve.KindManifest, origin.ErrTagInvalid, 400},
		{"GET", "/v2/app/manifests/" + long, serve.KindManifest, origin.ErrTagInvalid, 400},
		{"GET", "/v2/app/manifests/sha256:baddigeststring", serve.KindManifest, origin.ErrDigestInvalid, 400},
		{"GET", "/v2/app/blobs/latest", serve.KindBlob, origin.ErrDigestInvalid, 400},
		{"GET", "/v2/app/blobs/sha256:" + strings.ToUpper(sha256Hex), serve.KindBlob, origin.ErrDigestInvalid, 400},
		{"GET", "/v2/app/referrers/latest", serve.KindReferrers, origin.ErrDigestInvalid, 400},
		{"GET", "/v2/app/blobs/uploads/..", serve.KindUpload, origin.ErrUploadUnknown, 404},
		{"GET", "/v2/app/blobs/uploads/a.b", serve.KindUpload, origin.ErrUploadUnknown, 404},
		{"GET", "/v2/app/blobs/uploads/" + long, serve.KindUpload, origin.ErrUploadUnknown, 404},
		{"GET", "/v2/app/tags/list?n=-1", serve.KindTags, origin.ErrUnsupported, 400},
		{"GET", "/v2/app/tags/list?n=1.5", serve.KindTags, origin.ErrUnsupported, 400},
		{"GET", "/v2/app/tags/list?n=1&n=2", serve.KindTags, origin.ErrUnsupported, 400},
		{"GET", "/v2/app/tags/list?last=../x", serve.KindTags, origin.ErrTagInvalid, 400},
		{"GET", "/v2/_catalog?last=../x", serve.KindCatalog, origin.ErrNameInvalid, 400},
		{"GET", "/v2/app/referrers/" + string(sha256A) + "?last=a", serve.KindReferrers, origin.ErrDigestInvalid, 400},
		{"GET", "/v2/app/referrers/" + string(sha256A) + "?artifactType=" + long, serve.KindReferrers, origin.ErrUnsupported, 400},
		{"GET", "/v2/app/tags/list?%zz", serve.KindTags, origin.ErrUnsupported, 400},
		{"GET", "/v2/app/tags/list?ns=a/b", serve.KindTags, origin.ErrNameInvalid, 400},
		{"GET", "/v2/app/tags/list?ns=a&ns=b", serve.KindTags, origin.ErrUnsupported, 400},
		{"POST", "/v2/app/blobs/uploads/?digest=sha256:1", serve.KindUploads, origin.ErrDigestInvalid, 400},
		{"POST", "/v2/app/blobs/uploads/?mount=x", serve.KindUploads, origin.ErrDigestInvalid, 400},
		{"POST", "/v2/app/blobs/uploads/?mount=" + string(sha256A) + "&from=../x", serve.KindUploads, origin.ErrNameInvalid, 400},
		{"POST", "/v2/app/blobs/uploads/?digest-algorithm=md5", serve.KindUploads, origin.ErrDigestInvalid, 400},
		{"PUT", "/v2/app/blobs/uploads/" + uploadID, serve.KindUpload, origin.ErrDigestInvalid, 400},
		{"PUT", "/v2/app/manifests/" + string(sha256A) + "?tag=" + strings.Repeat("&tag=a", 100), serve.KindManifest, origin.ErrUnsupported, 414},
		{"PUT", "/v2/app/manifests/" + string(sha256A) + "?tag=..", serve.KindManifest, origin.ErrTagInvalid, 400},
	} {
		got, err := parse(t, c.method, c.target)
		e, ok := errors.AsType[*origin.Error](err)
		if !ok || !errors.Is(err, c.want) || e.HTTPStatus() != c.status || got.Kind != c.kind {
			t.Errorf("%s %.80s: kind %d, %v; want kind %d, %v with status %d", c.method, c.target, got.Kind, err, c.kind, c.want, c.status)
		}
	}
}

// FuzzParse: whatever is sent, what comes out is valid, in range and stable.
func FuzzParse(f *testing.F) {
	for _, target := range []string{
		"/v2/", "/v2/_catalog?n=5&last=a", "/docker.io/v2/library/nginx/manifests/1.27", "/v2/a/b/blobs/" + string(sha256A),
		"/v2/a/blobs/uploads/?mount=" + string(sha256A) + "&from=b", "/v2/a/blobs/uploads/" + uploadID + "?digest=" + string(sha512A),
		"/v2/a/referrers/" + string(sha256A) + "?artifactType=x/y", "/v2/a%2f..%2f/tags/list", "/v2/a//manifests/..", "/v2/a/tags/list?n=00000000000001001",
		"/v2/_ext/explain?image=x", "/v2/a/manifests/x?ns=docker.io&tag=v1", `/v2/a\b/manifests/x`, "*", "/v2/\x00/manifests/x",
	} {
		f.Add("GET", target)
		f.Add("PUT", target)
		f.Add("POST", target)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		c, err := serve.Parse(method, u)
		if err != nil {
			e, ok := errors.AsType[*origin.Error](err)
			if !ok || e.HTTPStatus() < 400 || e.HTTPStatus() > 414 {
				t.Fatalf("%q: %v", target, err)
			}
			return
		}
		again, err := serve.Parse(method, u)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%q: %+v, then %+v, %v", target, c, again, err)
		}
		path := u.EscapedPath()
		if strings.ContainsAny(path, `%\`) || strings.Contains(path, "/../") || strings.Contains(path, "//") {
			t.Fatalf("%q passes", target)
		}
		if c.Kind == serve.KindNone || c.Page.N < 0 || c.Page.N > 1000 {
			t.Fatalf("%q: %+v", target, c)
		}
		named := c.Kind != serve.KindBase && c.Kind != serve.KindCatalog && c.Kind != serve.KindExtension
		if named == c.Repo.IsZero() {
			t.Fatalf("%q: repository %q", target, c.Repo)
		}
		if method == http.MethodPut && c.Kind == serve.KindUpload && c.Digest == "" {
			t.Fatalf("%q: no digest", target)
		}
	})
}
