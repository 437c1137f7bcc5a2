package remotetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"
)

// Outage is a way in which an upstream stops giving what it has.
type Outage struct {
	Name  string
	TLS   bool // only of an upstream of NewTLS
	Begin func(u *Upstream)

	// What is to be thought of it.
	Gone    bool // it says that it has it not, or shows it not
	Limited bool // it wants fewer requests
	Silent  bool // it does not answer
}

// Outages gives all of them. None ends before the upstream does.
func Outages() []Outage {
	all := func(f Fault) func(*Upstream) { return func(u *Upstream) { u.Fault("", f) } }
	return []Outage{
		{Name: "connections are refused", Begin: (*Upstream).Refuse},
		{Name: "hangs", Begin: all(Hang()), Silent: true},
		{Name: "401", Begin: all(Status(http.StatusUnauthorized)), Gone: true},
		{Name: "403", Begin: all(Status(http.StatusForbidden)), Gone: true},
		{Name: "404", Begin: all(Status(http.StatusNotFound)), Gone: true},
		{Name: "410", Begin: all(Status(http.StatusGone)), Gone: true},
		{Name: "429", Begin: all(Status(http.StatusTooManyRequests, "Retry-After", "3600")), Limited: true},
		{Name: "500", Begin: all(Status(http.StatusInternalServerError))},
		{Name: "503", Begin: all(Status(http.StatusServiceUnavailable, "Retry-After", "3600"))},
		{Name: "another certificate", TLS: true, Begin: (*Upstream).Impostor},
		{Name: "a web page", Begin: all(HTML())},
		{Name: "garbage", Begin: all(Garbage())},
	}
}

// Refuse ends all connections and takes no more.
func (u *Upstream) Refuse() {
	u.mu.Lock()
	servers := u.servers
	u.mu.Unlock()
	for _, s := range servers {
		_ = s.Listener.Close() // there is nothing to be done if it was closed
		s.CloseClientConnections()
	}
}

// Impostor ends all connections of an upstream with TLS, and shows those who come
// now a certificate that nobody has heard of.
func (u *Upstream) Impostor() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		u.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "impostor"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		u.t.Fatal(err)
	}
	u.mu.Lock()
	u.shown = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	servers := u.servers
	u.mu.Unlock()
	for _, s := range servers {
		s.CloseClientConnections()
	}
}

// impostor gives the configuration of connections after Impostor, nil before.
func (u *Upstream) impostor(*tls.ClientHelloInfo) (*tls.Config, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.shown == nil {
		return nil, nil
	}
	return &tls.Config{Certificates: []tls.Certificate{*u.shown}}, nil
}

// Garbage answers with bytes that are not HTTP, on an HTTP/1.1 connection.
func Garbage() Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = fmt.Fprint(conn, "\x00\x01\x02 220 this is not what you were looking for\r\n\r\n")
			_ = conn.Close()
		})
	}
}
