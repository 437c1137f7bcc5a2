package client

import (
	"bytes"
	"strings"
	"testing"
)

func mirror(t testing.TB, url string) Mirror {
	t.Helper()
	var m Mirror
	if err := m.URL.UnmarshalText([]byte(url)); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestContainerd(t *testing.T) {
	const host = "[host.\"http://127.0.0.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
	for _, test := range []struct {
		name, upstream, before, after string
	}{
		{"new", "docker.io", "", begin + "server = \"https://registry-1.docker.io\"\n\n" + host + end},
		{"new, with a port", "registry.corp:5000", "", begin + "server = \"https://registry.corp:5000\"\n\n" + host + end},
		{"default", "", "", begin + host + end},
		{
			"before other hosts, with their comments", "ghcr.io",
			"# ours\nserver = \"https://cache.corp\"\n\n# slow\n# but sure\n[host.\"https://b\"]\n  ca = [\n    [\"a\"],\n  ]\n",
			"# ours\nserver = \"https://cache.corp\"\n\n" + begin + host + end + "# slow\n# but sure\n[host.\"https://b\"]\n  ca = [\n    [\"a\"],\n  ]\n",
		},
		{
			"no server", "ghcr.io",
			"ca = \"/etc/ca.pem\"\n[host.\"https://b\"]\n",
			"ca = \"/etc/ca.pem\"\n" + begin + "server = \"https://ghcr.io\"\n\n" + host + end + "[host.\"https://b\"]\n",
		},
		{"no line end", "ghcr.io", "server = \"https://b\"", "server = \"https://b\"\n" + begin + host + end},
		{
			"another mirror before", "ghcr.io",
			begin + "[host.\"http://old\"]\n" + end + "server = \"https://b\"\n",
			"server = \"https://b\"\n" + begin + host + end,
		},
	} {
		f := Containerd(mirror(t, "http://127.0.0.1:5000/"), Version{}, test.upstream)
		checkPut(t, test.name, f, test.before, test.after)
	}
	for before, want := range map[string]string{
		"[host.\"http://127.0.0.1:5000/\"]\n": `it has [host."http://127.0.0.1:5000/"] already, and not from here: take that out first`,
		begin + "server = \"x\"\n":            errUnbalanced.Error(),
		end:                                   errUnbalanced.Error(),
		begin + begin + end:                   errUnbalanced.Error(),
	} {
		if _, err := Containerd(mirror(t, "http://127.0.0.1:5000"), Version{}, "").put([]byte(before)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", before, err, want)
		}
	}
}

// checkPut puts into before, puts again, and takes out.
func checkPut(t *testing.T, name string, f File, before, after string) {
	t.Helper()
	got, err := f.put([]byte(before))
	if err != nil || string(got) != after {
		t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, after)
		return
	}
	if again, err := f.put(got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("%s: put twice gives %v\n%s", name, err, again)
	}
	was, err := withoutBlocks(before)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := f.take(got); err != nil || strings.TrimSuffix(string(out), "\n") != strings.TrimSuffix(was, "\n") {
		t.Errorf("%s: taken out leaves %v\n%s", name, err, out)
	}
}

func TestHostDirectory(t *testing.T) {
	for host, want := range map[string]string{"docker.io": "docker.io", "registry.corp:5000": "registry.corp_5000_"} {
		if got := hostDirectory(host); got != want {
			t.Errorf("%s is in %s, want %s", host, got, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for s, referrers := range map[string]bool{
		"2.2": true, "v2.2.0": true, "2.10": true, "3.0": true, "2.2-rc.1": true,
		"2.1.9": false, "1.6.20~ds1-1+deb12u1": false, "1.7": false, "0.9": false,
	} {
		v, err := ParseVersion(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if got := strings.Contains(v.capabilities(), "referrers"); got != referrers {
			t.Errorf("%s is asked for referrers: %v", s, got)
		}
	}
	for _, s := range []string{"", "2", "2.x", "two", "2..1", "-1.0", "99999.0"} {
		if v, err := ParseVersion(s); err == nil {
			t.Errorf("%q is %v", s, v)
		}
	}
}

func TestReadsHosts(t *testing.T) {
	for text, want := range map[string]bool{
		"": false,
		"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n":         true,
		"version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/etc/containerd/certs.d' # here\n":    true,
		"[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    registry.config_path = \"/a\"\n":                            true,
		"[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"\"\n":                                             false,
		"[plugins.\"io.containerd.grpc.v1.cri\".registry]\n# config_path = \"/a\"\n":                                           false,
		"[plugins.\"io.containerd.transfer.v1.local\"]\n  config_path = \"/etc/containerd/certs.d\"\n":                         false,
		"[plugins.\"io.containerd.grpc.v1.cri\".registry]\n[plugins.\"io.containerd.other\".registry]\nconfig_path = \"/a\"\n": false,
	} {
		if got := ReadsHosts([]byte(text)); got != want {
			t.Errorf("%v for\n%s", got, text)
		}
	}
}

func TestPodman(t *testing.T) {
	const (
		plain = "[[registry.mirror]]\nlocation = \"127.0.0.1:5000/docker.io\"\ninsecure = true\n"
		hub   = "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\n" + plain
		corp  = "[[registry]]\nprefix = \"registry.corp:5000\"\nlocation = \"registry.corp:5000\"\n\n" +
			"[[registry.mirror]]\nlocation = \"127.0.0.1:5000/registry.corp_5000\"\ninsecure = true\n"
	)
	for _, test := range []struct {
		name, before, after string
		upstreams           []string
	}{
		{"new", "", begin + hub + "\n" + corp + end, []string{"docker.io", "registry.corp:5000"}},
		{
			"behind what is there",
			"# mine\nunqualified-search-registries = [\n  \"docker.io\",\n]\n",
			"# mine\nunqualified-search-registries = [\n  \"docker.io\",\n]\n" + begin + hub + end,
			[]string{"docker.io"},
		},
		{
			"into the table that is there, before its mirrors",
			"[[registry]]\nlocation = \"docker.io\"\nblocked = false\n\n# far\n[[registry.mirror]]\nlocation = \"far\"\n[[registry]]\nprefix = \"a.io\"\n",
			"[[registry]]\nlocation = \"docker.io\"\nblocked = false\n\n" + begin + plain + end + "# far\n[[registry.mirror]]\nlocation = \"far\"\n[[registry]]\nprefix = \"a.io\"\n" +
				begin + corp + end,
			[]string{"docker.io", "registry.corp:5000"},
		},
		{
			"a prefix of another location",
			"[[registry]]\nprefix = \"docker.io\"\nlocation = \"cache.corp/hub\"\n",
			"[[registry]]\nprefix = \"docker.io\"\nlocation = \"cache.corp/hub\"\n" + begin + plain + end,
			[]string{"docker.io"},
		},
		{
			"other upstreams before",
			"a = 1\n" + begin + corp + end + "# after\n",
			"a = 1\n# after\n" + begin + hub + end,
			[]string{"docker.io"},
		},
	} {
		checkPut(t, test.name, Podman(mirror(t, "http://127.0.0.1:5000"), test.upstreams), test.before, test.after)
	}
	checkPut(t, "https", Podman(mirror(t, "https://weir.corp"), []string{"ghcr.io"}), "",
		begin+"[[registry]]\nprefix = \"ghcr.io\"\nlocation = \"ghcr.io\"\n\n[[registry.mirror]]\nlocation = \"weir.corp/ghcr.io\"\n"+end)
	if _, err := Podman(mirror(t, "https://weir.corp"), []string{"ghcr.io"}).put([]byte("[registries.search]\nregistries = ['docker.io']\n")); err == nil {
		t.Error("the old format is mixed with the new one")
	}
}

func TestDocker(t *testing.T) {
	const local, far = "http://127.0.0.1:5000", "http://weir.corp:5000"
	for _, test := range []struct {
		name, mirror, before, after, taken string
	}{
		{"new", local, "", "{\n  \"registry-mirrors\": [\"http://127.0.0.1:5000\"]\n}\n", ""},
		{"blank", local, " \n", "{\n  \"registry-mirrors\": [\"http://127.0.0.1:5000\"]\n}\n", ""},
		{"empty", local, "{}\n", "{\n  \"registry-mirrors\": [\"http://127.0.0.1:5000\"]\n}\n", ""},
		{
			"not on loopback, without TLS", far, "",
			"{\n  \"registry-mirrors\": [\"http://weir.corp:5000\"],\n  \"insecure-registries\": [\"weir.corp:5000\"]\n}\n", "",
		},
		{"https", "https://weir.corp", "", "{\n  \"registry-mirrors\": [\"https://weir.corp\"]\n}\n", ""},
		{
			"other keys, as they are", local,
			"{\n\t\"log-driver\" : \"journald\",\n\t\"z\": {\"b\": 1.50, \"a\": [ ]} ,\n\t\"debug\": true\n}\n",
			"{\n\t\"log-driver\" : \"journald\",\n\t\"z\": {\"b\": 1.50, \"a\": [ ]} ,\n\t\"debug\": true,\n\t\"registry-mirrors\": [\"http://127.0.0.1:5000\"]\n}\n",
			"{\n\t\"log-driver\" : \"journald\",\n\t\"z\": {\"b\": 1.50, \"a\": [ ]} ,\n\t\"debug\": true\n}\n",
		},
		{
			"one line", local,
			`{"debug":true}`,
			`{"debug":true,"registry-mirrors": ["http://127.0.0.1:5000"]}`,
			`{"debug":true}`,
		},
		{
			"before other mirrors", local,
			`{"registry-mirrors": ["https://a.io"], "debug": true}`,
			`{"registry-mirrors": ["http://127.0.0.1:5000", "https://a.io"], "debug": true}`,
			`{"registry-mirrors": ["https://a.io"], "debug": true}`,
		},
		{
			"there already", local,
			`{"registry-mirrors": ["https://a.io", "http://127.0.0.1:5000/"], "debug": true}`,
			`{"registry-mirrors": ["https://a.io", "http://127.0.0.1:5000/"], "debug": true}`,
			`{"registry-mirrors": ["https://a.io"], "debug": true}`,
		},
		{
			"an empty list", local,
			`{"registry-mirrors": [], "debug": true}`,
			`{"registry-mirrors": ["http://127.0.0.1:5000"], "debug": true}`,
			`{"debug": true}`,
		},
		{
			"null", local,
			`{"a": 1, "registry-mirrors": null}`,
			`{"a": 1, "registry-mirrors": ["http://127.0.0.1:5000"]}`,
			`{"a": 1}`,
		},
	} {
		f := Docker(mirror(t, test.mirror))
		got, err := f.put([]byte(test.before))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if string(got) != test.after {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.after)
		}
		if again, err := f.put(got); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: put twice gives %v\n%s", test.name, err, again)
		}
		if out, err := f.take(got); err != nil || string(out) != test.taken {
			t.Errorf("%s: taken out leaves %v\n%s", test.name, err, out)
		}
	}
	for _, bad := range []string{
		`[]`, `{`, `{"a"}`, `{"a": 1,}`, `{} {}`, `{"registry-mirrors": "x"}`, `{"registry-mirrors": [1]}`, `{"a": 1, "a": 2}`, `x`, `{"a": 1} x`,
	} {
		f := Docker(mirror(t, local))
		if got, err := f.put([]byte(bad)); err == nil {
			t.Errorf("%s becomes %s", bad, got)
		}
		if got, err := f.take([]byte(bad)); err == nil {
			t.Errorf("%s becomes %s", bad, got)
		}
	}
}
