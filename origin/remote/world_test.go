package remote_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// world is a network on loopback, where names lead to where the test says and
// 127.0.0.3 and .4 are public, 127.0.0.5 is a private network's, 127.0.0.6 a
// cloud's metadata, and .1 loopback as ever.
type world struct{ names *remotetest.Names }

func (w *world) network() egress.Network {
	return egress.Network{
		Resolver: w.names.Resolver(),
		Proxy:    direct,
		Classify: func(a netip.Addr) egress.Reach {
			switch a.Unmap().String() {
			case "127.0.0.3", "127.0.0.4":
				return egress.Public
			case "127.0.0.5":
				return egress.Internal
			case "127.0.0.6":
				return egress.Never
			}
			return egress.ReachOf(a)
		},
	}
}

// canary is a server that writes down who connects and what it hears.
type canary struct {
	*httptest.Server
	mu    sync.Mutex
	conns int
	reqs  int
	heard bytes.Buffer
}

// listen starts one at an address of loopback; no certificate = http.
func listen(t *testing.T, address string, certificate *tls.Certificate, h http.HandlerFunc) *canary {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &canary{}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true) // of a request that was parsed
		c.mu.Lock()
		c.reqs++
		c.heard.Write(dump)
		c.mu.Unlock()
		h(w, r)
	}))
	_ = c.Listener.Close()
	c.Listener = l
	c.Config.ErrorLog = quiet
	c.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.conns++
		}
	}
	if certificate != nil {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate}, CurvePreferences: []tls.CurveID{tls.X25519}}
		c.StartTLS()
	} else {
		c.Start()
	}
	t.Cleanup(c.Close)
	return c
}

func (c *canary) port() string {
	_, port, _ := net.SplitHostPort(c.Listener.Addr().String())
	return port
}

func (c *canary) count() (conns, reqs int, heard string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns, c.reqs, c.heard.String()
}

// selfSigned is a certificate for all of example.com.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template(), template(), key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func template() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"*.example.com"}, NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
}
