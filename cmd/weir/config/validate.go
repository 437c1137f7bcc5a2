package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"unicode"
)

// validator finds what decodes and yet cannot be meant. It speaks of keys by the
// paths that the decoder noted.
type validator struct {
	at   map[string]Position
	errs *Errors
}

// fail reports what is wrong with path, at its position or that of the nearest key
// around it that was written.
func (v *validator) fail(path, format string, args ...any) {
	v.errs.add(v.position(path), path+" "+format, args...)
}

func (v *validator) position(path string) Position {
	for {
		if p, ok := v.at[path]; ok || path == "" {
			return p
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// written reports whether path has a value of its own.
func (v *validator) written(path string) bool {
	_, ok := v.at[path]
	return ok
}

func (v *validator) config(c *Config) {
	v.log(&c.Log)
	v.server(&c.Server)
	v.listeners(c)
	v.store(&c.Store)
	v.redis(c)
	v.origin(&c.Origin)
	v.mirror(&c.Mirror)
	v.authz(c)
	v.events(c)
	v.tracing(&c.Tracing)
	v.ui(c.UI)
}

func (v *validator) ui(u UI) {
	const longest = 64
	if u.Title == "" || len(u.Title) > longest || strings.ContainsFunc(u.Title, unicode.IsControl) {
		v.fail("ui.title", "must have 1 to %d bytes of text", longest)
	}
}

// Rooms are the parts of weir that log.
func Rooms() []string { return []string{"server", "mirror", "origin", "authz", "store", "ui"} }

func (v *validator) log(l *Log) {
	for room := range l.Levels {
		if slices.Contains(Rooms(), room) {
			continue
		}
		path := "log.levels." + room
		if near, ok := nearest(room, Rooms()); ok {
			v.fail(path, "is no room: did you mean %q?", near)
			continue
		}
		v.fail(path, "is no room: known are %s", strings.Join(Rooms(), ", "))
	}
}

func (v *validator) server(s *Server) {
	if s.ExternalURL.Path != "" {
		v.fail("server.external_url", "has the path %q: clients find a registry only at the root of a host", s.ExternalURL.Path)
	}
	v.tls(&s.TLS)
	v.least("server.max_concurrent_requests", s.MaxConcurrentRequests, 0)
	v.positive("server.timeouts.header", s.Timeouts.Header)
	v.positive("server.timeouts.stall", s.Timeouts.Stall)
	v.positive("server.timeouts.idle", s.Timeouts.Idle)
}

func (v *validator) tracing(t *Tracing) {
	if t.Endpoint.Path != "" {
		v.fail("tracing.endpoint", "has the path %q: OTLP over gRPC has none", t.Endpoint.Path)
	}
}

func (v *validator) listeners(c *Config) {
	const path = "server.listen"
	if len(c.Server.Listen) == 0 {
		v.fail(path, "names no address")
	}
	for i, a := range c.Server.Listen {
		switch {
		case a.IsZero():
			v.fail(path, "has an empty address")
		case a.collides(c.Admin.Listen):
			v.collision(path, a, "admin.listen", c.Admin.Listen)
		}
		for _, b := range c.Server.Listen[:i] {
			if a.collides(b) {
				v.fail(path, "has %s beside %s: only one of them can be listened on", a, b)
			}
		}
	}
}

// collision reports that a and b exclude each other, where the later one of them
// was written.
func (v *validator) collision(pathA string, a Address, pathB string, b Address) {
	if v.written(pathA) && !v.written(pathB) {
		v.fail(pathA, "is %s, and %s is %s: only one of them can be listened on", a, pathB, b)
		return
	}
	v.fail(pathB, "is %s, and %s is %s: only one of them can be listened on", b, pathA, a)
}

func (v *validator) origin(o *Origin) {
	if o.MaxManifestSize <= 0 {
		v.fail("origin.max_manifest_size", "must be more than 0")
	}
	v.positive("origin.upload_expiry", o.UploadExpiry)
	if o.GC.Grace < leastGrace {
		v.fail("origin.gc.grace", "must be %s or more", leastGrace)
	}
	if o.Scrub.Rate <= 0 {
		v.fail("origin.scrub.rate", "must be more than 0")
	}
	v.foreign(o)
}

func (v *validator) positive(path string, d Duration) {
	if d <= 0 {
		v.fail(path, "must be more than 0s")
	}
}

func (v *validator) least(path string, n, least int) {
	if n < least {
		v.fail(path, "must be %d or more, not %d", least, n)
	}
}

// readable reports whether the file that path names can be read.
func (v *validator) readable(path, name string) ([]byte, bool) {
	text, err := readSmall(name)
	if err != nil {
		v.fail(path, "is %s: %s", name, reason(err))
	}
	return text, err == nil
}

// authorities examines a file of certificates that are to be believed.
func (v *validator) authorities(path, name string) {
	text, ok := v.readable(path, name)
	if ok && !x509.NewCertPool().AppendCertsFromPEM(text) {
		v.fail(path, "is %s: there is no certificate in it", name)
	}
}

// pair examines a certificate and its key below path.
func (v *validator) pair(path, certificate, key string) {
	switch {
	case certificate == "" && key == "":
		return
	case certificate == "":
		v.fail(path+".key", "is set, and certificate is not: set both or neither")
		return
	case key == "":
		v.fail(path+".certificate", "is set, and key is not: set both or neither")
		return
	}
	certText, certOK := v.readable(path+".certificate", certificate)
	keyText, keyOK := v.readable(path+".key", key)
	if !certOK || !keyOK {
		return
	}
	if _, err := tls.X509KeyPair(certText, keyText); err != nil {
		v.fail(path+".certificate", "and key do not load: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
}

// reason is what the matter is with a file, without its name.
func reason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "it is not there"
	}
	if bad, ok := errors.AsType[*fs.PathError](err); ok {
		err = bad.Err
	}
	return err.Error()
}
