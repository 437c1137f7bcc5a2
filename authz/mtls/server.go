package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/store/watch"
)

// Options say which files a Server is made of.
type Options struct {
	// Certificate and Key are of the server: its chain, and the key of the first.
	Certificate, Key string
	// ClientCA are the authorities whose certificates clients may show; "": clients
	// are not asked for any.
	ClientCA string
	// Required refuses clients that show none.
	Required bool
	// HTTP2 offers HTTP/2.
	HTTP2 bool
	// Failed is told, once per change, why changed files are not used; nil: nobody is.
	Failed func(error)
}

// Server is a server's side of TLS.
type Server struct {
	o     Options
	files *watch.Files[*state]
	// known are the identities of certificates that were seen last. It spares most of
	// what a request on an open connection costs; whether a certificate still counts
	// is not kept.
	known *lru.Cache[*x509.Certificate, authz.Identity]
	now   func() time.Time
}

// seen is how many certificates a Server knows the identities of: a few KiB each.
const seen = 1024

// state is what the files say. It does not change.
type state struct {
	config  *tls.Config
	clients *authorities // nil: no certificates are asked for
	// tickets is what sessions are sealed with, by keys that it renews itself. It is
	// another one when the authorities are: what was verified by the old ones is not
	// taken up again.
	tickets *tls.Config
}

// Open reads the files. Errors: those of the files, with their names.
func Open(o Options) (*Server, error) {
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	known, err := lru.New[*x509.Certificate, authz.Identity](seen)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, known: known, now: time.Now}
	var last *state
	read := func() (*state, error) {
		next, err := s.read(last)
		if err == nil {
			last = next
		}
		return next, err
	}
	if s.files, err = watch.Open([]string{o.Certificate, o.Key, o.ClientCA}, read, o.Failed); err != nil {
		return nil, err
	}
	return s, nil
}

// Config is for listeners. It has each handshake follow the files as they are then.
func (s *Server) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: s.protocols(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.files.Value().config, nil
		},
	}
}

// Look takes up at once what changed in the files.
func (s *Server) Look(now time.Time) { s.files.Look(now) }

// Identifies reports whether clients are asked for certificates.
func (s *Server) Identifies() bool { return s.o.ClientCA != "" }

func (s *Server) protocols() []string {
	if s.o.HTTP2 {
		return []string{"h2", "http/1.1"}
	}
	return []string{"http/1.1"}
}

// read makes a state of the files; last is the one before, or nil.
func (s *Server) read(last *state) (*state, error) {
	pair, err := tls.LoadX509KeyPair(s.o.Certificate, s.o.Key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", s.o.Certificate, s.o.Key, err)
	}
	next := &state{config: &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   s.protocols(),
		Certificates: []tls.Certificate{pair},
	}}
	if s.o.ClientCA != "" {
		text, err := os.ReadFile(s.o.ClientCA)
		if err != nil {
			return nil, err
		}
		if next.clients, err = parseAuthorities(text); err != nil {
			return nil, fmt.Errorf("%s: %w", s.o.ClientCA, err)
		}
		next.config.ClientAuth = tls.VerifyClientCertIfGiven
		if s.o.Required {
			next.config.ClientAuth = tls.RequireAndVerifyClientCert
		}
		next.config.ClientCAs = next.clients.pool
	}
	if last != nil && last.clients.equal(next.clients) {
		next.tickets = last.tickets
	} else {
		next.tickets = &tls.Config{}
	}
	next.config.WrapSession = next.tickets.EncryptTicket
	next.config.UnwrapSession = next.tickets.DecryptTicket
	return next, nil
}

// verified gives a chain by which a client's certificate still counts: it leads to an
// authority that is believed now, and nothing in it has lapsed.
func (s *Server) verified(chains [][]*x509.Certificate) []*x509.Certificate {
	clients, now := s.files.Value().clients, s.now()
	if clients == nil {
		return nil
	}
	for _, chain := range chains {
		if clients.lead(chain) && valid(chain, now) {
			return chain
		}
	}
	return nil
}

func valid(chain []*x509.Certificate, now time.Time) bool {
	for _, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return false
		}
	}
	return true
}
