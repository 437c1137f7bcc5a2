package importer

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// FuzzLink: what a link is read as is a digest that can be a path, and is what it says.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{
		"", "sha256:", "sha256:" + string(bytes.Repeat([]byte("a"), 64)), "sha512:" + string(bytes.Repeat([]byte("0"), 128)) + "\n",
		"sha256:../../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseLink(b)
		if err != nil {
			return
		}
		if _, err := origin.ParseDigest(d.String()); err != nil || !bytes.Contains(b, []byte(d)) {
			t.Errorf("%q is read as %q", b, d)
		}
	})
}

// FuzzIndex: whatever is read as an index can be written again with one entry more, and
// what was in it is.
func FuzzIndex(f *testing.F) {
	for _, seed := range []string{
		`{"schemaVersion":2}`, `{"schemaVersion":2,"manifests":null}`, `null`, `{"schemaVersion":2,"manifests":[{}]}`,
		`{"schemaVersion":2,"mediaType":"x","manifests":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","annotations":{"a":"b"},"x":1}],"y":[1,{}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseIndex(b)
		if err != nil {
			return
		}
		if len(x.raw) != len(x.entries) {
			t.Fatalf("%d entries of %d", len(x.entries), len(x.raw))
		}
		added := v1.Descriptor{Digest: digest.FromString("new"), Annotations: map[string]string{annotationName: "new/one:v1"}}
		for _, e := range x.entries {
			if e.Annotations[annotationName] == added.Annotations[annotationName] {
				return
			}
		}
		_, text, err := x.with([]v1.Descriptor{added})
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseIndex(text)
		if err != nil || len(again.entries) != len(x.entries)+1 {
			t.Fatalf("%s is read again as %d entries, %v", text, len(again.entries), err)
		}
		for i := range x.entries {
			if x.entries[i].Digest != again.entries[i].Digest {
				t.Errorf("entry %d was %s and is %s", i, x.entries[i].Digest, again.entries[i].Digest)
			}
		}
		for name, value := range x.members {
			var was, is any
			if json.Unmarshal(value, &was) == nil && json.Unmarshal(again.members[name], &is) != nil {
				t.Errorf("member %q was %s and is %s", name, value, again.members[name])
			}
		}
	})
}
