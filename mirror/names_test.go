package mirror

import (
	"errors"
	"testing"

	"github.com/weir-registry/weir/origin"
)

func testTable(t *testing.T) *Table {
	t.Helper()
	table, err := NewTable([]*Upstream{
		{Name: "docker.io"},
		{Name: "ghcr.io", Aliases: []string{"github.test"}},
		{Name: "registry.corp:5000"},
	}, "docker.io", "weir.corp:8443")
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// All ways of naming a repository lead to one name.
func TestName(t *testing.T) {
	table := testTable(t)
	for _, x := range []struct {
		prefix, ns, repo string
		want             string // "" = NAME_UNKNOWN
	}{
		{"", "docker.io", "library/nginx", "docker.io/library/nginx"},
		{"", "", "docker.io/library/nginx", "docker.io/library/nginx"},
		{"docker.io", "", "library/nginx", "docker.io/library/nginx"},
		{"", "docker.io", "docker.io/library/nginx", "docker.io/library/nginx"}, // containerd, override_path
		{"docker.io", "docker.io", "library/nginx", "docker.io/library/nginx"},
		{"", "", "library/nginx", "library/nginx"}, // the mirror decides: it may be local

		{"", "docker.io", "nginx", "docker.io/library/nginx"},
		{"", "", "docker.io/nginx", "docker.io/library/nginx"},
		{"docker.io", "", "nginx", "docker.io/library/nginx"},
		{"", "index.docker.io", "library/nginx", "docker.io/library/nginx"},
		{"", "registry-1.docker.io", "nginx", "docker.io/library/nginx"},
		{"", "", "index.docker.io/library/nginx", "docker.io/library/nginx"},

		{"", "ghcr.io", "acme/app", "ghcr.io/acme/app"},
		{"", "ghcr.io", "nginx", "ghcr.io/nginx"},
		{"", "github.test", "acme/app", "ghcr.io/acme/app"},
		{"", "", "github.test/acme/app", "ghcr.io/acme/app"},
		{"", "ghcr.io", "docker.io/library/nginx", "ghcr.io/docker.io/library/nginx"},

		{"", "registry.corp:5000", "app", "registry.corp_5000/app"},
		{"", "", "registry.corp_5000/app", "registry.corp_5000/app"},
		{"registry.corp_5000", "", "app", "registry.corp_5000/app"},
		{"", "registry.corp_5000", "app", ""},
		{"", "registry.corp", "app", ""},

		{"", "weir.corp:8443", "team/app", "team/app"},
		{"", "weir.corp:8443", "docker.io/library/nginx", "docker.io/library/nginx"},
		{"", "evil.example", "library/nginx", ""},
		{"", "169.254.169.254", "latest/meta-data", ""},
		{"evil.example", "", "library/nginx", ""},
		{"docker.io", "ghcr.io", "library/nginx", ""},
		{"", "", "docker.io", "docker.io"}, // no upstream's repository, but a name
		{"", "", "quay.io/acme/app", "quay.io/acme/app"},
	} {
		repo, err := origin.ParseRepo(x.repo)
		if err != nil {
			t.Fatal(err)
		}
		got, err := table.Name(x.prefix, x.ns, repo)
		switch {
		case x.want == "" && !errors.Is(err, origin.ErrNameUnknown):
			t.Errorf("%+v: %q, %v", x, got, err)
		case x.want != "" && (err != nil || got.String() != x.want):
			t.Errorf("%+v: %q, %v", x, got, err)
		}
		if err == nil {
			if again, err := table.Name("", "", got); err != nil || again != got {
				t.Errorf("%+v: the name itself means %q, %v", x, again, err)
			}
		}
	}
}

func TestNewTableRefuses(t *testing.T) {
	for name, x := range map[string]struct {
		upstreams []*Upstream
		standard  string
	}{
		"two of a name":     {[]*Upstream{{Name: "a.test"}, {Name: "a.test"}}, ""},
		"alias of another":  {[]*Upstream{{Name: "a.test"}, {Name: "b.test", Aliases: []string{"a.test"}}}, ""},
		"the hub's alias":   {[]*Upstream{{Name: "docker.io"}, {Name: "index.docker.io"}}, ""},
		"same path":         {[]*Upstream{{Name: "a.test:5000"}, {Name: "a.test_5000"}}, ""},
		"not a host":        {[]*Upstream{{Name: "A/b"}}, ""},
		"unknown default":   {[]*Upstream{{Name: "a.test"}}, "b.test"},
		"default by no one": {nil, "docker.io"},
	} {
		if _, err := NewTable(x.upstreams, x.standard, ""); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
