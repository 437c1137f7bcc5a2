package mtls

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
)

// authorities are certificates that others are believed by.
type authorities struct {
	pool *x509.CertPool
	raw  map[string]bool // DER
}

// parseAuthorities reads PEM. Unlike a pool it takes all of it, or nothing: one that
// is missing is found before its clients are refused. Errors: what is wrong.
func parseAuthorities(text []byte) (*authorities, error) {
	a := &authorities{pool: x509.NewCertPool(), raw: map[string]bool{}}
	// Decode passes over what it cannot read.
	begun, rest := bytes.Count(text, []byte("-----BEGIN ")), text
	for n := 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if n <= begun {
				return nil, fmt.Errorf("block %d in it is no PEM", n)
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a %s in it: only certificates belong there", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("block %d in it: %w", n, err)
		}
		a.pool.AddCert(c)
		a.raw[string(c.Raw)] = true
	}
	if len(a.raw) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return a, nil
}

// CheckAuthorities says what is wrong with a file of authorities that clients are to be
// believed by; text is what is in it.
func CheckAuthorities(text []byte) error {
	_, err := parseAuthorities(text)
	return err
}

func (a *authorities) equal(b *authorities) bool {
	if a == nil || b == nil {
		return a == b
	}
	return maps.Equal(a.raw, b.raw)
}

// lead reports whether a verified chain ends at one of them.
func (a *authorities) lead(chain []*x509.Certificate) bool {
	return len(chain) > 0 && a.raw[string(chain[len(chain)-1].Raw)]
}
