package config

import (
	"strings"

	"github.com/weir-registry/weir/origin"
)

// builtIn are the keys that say how weir's own registry keeps what is pushed to it.
func builtIn() []string {
	return []string{
		"origin.max_blob_size", "origin.upload_expiry", "origin.immutable_tags", "origin.immutable_tags_except",
		"origin.gc.interval", "origin.gc.grace", "origin.scrub.interval", "origin.scrub.rate", "origin.retention.interval",
		"mirror.cache.max_size",
	}
}

// foreign examines what is said of a registry that is used instead of weir's own.
func (v *validator) foreign(o *Origin) {
	if o.URL.IsZero() {
		for _, key := range []string{"prefix", "username", "password", "password_file", "ca", "certificate", "key"} {
			if path := "origin." + key; v.written(path) && !o.quiet(key) {
				v.fail(path, "is set, and origin.url is not: it is about the registry there")
			}
		}
		return
	}
	v.endpoint(o.endpoint(), "origin")
	if o.Prefix != "" {
		if _, err := origin.ParseRepo(o.Prefix); err != nil {
			v.fail("origin.prefix", "is %s, which is no path of repositories", origin.Quote(o.Prefix))
		}
	}
	for _, path := range builtIn() {
		if v.written(path) {
			v.fail(path, "is set, and so is origin.url: the registry at %s decides that, not weir", o.URL)
		}
	}
}

// quiet reports whether a key about another registry says nothing.
func (o *Origin) quiet(key string) bool {
	switch key {
	case "prefix":
		return o.Prefix == ""
	case "username":
		return o.Username == ""
	case "password", "password_file":
		return o.Password.IsZero()
	case "ca":
		return o.CA == ""
	case "certificate":
		return o.Certificate == ""
	default:
		return o.Key == ""
	}
}

// Base is where the registry's repositories are: its URL, and below it the prefix.
func (o Origin) Base() URL {
	base := o.URL
	base.Path = strings.Trim(base.Path+"/"+o.Prefix, "/")
	if base.Path != "" {
		base.Path = "/" + base.Path
	}
	return base
}
