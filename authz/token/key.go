package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

const (
	// leastKey is how many characters a key for HMAC has at least.
	leastKey = 32
	// leastRSA is how many bits an RSA key has at least.
	leastRSA = 2048
	// glance is how often, at most, a key is read again.
	glance = time.Second
)

// kind is what a token is for. It stands in its header, as RFC 8725, 3.11, wants it.
type kind string

const (
	access  kind = "weir-access+jwt"
	refresh kind = "weir-refresh+jwt"
)

// Key signs tokens, and tells those that it signed.
type Key struct {
	algorithm jose.SignatureAlgorithm
	public    any
	seals     map[kind]seal
}

// seal is how one kind of token is signed.
type seal struct {
	header string // the first part of each such token
	signer jose.Signer
}

// ParseKey makes a Key of a text: a PEM block with a private key (RSA of 2048 bits or
// more, ECDSA over P-256, P-384 or P-521, Ed25519), or else at least 32 characters for
// HMAC with SHA-256. No error quotes the text.
func ParseKey(text string) (*Key, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
		private, err := parsePEM(text)
		if err != nil {
			return nil, err
		}
		return newKey(private)
	}
	if n := utf8.RuneCountInString(text); n < leastKey {
		return nil, fmt.Errorf("it has %d characters: at least %d are needed, or a PEM block with a private key", n, leastKey)
	}
	return newKey([]byte(text))
}

func parsePEM(text string) (crypto.Signer, error) {
	block, rest := pem.Decode([]byte(strings.TrimSpace(text)))
	switch {
	case block == nil:
		return nil, errors.New("it is no PEM block")
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("something follows its PEM block: one private key is needed")
	}
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errors.New("its PEM block is no private key that is not encrypted")
	}
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("its PEM block holds no private key that can sign")
	}
	return signer, nil
}

func newKey(private any) (*Key, error) {
	k := &Key{seals: map[kind]seal{}}
	switch p := private.(type) {
	case []byte:
		k.algorithm, k.public = jose.HS256, p
	case *rsa.PrivateKey:
		if p.N.BitLen() < leastRSA {
			return nil, fmt.Errorf("it is an RSA key of %d bits: at least %d are needed", p.N.BitLen(), leastRSA)
		}
		k.algorithm, k.public = jose.RS256, p.Public()
	case ed25519.PrivateKey:
		k.algorithm, k.public = jose.EdDSA, p.Public()
	case *ecdsa.PrivateKey:
		k.public = p.Public()
		switch p.Curve.Params().BitSize {
		case 256:
			k.algorithm = jose.ES256
		case 384:
			k.algorithm = jose.ES384
		case 521:
			k.algorithm = jose.ES512
		default:
			return nil, errors.New("it is an ECDSA key over a curve that is not P-256, P-384 or P-521")
		}
	default:
		return nil, errors.New("it is neither an RSA, an ECDSA nor an Ed25519 key")
	}
	for _, what := range []kind{access, refresh} {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.algorithm, Key: private}, (&jose.SignerOptions{}).WithType(jose.ContentType(what)))
		if err != nil {
			return nil, fmt.Errorf("it cannot sign: %w", err)
		}
		sample, err := sign(signer, nil)
		if err != nil {
			return nil, fmt.Errorf("it cannot sign: %w", err)
		}
		header, _, _ := strings.Cut(sample, ".")
		k.seals[what] = seal{header, signer}
	}
	return k, nil
}

func sign(s jose.Signer, payload []byte) (string, error) {
	signed, err := s.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// sign makes a token.
func (k *Key) sign(what kind, payload []byte) (string, error) {
	return sign(k.seals[what].signer, payload)
}

// errForeign says that a token is none that this key signed as that kind.
var errForeign = errors.New("token: not one of ours")

// open gives the payload of a token. Errors: errForeign.
func (k *Key) open(what kind, token string) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(token) > MaxToken || len(parts) != 3 || parts[0] != k.seals[what].header {
		return nil, errForeign
	}
	// One token is one text: not one of several that decode alike.
	for _, part := range parts[1:] {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, errForeign
		}
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{k.algorithm})
	if err != nil {
		return nil, errForeign
	}
	payload, err := signed.Verify(k.public)
	if err != nil {
		return nil, errForeign
	}
	return payload, nil
}

// Source gives the key that counts now. Its errors say that it cannot be had now.
type Source func(ctx context.Context) (*Key, error)

// Keeper keeps one value for all replicas.
type Keeper interface {
	// Keep gives the value that is kept. Where there is none it keeps the one that it is
	// given; of several who do so at once all are given the same.
	Keep(ctx context.Context, value []byte) ([]byte, error)
}

// Kept is a key that is made once and kept. It is asked for when it is first needed.
func Kept(k Keeper) Source {
	var key atomic.Pointer[Key]
	return func(ctx context.Context) (*Key, error) {
		if have := key.Load(); have != nil {
			return have, nil
		}
		text, err := k.Keep(ctx, []byte(rand.Text()+rand.Text()))
		if err != nil {
			return nil, fmt.Errorf("the key for tokens: %w", err)
		}
		have, err := ParseKey(string(text))
		if err != nil {
			return nil, fmt.Errorf("the key for tokens that is kept: %w", err)
		}
		key.CompareAndSwap(nil, have)
		return key.Load(), nil
	}
}

// Written is a key as ParseKey reads it. It is read again, once a second at most; while
// it is no good the last good one goes on, and failed is told why, once per change. What
// another key signed does not count any more. Errors: those of the first reading.
func Written(read func() (string, error), failed func(error)) (Source, error) {
	text, err := read()
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, err
	}
	var (
		mu     sync.Mutex
		looked = time.Now()
		last   string // the last complaint
	)
	complain := func(err error) {
		if err.Error() != last {
			last = err.Error()
			failed(err)
		}
	}
	return func(context.Context) (*Key, error) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if now.Sub(looked) < glance {
			return key, nil
		}
		looked = now
		changed, err := read()
		if err != nil {
			complain(err)
			return key, nil
		}
		if changed == text {
			last = ""
			return key, nil
		}
		parsed, err := ParseKey(changed)
		if err != nil {
			complain(err)
			return key, nil
		}
		text, key, last = changed, parsed, ""
		return key, nil
	}, nil
}
