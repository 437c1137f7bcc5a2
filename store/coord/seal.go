package coord

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/weir-registry/weir/store"
)

const (
	macLen = 16 // bytes that are kept of an HMAC-SHA256
	// KeyRecord is where the key is that the replicas of one store have in common.
	KeyRecord = "coord/key"
)

// SharedKey gives the key that all processes over the same records have in common: made
// once, by whichever comes first. Errors: those of the records.
func SharedKey(ctx context.Context, records store.Records) ([]byte, error) {
	rec, err := records.Get(ctx, KeyRecord)
	if errors.Is(err, store.ErrNotFound) {
		fresh := make([]byte, sha256.Size)
		_, _ = rand.Read(fresh) // never fails
		_, err = records.Put(ctx, KeyRecord, []byte(hex.EncodeToString(fresh)), store.Absent())
		if err == nil || errors.Is(err, store.ErrConflict) {
			rec, err = records.Get(ctx, KeyRecord)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key of the replicas: %w", err)
	}
	key, err := hex.DecodeString(string(rec.Data))
	if err != nil || len(key) != sha256.Size {
		return nil, errors.New("key of the replicas: damaged record")
	}
	return key, nil
}

// Derive gives a key for one purpose from the one that the replicas share.
func Derive(key []byte, purpose string) []byte { return mac(key, "derive", purpose) }

// mac is the HMAC of several texts, none of which can be taken for another's part.
func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p) // never fails
	}
	return h.Sum(nil)
}

// seal puts a MAC over a value, and over what it is the value of, before it.
func seal(key []byte, what, name string, data []byte) []byte {
	return append(mac(key, what, name, string(data))[:macLen:macLen], data...)
}

// unseal gives a value that seal has sealed under the same names.
func unseal(key []byte, what, name string, sealed []byte) ([]byte, bool) {
	if len(sealed) < macLen {
		return nil, false
	}
	data := sealed[macLen:]
	return data, hmac.Equal(sealed[:macLen], mac(key, what, name, string(data))[:macLen])
}
