// Package mtlstest makes certificates for tests, and the files that they are in.
package mtlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	Pair
	serial atomic.Int64
}

// Pair is a certificate and its key.
type Pair struct {
	Leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority that is called name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{}
	a.Pair = a.Issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// Issue signs a certificate that is like c, and lasts for an hour unless c says
// something else. The first one of an Authority is its own.
func (a *Authority) Issue(t testing.TB, c *x509.Certificate) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := *c
	made.SerialNumber = big.NewInt(a.serial.Add(1))
	if made.NotAfter.IsZero() {
		made.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.Leaf, a.key
	if parent == nil {
		parent, signer = &made, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &made, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{leaf, key}
}

// Server is what a server on this machine shows.
func Server() *x509.Certificate {
	return &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// Client is what a client shows that has that common name.
func Client(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// TLS gives the pair as package tls has it.
func (p Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Leaf.Raw}, PrivateKey: p.key, Leaf: p.Leaf}
}

// Pool is the pool that has this certificate alone.
func (p Pair) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Leaf)
	return pool
}

// CertificatePEM gives the certificate as a file holds it.
func (p Pair) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Leaf.Raw})
}

// KeyPEM gives the key as a file holds it.
func (p Pair) KeyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Files are where a server has its certificate, its key and the authorities of its
// clients.
type Files struct{ Certificate, Key, ClientCA string }

// NewFiles names files of an empty directory.
func NewFiles(t testing.TB) Files {
	dir := t.TempDir()
	return Files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")}
}

// Put replaces a file in one step. It looks as if it had been so for a minute, so that
// it is read at the next look.
func Put(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	changed := time.Now().Add(-time.Minute)
	if err := os.Chtimes(file+".new", changed, changed); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// PutPair replaces the server's certificate and key.
func (f Files) PutPair(t testing.TB, p Pair) {
	t.Helper()
	Put(t, f.Certificate, p.CertificatePEM())
	Put(t, f.Key, p.KeyPEM(t))
}
