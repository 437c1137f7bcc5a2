package serve

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func FuzzAppendDescriptor(f *testing.F) {
	f.Add("application/x", "sha256:ab", int64(3), "k", "v", "k2", "v2", "application/sbom", "", "")
	f.Add("a\"b", "sha256:ab", int64(-3), "<&>", "é\u2028", "", "\x00\xff", "\\", "http://x", "data")
	f.Fuzz(func(t *testing.T, mediaType, dgst string, size int64, k1, v1_, k2, v2, artifactType, url, data string) {
		d := v1.Descriptor{
			MediaType: mediaType, Digest: digest.Digest(dgst), Size: size, ArtifactType: artifactType,
			Annotations: map[string]string{k1: v1_, k2: v2},
		}
		if k1 == "" {
			d.Annotations = nil
		}
		if url != "" {
			d.URLs = []string{url}
		}
		if data != "" {
			d.Data, d.Platform = []byte(data), &v1.Platform{OS: data}
		}
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendDescriptor([]byte("["), d)
		if err != nil || string(got) != "["+string(want) {
			t.Errorf("%s, %v; want [%s", got, err, want)
		}
	})
}
