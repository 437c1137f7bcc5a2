package origin_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

const (
	ociManifest    = origin.MediaTypeOCIManifest
	ociIndex       = origin.MediaTypeOCIIndex
	dockerManifest = origin.MediaTypeDockerManifest
	dockerList     = origin.MediaTypeDockerList
)

// desc is a descriptor: its members as JSON, D standing for a digest.
func desc(more string) string {
	return `{"mediaType":"application/x","digest":"sha256:` + hex256 + `","size":2` + more + `}`
}

// img is an OCI image with further members.
func img(more string) string {
	return `{"schemaVersion":2,"config":` + desc("") + `,"layers":[` + desc("") + `]` + more + `}`
}

// idx is an OCI index with further members.
func idx(more string) string { return `{"schemaVersion":2,"manifests":[` + desc("") + `]` + more + `}` }

func TestCheckManifest(t *testing.T) {
	hello := digest.FromString("hello")
	data := func(content string, size int) string {
		return fmt.Sprintf(`{"mediaType":"application/x","digest":%q,"size":%d,"data":%q}`, hello, size, base64.StdEncoding.EncodeToString([]byte(content)))
	}
	good := []struct{ mediaType, body string }{
		{ociManifest, img("")},
		{ociManifest, img(`,"mediaType":"` + ociManifest + `"`)},
		{ociManifest, img(`,"artifactType":"application/x","annotations":{"a":"1","A":"2"}`)},
		{ociManifest, img(`,"subject":` + desc(""))},
		{ociManifest, img(`,"Custom":"field","custom2":{"Size":1,"size":2,"DIGEST":"x"}`)},
		{ociManifest, `{"schemaVersion":2,"config":` + desc(`,"urls":["https://x.invalid"]`) + `,"layers":null}`},
		{ociManifest, `{"schemaVersion":2,"config":` + desc("") + `}`},
		{ociManifest, "\n " + img("") + " \r\n"},
		{ociManifest, `{"schemaVersion":2,"layers":[],"config":` + data("hello", 5) + `}`},
		{ociManifest, `{"schemaVersion":2,"config":` + desc("") + `,"layers":[{"digest":"sha512:` + hex512 + `","size":0}]}`},
		{ociIndex, idx("")},
		{ociIndex, idx(`,"mediaType":"` + ociIndex + `","artifactType":"application/x","subject":` + desc(""))},
		{ociIndex, `{"schemaVersion":2,"manifests":[]}`},
		{ociIndex, `{"schemaVersion":2,"manifests":[` + desc(`,"platform":{"os":"linux","architecture":"arm64","os.version":"1"}`) + `]}`},
		{dockerManifest, img(`,"mediaType":"` + dockerManifest + `"`)},
		{dockerList, idx(`,"mediaType":"` + dockerList + `"`)},
	}
	for _, c := range good {
		if _, err := origin.CheckManifest(c.mediaType, []byte(c.body)); err != nil {
			t.Errorf("%s: %v", c.body, err)
		}
	}
	for _, c := range []struct{ why, mediaType, body string }{
		// Image or index: GHSA-qq97-vm5h-rrhg, CVE-2021-41190.
		{"an image and an index", ociManifest, img(`,"manifests":[]`)},
		{"an index and an image", ociIndex, idx(`,"layers":[]`)},
		{"an index with a config", ociIndex, idx(`,"config":` + desc(""))},
		{"another type inside: index", ociManifest, img(`,"mediaType":"` + ociIndex + `"`)},
		{"another type inside: Docker's", ociManifest, img(`,"mediaType":"` + dockerManifest + `"`)},
		{"another type inside: nearly", ociManifest, img(`,"mediaType":"` + strings.ToUpper(ociManifest) + `"`)},
		{"an index as an image", ociManifest, idx("")},
		{"an image as an index", ociIndex, img("")},
		{"Docker's without a type", dockerManifest, img("")},
		{"Docker's list without a type", dockerList, idx("")},
		{"no type of a manifest", "application/json", img("")},
		{"no type", "", img("")},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+json", img("")},
		// Two readers, two keys.
		{"a key twice", ociManifest, img(`,"layers":[]`)},
		{"a key in two cases", ociManifest, img(`,"Layers":[]`)},
		{"a key in another case only", ociManifest, `{"schemaVersion":2,"Config":` + desc("") + `}`},
		{"a key in another script", ociManifest, img(`,"ſubject":` + desc(""))},
		{"a key in escapes", ociManifest, img(`,"l\u0061yers":[]`)},
		{"an unknown key twice", ociManifest, img(`,"x":1,"x":2`)},
		{"an unknown key in two cases", ociManifest, img(`,"x":1,"X":2`)},
		{"a digest twice", ociManifest, `{"schemaVersion":2,"config":` + desc(`,"digest":"sha256:`+hex256+`"`) + `}`},
		{"a size in another case", ociManifest, `{"schemaVersion":2,"config":` + desc(`,"Size":3`) + `}`},
		{"a platform in another case", ociIndex, `{"schemaVersion":2,"manifests":[` + desc(`,"platform":{"OS":"linux"}`) + `]}`},
		{"an annotation twice", ociManifest, img(`,"annotations":{"a":"1","a":"2"}`)},
		{"a key twice, deep down", ociManifest, img(`,"x":[{"y":{"z":1,"z":2}}]`)},
		{"no UTF-8", ociManifest, img(`,"annotations":{"a":"` + "\xff" + `"}`)},
		{"other data", ociManifest, `{"schemaVersion":2,"config":` + data("hullo", 5) + `}`},
		{"data of another size", ociManifest, `{"schemaVersion":2,"config":` + data("hello", 6) + `}`},
		// Descriptors.
		{"a negative size", ociManifest, strings.Replace(img(""), `"size":2`, `"size":-1`, 1)},
		{"a size of 2^63", ociManifest, strings.Replace(img(""), `"size":2`, `"size":9223372036854775808`, 1)},
		{"a size that is no integer", ociManifest, strings.Replace(img(""), `"size":2`, `"size":2.5`, 1)},
		{"a size with an exponent", ociManifest, strings.Replace(img(""), `"size":2`, `"size":2e0`, 1)},
		{"a size as text", ociManifest, strings.Replace(img(""), `"size":2`, `"size":"2"`, 1)},
		{"no digest", ociManifest, `{"schemaVersion":2,"config":{"size":2}}`},
		{"a digest that is a path", ociManifest, strings.Replace(img(""), hex256, "../"+hex256[3:], 1)},
		{"a digest in upper case", ociManifest, strings.Replace(img(""), hex256, strings.ToUpper(hex256), 1)},
		{"a weak digest", ociManifest, strings.Replace(img(""), "sha256:"+hex256, "md5:"+hex256[:32], 1)},
		{"a null layer", ociManifest, `{"schemaVersion":2,"config":` + desc("") + `,"layers":[null]}`},
		{"a bad subject", ociManifest, img(`,"subject":{"digest":"x"}`)},
		{"a media type with a line break", ociManifest, strings.Replace(img(""), "application/x", `a/b\r\nc`, 1)},
		{"a media type without a slash", ociManifest, strings.Replace(img(""), "application/x", "x", 1)},
		{"an artifact type without a slash", ociManifest, img(`,"artifactType":"x"`)},
		{"a long artifact type", ociManifest, img(`,"artifactType":"a/` + strings.Repeat("x", 254) + `"`)},
		// JSON.
		{"schema 1 inside", ociManifest, strings.Replace(img(""), ":2,", ":1,", 1)},
		{"no schema", ociManifest, strings.Replace(img(""), `"schemaVersion":2,`, "", 1)},
		{"no config", ociManifest, `{"schemaVersion":2,"layers":[]}`},
		{"a null config", ociManifest, `{"schemaVersion":2,"config":null}`},
		{"a list for an object", ociManifest, `{"schemaVersion":2,"config":[]}`},
		{"an object for a list", ociManifest, `{"schemaVersion":2,"config":` + desc("") + `,"layers":{}}`},
		{"nothing", ociManifest, ""},
		{"null", ociManifest, "null"},
		{"a list", ociManifest, "[" + img("") + "]"},
		{"cut", ociManifest, img("")[:len(img(""))-1]},
		{"two documents", ociManifest, img("") + img("")},
		{"more behind it", ociManifest, img("") + "x"},
		{"a byte order mark", ociManifest, "\ufeff" + img("")},
		{"a comma too many", ociManifest, img(",")},
		{"a comment", ociManifest, img("/* x */")},
		{"NaN", ociManifest, img(`,"x":NaN`)},
	} {
		got, err := origin.CheckManifest(c.mediaType, []byte(c.body))
		if !errors.Is(err, origin.ErrManifestInvalid) {
			t.Errorf("%s: %v, error %v", c.why, got, err)
			continue
		}
		if e, _ := errors.AsType[*origin.Error](err); len(e.Message) > 300 || strings.Contains(e.Message, "Go ") {
			t.Errorf("%s: %s", c.why, e.Message)
		}
	}
}

// hungry are documents of 2 MiB that ask for much more: by depth, number or length.
func hungry() map[string]string {
	const most = 2 << 20
	fill := func(before, one, between, after string) string {
		n := (most - len(before) - len(after)) / (len(one) + len(between))
		return before + strings.TrimSuffix(strings.Repeat(one+between, n), between) + after
	}
	var keys strings.Builder
	for i := 0; keys.Len() < most-100; i++ {
		fmt.Fprintf(&keys, `,"%x":1`, i)
	}
	return map[string]string{
		"deep lists":        img(`,"x":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20)),
		"deep objects":      strings.Repeat(`{"x":`, 1<<19) + "1" + strings.Repeat("}", 1<<19),
		"deep, never ended": strings.Repeat(`{"layers":[`, 1<<18),
		"empty layers":      fill(`{"schemaVersion":2,"config":`+desc("")+`,"layers":[`, "{}", ",", "]}"),
		"null layers":       fill(`{"schemaVersion":2,"config":`+desc("")+`,"layers":[`, "null", ",", "]}"),
		"numbers as layers": fill(`{"schemaVersion":2,"config":`+desc("")+`,"layers":[`, "0", ",", "]}"),
		"real layers":       fill(`{"schemaVersion":2,"config":`+desc("")+`,"layers":[`, desc(""), ",", "]}"),
		"manifests":         fill(`{"schemaVersion":2,"manifests":[`, "{}", ",", "]}"),
		"urls":              fill(`{"schemaVersion":2,"config":`+desc(`,"urls":[`)[:len(desc(`,"urls":[`))-1], `""`, ",", "]}}"),
		"keys":              `{"schemaVersion":2` + keys.String() + "}",
		"annotations":       `{"schemaVersion":2,"annotations":{"a":1` + keys.String() + "}}",
		"a long key":        `{"` + strings.Repeat("k", most-10) + `":1}`,
		"a long number":     img(`,"x":` + strings.Repeat("9", most-1000)),
		"a long size":       strings.Replace(img(""), `"size":2`, `"size":`+strings.Repeat("9", most-1000), 1),
		"a long digest":     strings.Replace(img(""), hex256, strings.Repeat("0", most-1000), 1),
		"a long type":       img(`,"mediaType":"` + strings.Repeat("a", most-1000) + `"`),
	}
}

// Whatever a document of an allowed size asks for, refusing it costs no more than
// a few times its own bytes, and says little.
func TestManifestLimits(t *testing.T) {
	for name, body := range hungry() {
		b := []byte(body)
		mediaType := ociManifest
		if name == "manifests" {
			mediaType = ociIndex
		}
		for _, strict := range []bool{true, false} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			read := origin.ReadManifest
			if strict {
				read = origin.CheckManifest
			}
			_, err := read(mediaType, b)
			runtime.ReadMemStats(&after)
			if strict && !errors.Is(err, origin.ErrManifestInvalid) && name != "a long number" {
				t.Errorf("%s: %v", name, err)
			}
			if e, ok := errors.AsType[*origin.Error](err); ok && len(e.Message) > 300 {
				t.Errorf("%s: a message of %d bytes", name, len(e.Message))
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 48<<20 {
				t.Errorf("%s, strictly %v: %d MiB were allocated in all", name, strict, n>>20)
			}
		}
	}
}

// Sizes that a manifest only claims do not add up to less than nothing.
func TestAddSizes(t *testing.T) {
	for _, x := range [][3]int64{{1, 2, 3}, {math.MaxInt64, 0, math.MaxInt64}, {math.MaxInt64 - 1, 2, math.MaxInt64}, {math.MaxInt64, math.MaxInt64, math.MaxInt64}} {
		if got := origin.AddSizes(x[0], x[1]); got != x[2] {
			t.Errorf("%d and %d: %d", x[0], x[1], got)
		}
	}
}
