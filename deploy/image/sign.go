package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// What a signature is made of: a statement about a digest, in an envelope that is signed,
// in the bundle that cosign verifies and finds among referrers.
const (
	bundleType    = types.MediaType("application/vnd.dev.sigstore.bundle.v0.3+json")
	statementType = "https://in-toto.io/Statement/v1"
	payloadType   = "application/vnd.in-toto+json"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

// signer signs with a key that somebody keeps in a file.
type signer struct{ key *ecdsa.PrivateKey }

var _ dsse.Signer = (*signer)(nil)

// openSigner reads a private key: as openssl writes it, or as cosign does, which encrypts
// it with a password.
func openSigner(name, password string) (*signer, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", name)
	}
	key, err := parseKey(block, password)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s is no ECDSA key on P-256", name)
	}
	return &signer{ec}, nil
}

func parseKey(block *pem.Block, password string) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		der, err := encrypted.Decrypt(block.Bytes, []byte(password))
		if err != nil {
			return nil, fmt.Errorf("COSIGN_PASSWORD does not open it: %w", err)
		}
		return x509.ParsePKCS8PrivateKey(der)
	}
	return nil, errors.New("is no private key but " + block.Type)
}

// Sign implements dsse.Signer. Without a source of random numbers the signature follows
// from key and data.
func (s *signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return s.key.Sign(nil, sum[:], crypto.SHA256)
}

// KeyID implements dsse.Signer: whoever verifies is given the key.
func (s *signer) KeyID() (string, error) { return "", nil }

// hint says which key it was, as cosign does: the digest of the public one.
func (s *signer) hint() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// statement is what is signed: that this digest is meant.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     struct{}  `json:"predicate"`
}

type subject struct {
	Digest map[string]string `json:"digest"`
}

// sigstoreBundle is one for a key that is known otherwise: no certificate, no log.
type sigstoreBundle struct {
	MediaType types.MediaType `json:"mediaType"`
	Material  struct {
		PublicKey struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
	} `json:"verificationMaterial"`
	Envelope *dsse.Envelope `json:"dsseEnvelope"`
}

// sign makes the signature of a manifest.
func (s *signer) sign(ctx context.Context, r release, what v1.Descriptor) (v1.Image, error) {
	said, err := json.Marshal(statement{
		Type:          statementType,
		Subject:       []subject{{map[string]string{what.Digest.Algorithm: what.Digest.Hex}}},
		PredicateType: signPredicate,
	})
	if err != nil {
		return nil, err
	}
	envelopes, err := dsse.NewEnvelopeSigner(s)
	if err != nil {
		return nil, err
	}
	b := sigstoreBundle{MediaType: bundleType}
	if b.Envelope, err = envelopes.SignPayload(ctx, payloadType, said); err != nil {
		return nil, err
	}
	if b.Material.PublicKey.Hint, err = s.hint(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return newArtifact(what, bundleType, text, map[string]string{
		annotationCreated:                   r.timestamp(),
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": signPredicate,
	})
}
