package config

import (
	"crypto/x509"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// S-11: whatever is wrong with server.tls is an error, and nothing is plain text that
// was begun.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := mtlstest.NewAuthority(t, "ca")
	file := func(name string, text []byte) {
		t.Helper()
		mtlstest.Put(t, filepath.Join(dir, name), text)
	}
	good, lapsed, nameless := ca.Issue(t, mtlstest.Server()), mtlstest.Server(), mtlstest.Server()
	lapsed.NotBefore, lapsed.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	nameless.DNSNames, nameless.IPAddresses = nil, nil
	early := mtlstest.Server()
	early.NotBefore = time.Now().Add(time.Minute)
	for name, c := range map[string]*x509.Certificate{"lapsed": lapsed, "nameless": nameless, "early": early} {
		pair := ca.Issue(t, c)
		file(name+".crt", pair.CertificatePEM())
		file(name+".key", pair.KeyPEM(t))
	}
	file("good.crt", good.CertificatePEM())
	file("good.key", good.KeyPEM(t))
	file("ca.crt", ca.CertificatePEM())
	file("half.crt", append(ca.CertificatePEM(), "-----BEGIN CERTIFICATE-----\nMII"...))
	file("empty", nil)

	const pair = "certificate: D/good.crt, key: D/good.key"
	for text, want := range map[string]string{
		"":                                           "",
		"{tls: {certificate: '', key: ''}}":          "",
		"{tls: {" + pair + "}}":                      "",
		"{tls: {" + pair + "}, http2: false}":        "",
		"{tls: {" + pair + ", client_ca: ''}}":       "",
		"{tls: {" + pair + ", client_ca: D/ca.crt}}": "",
		"{tls: {" + pair + ", client_ca: D/ca.crt, client_auth: required}}": "",
		"{tls: }":                                                             "server.tls names no certificate and key: name both, or leave the section out",
		"{tls: {}}":                                                           "server.tls names no certificate and key: name both, or leave the section out",
		"{tls: {client_auth: optional}}":                                      "server.tls names no certificate and key: name both, or leave the section out",
		"{tls: {certificate: ''}}":                                            "server.tls names no certificate and key: name both, or leave the section out",
		"{tls: {certificate: D/good.crt}}":                                    "server.tls.certificate is set, and key is not: set both or neither",
		"{tls: {key: D/good.key}}":                                            "server.tls.key is set, and certificate is not: set both or neither",
		"{tls: {certificate: D/good.crt, key: ''}}":                           "server.tls.certificate is set, and key is not: set both or neither",
		"{tls: {certificate: D/none, key: D/good.key}}":                       "server.tls.certificate is D/none: it is not there",
		"{tls: {certificate: D/good.crt, key: D/lapsed.key}}":                 "server.tls.certificate and key do not load: private key does not match public key",
		"{tls: {certificate: D/empty, key: D/good.key}}":                      "server.tls.certificate and key do not load: failed to find any PEM data in certificate input",
		"{tls: {certificate: '', key: '', client_ca: D/ca.crt}}":              "server.tls.client_ca is set, and certificate is not: clients show theirs over TLS alone",
		"{tls: {certificate: '', key: '', client_auth: required}}":            "server.tls.client_auth is required, and certificate is not set: clients show theirs over TLS alone",
		"{tls: {" + pair + ", client_auth: required}}":                        "server.tls.client_auth is required, and client_ca is not set: no certificate could be believed",
		"{tls: {" + pair + ", client_auth: none}}":                            `server.tls.client_auth: "none" is neither optional nor required`,
		"{tls: {" + pair + ", client_ca: D/none}}":                            "server.tls.client_ca is D/none: it is not there",
		"{tls: {" + pair + ", client_ca: D/empty}}":                           "server.tls.client_ca is D/empty: there is no certificate in it",
		"{tls: {" + pair + ", client_ca: D/good.key}}":                        "server.tls.client_ca is D/good.key: there is a PRIVATE KEY in it: only certificates belong there",
		"{tls: {" + pair + ", client_ca: D/half.crt}}":                        "server.tls.client_ca is D/half.crt: block 2 in it is no PEM",
		"{tls: {" + pair + ", client_ca: D}}":                                 "server.tls.client_ca is D: it is no regular file",
		"{tls: {certifcate: D/good.crt, key: D/good.key}}":                    `unknown key "certifcate" in server.tls: did you mean "certificate"?`,
		"{tsl: {" + pair + "}}":                                               `unknown key "tsl" in server: did you mean "tls"?`,
		"{tls: true}":                                                         "server.tls must be a map, not a single value",
		"{tls: {certificate: '${UNSET}', key: D/good.key}}":                   "server.tls.certificate: the environment has no UNSET: set it, or write ${UNSET:-default}",
		"{tls: {certificate: '${UNSET:-}', key: D/good.key}}":                 "server.tls.key is set, and certificate is not: set both or neither",
		"{tls: {certificate: '${UNSET:-}', key: '${UNSET:-}', client_ca: x}}": "server.tls.client_ca is set, and certificate is not: clients show theirs over TLS alone",
	} {
		c, err := load([]source{{"weir.yaml", []byte("server: " + strings.ReplaceAll(text, "D", dir))}}, nowhere, nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want == "":
			if encrypted := strings.Contains(text, "good.crt"); c.Server.TLS.IsZero() == encrypted {
				t.Errorf("%s: %+v", text, c.Server.TLS)
			}
			if w := c.Warnings(); len(w) > 0 {
				t.Errorf("%s: %q", text, w)
			}
			again, err := load([]source{{"printed.yaml", []byte(print(t, c))}}, nowhere, nil)
			if err != nil || again.Server.TLS != c.Server.TLS {
				t.Errorf("%s, printed: %v", text, err)
			}
		case err == nil || err.Error() != "weir.yaml:1: "+strings.ReplaceAll(want, "D", dir):
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}

	for text, want := range map[string]string{
		"{tls: {certificate: D/lapsed.crt, key: D/lapsed.key}}":                                                                           "server.tls.certificate has lapsed at ",
		"{tls: {certificate: D/early.crt, key: D/early.key}}":                                                                             "server.tls.certificate is not valid before ",
		"{tls: {certificate: D/nameless.crt, key: D/nameless.key}}":                                                                       "server.tls.certificate names no host (subject alternative name)",
		"{tls: {" + pair + "}, external_url: 'https://weir.corp'}":                                                                        "server.tls.certificate is not for weir.corp, which server.external_url leads clients to",
		"{tls: {" + pair + "}, external_url: 'http://localhost'}":                                                                         "server.external_url is http, and server.tls is set",
		"{tls: {" + pair + ", client_ca: D/ca.crt}}\nmirror: {upstreams: [{name: a.io, endpoints: [{url: https://a.io, ca: D/ca.crt}]}]}": "server.tls.client_ca is also the ca of a registry that weir asks",
	} {
		c, err := load([]source{{"weir.yaml", []byte("server: " + strings.ReplaceAll(text, "D", dir))}}, nowhere, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if w := c.Warnings(); !slices.ContainsFunc(w, func(s string) bool { return strings.HasPrefix(s, want) }) || len(w) != 1 {
			t.Errorf("%s\ngot  %q\nwant %s", text, w, want)
		}
	}
}
