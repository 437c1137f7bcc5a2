package client

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzDocker puts into any JSON object and takes out again: all else has the value
// that it had.
func FuzzDocker(f *testing.F) {
	f.Add(`{"a": 1, "registry-mirrors": ["b"]}`)
	f.Add(`{"registry-mirrors":["http://weir.corp:5000"],"insecure-registries":[]}`)
	f.Add("{ \"\\u0061\" : {} , \"b\"\n:\n[1 , 2] }\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := Docker(mirror(t, "http://weir.corp:5000"))
		in, err := file.put([]byte(text))
		if err != nil {
			return
		}
		got := object2map(t, in)
		if list, _ := got["registry-mirrors"].([]any); len(list) == 0 {
			t.Errorf("%q becomes %q", text, in)
		}
		if again, err := file.put(in); err != nil || !bytes.Equal(again, in) {
			t.Errorf("put twice gives %v, %q", err, again)
		}
		out, err := file.take(in)
		if err != nil {
			t.Fatal(err)
		}
		was, is := object2map(t, []byte(text)), object2map(t, out)
		for _, m := range []map[string]any{was, is} {
			delete(m, "registry-mirrors")
			delete(m, "insecure-registries")
		}
		if !reflect.DeepEqual(was, is) {
			t.Errorf("%q leaves %q", text, out)
		}
	})
}

func object2map(t *testing.T, text []byte) map[string]any {
	t.Helper()
	m := map[string]any{}
	if len(bytes.TrimSpace(text)) == 0 {
		return m
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return m
}

// FuzzTOML puts into any text and takes out again: every line is where it was.
func FuzzTOML(f *testing.F) {
	f.Add("[[registry]]\nprefix = \"docker.io\"\n[[registry.mirror]]\nlocation = 'x'\n")
	f.Add("server = \"a\"\n\n# c\n[host.\"b\"]\n")
	f.Add(begin + "a = 1\n" + end + "b = 2")
	f.Fuzz(func(t *testing.T, text string) {
		m := mirror(t, "http://weir.corp:5000")
		for _, file := range []File{Podman(m, []string{"docker.io", "a.io"}), Containerd(m, Version{}, "a.io")} {
			in, err := file.put([]byte(text))
			if err != nil {
				continue
			}
			if again, err := file.put(in); err != nil || !bytes.Equal(again, in) {
				t.Errorf("put twice gives %v, %q", err, again)
			}
			out, err := file.take(in)
			if err != nil {
				t.Fatal(err)
			}
			was, err := withoutBlocks(text)
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSuffix(string(out), "\n") != strings.TrimSuffix(was, "\n") {
				t.Errorf("%q leaves %q", text, out)
			}
		}
	})
}
