package mtls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/weir-registry/weir/authz"
)

var _ authz.Authenticator = (*Server)(nil)

// Authenticate implements authz.Authenticator for those who showed a certificate in
// the handshake. Errors: authz.ErrNone: they did not; authz.ErrRejected: it does not
// count any more, or names nobody; or they had to, and connected before that.
func (s *Server) Authenticate(r *http.Request) (authz.Identity, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		if r.TLS != nil && s.o.Required {
			return authz.Identity{}, fmt.Errorf("%w: a certificate is required, and the connection is older than that", authz.ErrRejected)
		}
		return authz.Identity{}, authz.ErrNone
	}
	chain := s.verified(r.TLS.VerifiedChains)
	if chain == nil {
		return authz.Identity{}, fmt.Errorf("%w: the certificate has lapsed, or its authority is not believed any more", authz.ErrRejected)
	}
	if who, ok := s.known.Get(chain[0]); ok {
		return who, nil
	}
	who, err := identify(chain[0])
	if err != nil {
		return authz.Identity{}, fmt.Errorf("%w: the certificate %w", authz.ErrRejected, err)
	}
	s.known.Add(chain[0], who)
	return who, nil
}

// spiffeScheme is what the URI of a SPIFFE ID begins with, of which a certificate has
// one (SPIFFE X509-SVID, section 2).
const spiffeScheme = "spiffe"

// identify reads who a verified certificate is of. A subject without a common name may
// be that of many (all workloads of a SPIFFE domain, for one): then the SPIFFE ID stands
// for it.
func identify(c *x509.Certificate) (authz.Identity, error) {
	issuer, err := distinguishedName(c.RawIssuer, ':')
	if err != nil {
		return authz.Identity{}, fmt.Errorf("has an issuer without a name: %w", err)
	}
	subject, err := distinguishedName(c.RawSubject, 0)
	if err != nil {
		return authz.Identity{}, fmt.Errorf("has a subject without a name: %w", err)
	}
	about := &authz.Certificate{
		CommonName:    c.Subject.CommonName,
		Organizations: c.Subject.Organization,
		DNSNames:      c.DNSNames,
	}
	spiffe := ""
	for _, u := range c.URIs {
		about.URIs = append(about.URIs, u.String())
		if u.Scheme == spiffeScheme && spiffe == "" {
			spiffe = u.String()
		}
	}
	who := authz.Identity{Method: authz.MethodMTLS, Certificate: about, Username: about.CommonName}
	if about.CommonName == "" && spiffe != "" {
		who.Username, subject = spiffe, spiffe
	}
	if subject == "" {
		return authz.Identity{}, errors.New("names nobody: it has neither a subject nor a SPIFFE ID")
	}
	who.ID = "mtls:" + issuer + ":" + subject
	return who, nil
}
