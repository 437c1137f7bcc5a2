package mirror

import (
	"fmt"
	"strings"
	"time"

	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin"
)

const (
	hub     = "docker.io"
	library = "library"
)

// Upstream is a registry that images are mirrored from.
type Upstream struct {
	Name    string         // host, with a port if need be: what clients say as ns
	Aliases []string       // other names for it
	Reader  *fanout.Fanout // of its endpoints
	Tags    Tags

	// ReferrersTTL is how long what the upstream said refers to a manifest holds.
	ReferrersTTL time.Duration
	// Allow says by what the upstream calls them which repositories are mirrored; nil:
	// all. The others do not exist.
	Allow func(name origin.Repo) bool
	// Writable lets clients push: what they push is kept here, and stands before what
	// the upstream has of that name.
	Writable bool
	// Prefetch are platforms whose images are fetched as soon as an index that names
	// them is pulled by a tag.
	Prefetch []origin.Platform
}

// Tags says how long what an upstream said of a tag holds.
type Tags struct {
	TTL          time.Duration         // until it is checked again
	Immutable    func(tag string) bool // tags that are never checked again; nil: none
	StaleIfError time.Duration         // how long after its last check it is served when it cannot be checked
	StaleIfGone  bool                  // also when the upstream says that it has it no more
	NegativeTTL  time.Duration         // how long "not there" holds, and how long a failed check is not repeated
}

func (t Tags) immutable(tag string) bool { return t.Immutable != nil && t.Immutable(tag) }

// Table says which upstream a name belongs to. It is closed: a name that is not in
// it is never a host to dial.
type Table struct {
	upstreams map[string]*Upstream // by name and alias, as said in ns
	paths     map[string]*Upstream // by name and alias, as the first component of a path
	standard  *Upstream            // for names without one; nil: they are local
	own       string               // weir's own host, as said in ns
}

// NewTable makes a Table. standard names the upstream of names that have none and
// are not local; "" = all such names are local. own is the host that clients know
// weir itself by, or "".
func NewTable(upstreams []*Upstream, standard, own string) (*Table, error) {
	t := &Table{upstreams: map[string]*Upstream{}, paths: map[string]*Upstream{}, own: own}
	for _, u := range upstreams {
		names := append([]string{u.Name}, u.Aliases...)
		if u.Name == hub {
			names = append(names, "index.docker.io", "registry-1.docker.io")
		}
		for _, name := range names {
			if _, err := origin.ParseRepo(pathName(name)); err != nil {
				return nil, fmt.Errorf("upstream %q: not a host that can begin a repository name", name)
			}
			if other := t.paths[pathName(name)]; other == u {
				continue
			} else if other != nil {
				return nil, fmt.Errorf("upstream %q: %q is taken by upstream %q", u.Name, name, other.Name)
			}
			t.upstreams[name], t.paths[pathName(name)] = u, u
		}
	}
	if standard != "" {
		if t.standard = t.upstreams[standard]; t.standard == nil {
			return nil, fmt.Errorf("default upstream %q is not among the upstreams", standard)
		}
	}
	return t, nil
}

// pathName is a host as the first component of a repository name, which has no ":".
func pathName(host string) string { return strings.Replace(host, ":", "_", 1) }

// Name gives the one name of the repository that a client asks for as repo, by
// any of the ways there are: with its upstream in front, in the query (ns), or in
// front of /v2 (prefix). Errors: ErrNameUnknown, where ns or prefix is no upstream;
// ErrNameInvalid.
func (t *Table) Name(prefix, ns string, repo origin.Repo) (origin.Repo, error) {
	var u *Upstream
	if prefix != "" {
		if u = t.paths[prefix]; u == nil {
			return origin.Repo{}, origin.Errorf(origin.ErrNameUnknown, "%s is not a mirrored registry", origin.Quote(prefix))
		}
	}
	if ns != "" && ns != t.own {
		named := t.upstreams[ns]
		if named == nil || u != nil && u != named {
			return origin.Repo{}, origin.Errorf(origin.ErrNameUnknown, "%s is not a mirrored registry", origin.Quote(ns))
		}
		u = named
	}
	if first := t.paths[repo.First()]; first != nil && !repo.Rest().IsZero() && (u == nil || u == first) {
		return first.repo(repo.Rest())
	}
	if u == nil {
		return repo, nil
	}
	return u.repo(repo)
}

// repo is the full name of the repository that is called name at u.
func (u *Upstream) repo(name origin.Repo) (origin.Repo, error) {
	if u.Name == hub && name.Rest().IsZero() {
		var err error
		if name, err = name.Under(library); err != nil {
			return origin.Repo{}, err
		}
	}
	return name.Under(pathName(u.Name))
}

// mirrored gives the upstream of a full name, and what the repository is called
// there.
func (t *Table) mirrored(repo origin.Repo) (u *Upstream, name origin.Repo, ok bool) {
	u, name = t.paths[repo.First()], repo.Rest()
	return u, name, u != nil && !name.IsZero()
}

// Mirrored reports whether a full name is that of a mirrored repository.
func (t *Table) Mirrored(repo origin.Repo) bool {
	_, _, ok := t.mirrored(repo)
	return ok
}

// Upstreams gives the upstreams, in no order, each once.
func (t *Table) Upstreams() []*Upstream {
	var list []*Upstream
	for name, u := range t.upstreams {
		if name == u.Name {
			list = append(list, u)
		}
	}
	return list
}

// Default reports whether u is the upstream of names that have none.
func (t *Table) Default(u *Upstream) bool { return u == t.standard }
