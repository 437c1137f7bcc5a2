package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/origin"
)

// TLS is how clients connect. Without a certificate it is plain text.
type TLS struct {
	// Certificate and Key are PEM files: the server's chain and the key of its first.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// ClientCA is a PEM file of the authorities by which clients are known. It has
	// nothing to do with those that weir itself believes; "": no client is asked for
	// a certificate.
	ClientCA string `yaml:"client_ca"`
	// ClientAuth says whether clients must show one.
	ClientAuth ClientAuth `yaml:"client_auth"`
}

// IsZero reports whether clients connect without TLS.
func (t TLS) IsZero() bool { return t.Certificate == "" }

// ClientAuth says what becomes of clients that show no certificate.
type ClientAuth string

// What becomes of them.
const (
	ClientAuthOptional ClientAuth = "optional" // they are let in, as nobody
	ClientAuthRequired ClientAuth = "required" // they are refused
)

// MarshalText implements [encoding.TextMarshaler].
func (c ClientAuth) MarshalText() ([]byte, error) { return []byte(c), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *ClientAuth) UnmarshalText(text []byte) error {
	switch got := ClientAuth(text); got {
	case ClientAuthOptional, ClientAuthRequired:
		*c = got
		return nil
	}
	return fmt.Errorf("%s is neither optional nor required", origin.Quote(string(text)))
}

// tls examines how clients connect. Whatever was begun must be whole: nothing that is
// wrong here may end in plain text.
func (v *validator) tls(t *TLS) {
	const path = "server.tls"
	v.pair(path, t.Certificate, t.Key)
	if t.IsZero() {
		switch {
		case t.Key != "":
			// It was said.
		case t.ClientCA != "":
			v.fail(path+".client_ca", "is set, and certificate is not: clients show theirs over TLS alone")
		case t.ClientAuth == ClientAuthRequired:
			v.fail(path+".client_auth", "is required, and certificate is not set: clients show theirs over TLS alone")
		case v.written(path) && !(v.written(path+".certificate") && v.written(path+".key")):
			v.fail(path, "names no certificate and key: name both, or leave the section out")
		}
		return
	}
	if t.ClientCA == "" {
		if t.ClientAuth == ClientAuthRequired {
			v.fail(path+".client_auth", "is required, and client_ca is not set: no certificate could be believed")
		}
		return
	}
	if text, ok := v.readable(path+".client_ca", t.ClientCA); ok {
		if err := mtls.CheckAuthorities(text); err != nil {
			v.fail(path+".client_ca", "is %s: %v", t.ClientCA, err)
		}
	}
}

// tlsWarnings are about what clients will not take, or operators hardly mean.
func (c *Config) tlsWarnings() []string {
	t := c.Server.TLS
	if t.IsZero() {
		return nil
	}
	var w []string
	if leaf, err := readLeaf(t.Certificate); err == nil {
		switch now := time.Now(); {
		case now.After(leaf.NotAfter):
			w = append(w, "server.tls.certificate has lapsed at "+leaf.NotAfter.Format(time.RFC3339)+": clients refuse it")
		case now.Before(leaf.NotBefore):
			w = append(w, "server.tls.certificate is not valid before "+leaf.NotBefore.Format(time.RFC3339)+": clients refuse it")
		}
		if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
			w = append(w, "server.tls.certificate names no host (subject alternative name): clients refuse it")
		} else if u := c.Server.ExternalURL; u.Scheme == "https" && leaf.VerifyHostname(u.Hostname()) != nil {
			w = append(w, "server.tls.certificate is not for "+u.Hostname()+", which server.external_url leads clients to")
		}
	}
	if c.Server.ExternalURL.Scheme == "http" {
		w = append(w, "server.external_url is http, and server.tls is set: clients are led to where no plain text is taken")
	}
	if t.ClientCA != "" && slices.Contains(c.believed(), t.ClientCA) {
		w = append(w, "server.tls.client_ca is also the ca of a registry that weir asks: whomever it certifies is known here")
	}
	return w
}

// believed gives the files of authorities that weir believes when it connects.
func (c *Config) believed() []string {
	list := []string{c.Origin.CA}
	for _, u := range c.Mirror.Upstreams {
		for _, e := range u.Endpoints {
			list = append(list, e.CA)
		}
	}
	return list
}

// readLeaf reads the first certificate of a file.
func readLeaf(name string) (*x509.Certificate, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("no certificate in it")
}
