package remote_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
)

// world is a network on loopback, where names lead to where the test says and
// 127.0.0.3 and .4 are public, 127.0.0.5 is a private network's, 127.0.0.6 a
// cloud's metadata, and .1 loopback as ever.
type world struct {
	mu    sync.Mutex
	names map[string][]string // what each look-up of a name gives in turn, the last one for ever
}

func (w *world) network() egress.Network {
	return egress.Network{
		Resolver: &net.Resolver{PreferGo: true, Dial: w.dial},
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

// dial is a connection to the world's name server (RFC 1035, over a stream).
func (w *world) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		for {
			var size uint16
			if binary.Read(server, binary.BigEndian, &size) != nil {
				return
			}
			query := make([]byte, size)
			if _, err := io.ReadFull(server, query); err != nil {
				return
			}
			answer := w.answer(query)
			if _, err := server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
				return
			}
		}
	}()
	return client, nil
}

// answer answers a query for one name.
func (w *world) answer(query []byte) []byte {
	var labels []string
	at := 12
	for query[at] != 0 {
		n := int(query[at])
		labels = append(labels, string(query[at+1:at+1+n]))
		at += 1 + n
	}
	question := query[12 : at+5]
	isA := binary.BigEndian.Uint16(query[at+1:]) == 1
	w.mu.Lock()
	defer w.mu.Unlock()
	name := strings.ToLower(strings.Join(labels, "."))
	turns, known := w.names[name]
	flags, addresses := uint16(0x8180), []string(nil)
	switch {
	case !known:
		flags |= 3 // no such name
	case isA:
		addresses = strings.Fields(turns[0])
		if len(turns) > 1 {
			w.names[name] = turns[1:]
		}
	}
	b := append([]byte{}, query[:2]...)
	for _, v := range []uint16{flags, 1, uint16(len(addresses)), 0, 0} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = append(b, question...)
	for _, a := range addresses {
		b = append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		four := netip.MustParseAddr(a).As4()
		b = append(b, four[:]...)
	}
	return b
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
