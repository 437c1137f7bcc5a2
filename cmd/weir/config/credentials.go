package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weir-registry/weir/origin"
)

// Credentials say where an endpoint's credentials are had that the configuration
// does not hold; "" = nowhere.
type Credentials string

// Where credentials are had.
const (
	CredentialsDocker Credentials = "docker" // Docker's config.json and credential helpers
	CredentialsECR    Credentials = "ecr"    // AWS
	CredentialsGCR    Credentials = "gcr"    // Google Cloud
	CredentialsACR    Credentials = "acr"    // Azure
)

// MarshalText implements [encoding.TextMarshaler].
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Credentials) UnmarshalText(text []byte) error {
	switch got := Credentials(text); got {
	case "", CredentialsDocker, CredentialsECR, CredentialsGCR, CredentialsACR:
		*c = got
		return nil
	}
	return fmt.Errorf("%s is no source of credentials: write docker, ecr, gcr or acr", origin.Quote(string(text)))
}

// credentials examines what an endpoint says of who asks it.
func (v *validator) credentials(e Endpoint, path string) {
	switch {
	case e.Credentials != "" && (e.Username != "" || !e.Password.IsZero()):
		v.fail(path+".credentials", "is %s, and there is a username or a password: keep one", e.Credentials)
	case e.Username == "" && !e.Password.IsZero():
		v.fail(path, "has a password and no username")
	case e.Username != "" && e.Password.IsZero():
		v.fail(path, "has a username and no password")
	}
	if file := e.Password.File(); file != "" {
		if _, err := e.Password.Value(); err != nil {
			v.fail(path+".password_file", "is %s: %s", file, reason(err))
		}
	}
	for i, host := range e.RealmHosts {
		if !validRealmHost(host) {
			v.fail(fmt.Sprintf("%s.realm_hosts[%d]", path, i), "is %s: write a host in lower case, and its port unless that is the default one", origin.Quote(host))
		}
	}
}

// validRealmHost reports whether s is a host, and perhaps a port.
func validRealmHost(s string) bool {
	if ValidHost(s) {
		return true
	}
	literal, rest, closed := strings.Cut(strings.TrimPrefix(s, "["), "]")
	a, err := netip.ParseAddr(literal)
	return strings.HasPrefix(s, "[") && closed && err == nil && a.Is6() && a.Zone() == "" &&
		literal == strings.ToLower(literal) && ValidHost("port"+rest) && (rest == "" || rest[0] == ':')
}
