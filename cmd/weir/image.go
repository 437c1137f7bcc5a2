package main

import (
	"strings"

	"github.com/distribution/reference"

	"github.com/weir-registry/weir/origin"
)

// image is an image's name as people write it: with or without a registry in front, a
// tag (else latest), a digest. As with docker, a first component is a registry if it
// looks like a host.
type image struct {
	name string // as it was written
	host string // "": none was named
	repo origin.Repo
	ref  origin.Ref
}

func parseImage(name string) (image, error) {
	x := image{name: name}
	bad := origin.Errorf(origin.ErrNameInvalid, "%s is not the name of an image", origin.Quote(name))
	parsed, err := reference.Parse(name)
	if err != nil {
		return x, origin.Wrap(bad, err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return x, bad
	}
	var path string
	x.host, path = splitHost(named.Name())
	if x.repo, err = origin.ParseRepo(path); err != nil {
		return x, err
	}
	if d, ok := parsed.(reference.Digested); ok {
		x.ref, err = origin.ParseRef(d.Digest().String())
		return x, err
	}
	tag := "latest"
	if t, ok := parsed.(reference.Tagged); ok {
		tag = t.Tag()
	}
	x.ref, err = origin.ParseTag(tag)
	return x, err
}

// splitHost cuts the registry off a name.
func splitHost(name string) (host, path string) {
	host, path, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", name
	}
	return host, path
}
