package guard

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"strings"

	"github.com/weir-registry/weir/origin"
)

// KeySize is the length of Options.Key, in bytes.
const KeySize = 32

// sealed is what a mark begins with: no name and no tag does.
const sealed = "~"

// marks hide where a page ended that ended at something which is not to be seen: the
// client gives the mark back for the next page, and learns nothing from it.
type marks struct{ aead cipher.AEAD }

// newMarks makes marks that only those of the same key can open; without one it is only
// they themselves: a list that was begun before a restart begins again.
func newMarks(key []byte) *marks {
	if len(key) != KeySize {
		key = make([]byte, KeySize)
		_, _ = rand.Read(key) // never fails
	}
	// Neither fails for a key of this length.
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	return &marks{aead}
}

// seal makes a mark of the list called of.
func (m *marks) seal(of, name string) string {
	// The length must not tell which name it is.
	const block = 64
	padded := name + strings.Repeat("\x00", block-len(name)%block)
	return sealed + base64.RawURLEncoding.EncodeToString(m.aead.Seal(nil, nil, []byte(padded), []byte(of)))
}

// open gives the name in a mark of the list called of, and any other text as it is.
// The mark of another list is none: in a list of one's own it would tell between which
// of one's names the hidden one is. Errors: ErrNameInvalid.
func (m *marks) open(of, after string) (string, error) {
	mark, is := strings.CutPrefix(after, sealed)
	if !is {
		return after, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(mark)
	if err == nil {
		data, err = m.aead.Open(nil, nil, data, []byte(of))
	}
	if err != nil {
		return "", origin.Errorf(origin.ErrNameInvalid, "last is a mark of another list: begin again without it")
	}
	return strings.TrimRight(string(data), "\x00"), nil
}
