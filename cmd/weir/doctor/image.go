package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
)

// dockerHub is the registry that has the shortest names.
const dockerHub = "docker.io"

// clientsName is the image as clients name it to a server: an image of the server's
// own has no host, one of Docker Hub its full name.
func clientsName(i Image, server *url.URL) Image {
	switch i.Host {
	case server.Host:
		i.Host = ""
	case "index.docker.io", "registry-1.docker.io":
		i.Host = dockerHub
	}
	if i.Host == dockerHub && !strings.Contains(i.Repo.String(), "/") {
		if full, err := origin.ParseRepo("library/" + i.Repo.String()); err == nil {
			i.Repo = full
		}
	}
	return i
}

// below is the image's repository as a path below a server's name.
func (i Image) below() string {
	if i.Host == "" {
		return i.Repo.String()
	}
	return config.PathOf(i.Host) + "/" + i.Repo.String()
}

// choose gives an image to pull where none was named: the first that the server
// lists, else a small one that everybody may have. Errors: ctx's.
func choose(ctx context.Context, o Options) (Image, error) {
	if i, ok := listed(ctx, o); ok {
		return i, nil
	}
	repo, err := origin.ParseRepo("library/hello-world")
	if err != nil {
		return Image{}, err
	}
	ref, err := origin.ParseTag("latest")
	if err != nil {
		return Image{}, err
	}
	return Image{Host: dockerHub, Repo: repo, Ref: ref}, ctx.Err()
}

// listed gives an image of the server's catalog.
func listed(ctx context.Context, o Options) (Image, bool) {
	var catalog struct {
		Repositories []string `json:"repositories"`
	}
	if !list(ctx, o, "registry:catalog:*", "_catalog", &catalog) {
		return Image{}, false
	}
	for _, name := range catalog.Repositories {
		repo, err := origin.ParseRepo(name)
		if err != nil {
			continue
		}
		var tags struct {
			Tags []string `json:"tags"`
		}
		if !list(ctx, o, "repository:"+name+":pull", name+"/tags/list", &tags) || len(tags.Tags) == 0 {
			continue
		}
		tag := tags.Tags[0]
		if slices.Contains(tags.Tags, "latest") {
			tag = "latest"
		}
		if ref, err := origin.ParseTag(tag); err == nil {
			return Image{Repo: repo, Ref: ref}, true
		}
	}
	return Image{}, false
}

// list reads a page of a listing, which takes a token of that scope.
func list(ctx context.Context, o Options, scope, path string, into any) bool {
	s := newSession(o, client{name: "list"})
	s.scope = scope
	r := s.ask(ctx, request{method: http.MethodGet, path: path, query: url.Values{"n": {"20"}}})
	if !r.is(http.StatusOK) {
		r.discard()
		return false
	}
	b, err := r.read(maxManifest)
	return err == nil && json.Unmarshal(b, into) == nil
}

// locate finds out where below the server's name the images of another registry are,
// for clients that do not say which registry they mean. It reports whether there is
// anything to go on with.
func (s *session) locate(ctx context.Context) bool {
	const name = "where it is"
	classic := s.c.kind == dockerClassic && !s.mirrored()
	if s.Image.Host == "" || s.c.kind != podman && !classic {
		return true
	}
	below, bare := s.Image.below(), s.Image.Repo.String()
	if classic {
		if r := s.at(ctx, below); r.good() {
			s.ok(name, r, "as "+s.Server.Host+"/"+below+": registry-mirrors are for docker.io alone")
			return true
		}
		s.add(Note, name, "", "nowhere: registry-mirrors are for docker.io alone", "pulls images of "+s.Image.Host+" without this server",
			"have the containerd image store, and a hosts.toml (weir client containerd)")
		return false
	}
	if r := s.at(ctx, below); r.good() {
		s.ok(name, r, "location = "+strconv.Quote(s.Server.Host+"/"+config.PathOf(s.Image.Host)))
	} else if r := s.at(ctx, bare); r.good() {
		s.repo, s.scope = bare, "repository:"+bare+":pull"
		s.ok(name, r, "location = "+strconv.Quote(s.Server.Host))
	}
	return true
}

// at asks for the image by a path, as a client that comes for the first time.
func (s *session) at(ctx context.Context, repo string) reply {
	first := newSession(s.Options, s.c)
	first.repo, first.scope = repo, "repository:"+repo+":pull"
	if !first.ping(ctx) {
		return reply{err: errors.New("no registry")}
	}
	r := first.manifest(ctx, http.MethodGet, s.Image.Ref.String(), s.c.accepts)
	r.discard()
	return r
}
