package basic

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What NewHash makes: the least that OWASP's cheat sheet on password storage takes,
// some 40 ms on one core. A registry's clients log in all the time.
const (
	newMemory = 19 << 10 // KiB
	newPasses = 2
	newLanes  = 1
	newSalt   = 16 // bytes
	newSum    = 32
)

// What a hash may cost: whoever asks makes weir compute it.
const (
	maxMemory = 256 << 10 // KiB
	maxWork   = 1 << 20   // KiB times passes: some two seconds
	maxPasses = 64
	maxLanes  = 64
	leastSalt = 8 // bytes
	maxSalt   = 64
	leastSum  = 16
	maxSum    = 64

	// maxBcrypt is the highest cost: some two seconds.
	maxBcrypt = 15
	// bcryptInput is how much of a password bcrypt reads.
	bcryptInput = 72
	// bcryptLength is that of a bcrypt hash: $2b$, cost, $, and 53 characters.
	bcryptLength = 60
)

// MaxPassword is the longest password, in bytes.
const MaxPassword = 1024

var (
	errKind   = errors.New("neither Argon2id ($argon2id$...) nor bcrypt ($2a$, $2b$, $2y$)")
	errArgon2 = errors.New("no Argon2id hash as $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH")
	errBcrypt = errors.New("no bcrypt hash as $2b$10$ and 53 characters")
)

// Hash is a hashed password. It is comparable; the zero Hash is none.
type Hash struct {
	text string // as it is written
	cost cost
	// salt and sum of Argon2id, as bytes.
	salt, sum string
}

// cost is what decides how long a hash takes.
type cost struct {
	bcrypt         int // 0: Argon2id
	memory, passes uint32
	lanes          uint8
	salt, sum      int // bytes
}

// ParseHash parses an Argon2id hash in the format of the PHC, with version 19 and the
// parameters m, t and p, or a bcrypt hash. What would cost too much is refused: over
// 256 MiB or some two seconds. No error quotes the hash.
func ParseHash(s string) (Hash, error) {
	switch {
	case strings.HasPrefix(s, "$argon2id$"):
		return parseArgon2(s)
	case strings.HasPrefix(s, "$2a$"), strings.HasPrefix(s, "$2b$"), strings.HasPrefix(s, "$2y$"):
		return parseBcrypt(s)
	default:
		return Hash{}, errKind
	}
}

func parseArgon2(s string) (Hash, error) {
	parts := strings.Split(s, "$") // "", argon2id, v, parameters, salt, sum
	if len(parts) != 6 || parts[2] != "v=19" {
		return Hash{}, errArgon2
	}
	var numbers [3]uint32
	parameters := strings.Split(parts[3], ",")
	if len(parameters) != len(numbers) {
		return Hash{}, errArgon2
	}
	for i, key := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(parameters[i], key)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || digits[0] == '0' || digits[0] == '+' {
			return Hash{}, errArgon2
		}
		numbers[i] = uint32(n)
	}
	memory, passes, lanes := numbers[0], numbers[1], numbers[2]
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	switch {
	case err1 != nil, err2 != nil, strings.ContainsAny(s, "\r\n"): // which the decoder passes over
		return Hash{}, errArgon2
	case lanes > maxLanes, passes > maxPasses, memory > maxMemory, uint64(memory)*uint64(passes) > maxWork:
		return Hash{}, fmt.Errorf("an Argon2id hash that costs too much: at most m=%d, t=%d, p=%d, and m times t at most %d", maxMemory, maxPasses, maxLanes, maxWork)
	case memory < 8*lanes: // RFC 9106, 3.1
		return Hash{}, errors.New("an Argon2id hash with less than 8 KiB for each lane")
	case len(salt) < leastSalt, len(salt) > maxSalt:
		return Hash{}, fmt.Errorf("an Argon2id hash whose salt has not %d to %d bytes", leastSalt, maxSalt)
	case len(sum) < leastSum, len(sum) > maxSum:
		return Hash{}, fmt.Errorf("an Argon2id hash that has not %d to %d bytes", leastSum, maxSum)
	}
	c := cost{memory: memory, passes: passes, lanes: uint8(lanes), salt: len(salt), sum: len(sum)}
	return Hash{text: s, cost: c, salt: string(salt), sum: string(sum)}, nil
}

func parseBcrypt(s string) (Hash, error) {
	if len(s) != bcryptLength || s[6] != '$' || strings.ContainsFunc(s[7:], func(r rune) bool { return !strings.ContainsRune(bcryptAlphabet, r) }) {
		return Hash{}, errBcrypt
	}
	n, err := bcrypt.Cost([]byte(s))
	if err != nil {
		return Hash{}, errBcrypt
	}
	if n > maxBcrypt {
		return Hash{}, fmt.Errorf("a bcrypt hash that costs too much: at most %d, not %d", maxBcrypt, n)
	}
	return Hash{text: s, cost: cost{bcrypt: n}}, nil
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// NewHash hashes a password as Argon2id, with a new salt.
func NewHash(password string) Hash {
	salt := make([]byte, newSalt)
	_, _ = rand.Read(salt) // it never fails
	sum := argon2.IDKey([]byte(password), salt, newPasses, newMemory, newLanes, newSum)
	encode := base64.RawStdEncoding.EncodeToString
	h, err := ParseHash(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, newMemory, newPasses, newLanes, encode(salt), encode(sum)))
	if err != nil {
		panic("basic: " + err.Error())
	}
	return h
}

// Text is the hash as it is written: whoever has it can try passwords.
func (h Hash) Text() string { return h.text }

// String says of what kind it is, and no more.
func (h Hash) String() string {
	if h.cost.bcrypt > 0 {
		return fmt.Sprintf("bcrypt, cost %d", h.cost.bcrypt)
	}
	return fmt.Sprintf("Argon2id, m=%d,t=%d,p=%d", h.cost.memory, h.cost.passes, h.cost.lanes)
}

// GoString is String.
func (h Hash) GoString() string { return h.String() }

// matches computes whether a password is the one. It takes as long whether it is or not.
func (h Hash) matches(password string) bool {
	if c := h.cost; c.bcrypt == 0 {
		sum := argon2.IDKey([]byte(password), []byte(h.salt), c.passes, c.memory, c.lanes, uint32(c.sum))
		return subtle.ConstantTimeCompare(sum, []byte(h.sum)) == 1
	}
	// What follows bcrypt would not read, and take any end for the right one.
	whole := len(password) <= bcryptInput
	return bcrypt.CompareHashAndPassword([]byte(h.text), []byte(password[:min(len(password), bcryptInput)])) == nil && whole
}

// dummy is a hash of the same cost that no password is known for.
func (c cost) dummy() Hash {
	if c.bcrypt > 0 {
		const characters = bcryptLength - 7
		return Hash{cost: c, text: fmt.Sprintf("$2b$%02d$%s", c.bcrypt, strings.Repeat(".", characters))}
	}
	return Hash{cost: c, salt: strings.Repeat("\x00", c.salt), sum: strings.Repeat("\x00", c.sum)}
}
