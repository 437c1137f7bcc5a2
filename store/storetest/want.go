package storetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// last gives the error that a listing ends with.
func last[T any](seq func(func(T, error) bool)) error {
	var last error
	for _, err := range seq {
		last = err
	}
	return last
}

// random gives n bytes, the same for the same n.
func random(n int) []byte {
	data := make([]byte, n)
	var seed [32]byte
	seed[0] = byte(n)
	rand.NewChaCha8(seed).Read(data)
	return data
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func wantBytes(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want %d others", len(got), len(want))
	}
}
