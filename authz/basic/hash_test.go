package basic

import (
	"fmt"
	"strings"
	"testing"
)

// What others have made: phc-winner-argon2's test.c, Openwall's crypt_blowfish.
const (
	someArgon2 = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc" // password
	someBcrypt = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"                           // U*U
	// cheap costs next to nothing; what it is of, nobody knows.
	cheap = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
)

func TestHash(t *testing.T) {
	long := strings.Repeat("a", 80)
	own := NewHash("hunter2").Text()
	for _, test := range []struct {
		hash, password string
		want           bool
	}{
		{someArgon2, "password", true},
		{someArgon2, "password ", false},
		{someArgon2, "", false},
		{someBcrypt, "U*U", true},
		{someBcrypt, "U*", false},
		{strings.Replace(someBcrypt, "$2a$", "$2b$", 1), "U*U", true},
		{strings.Replace(someBcrypt, "$2a$", "$2y$", 1), "U*U", true},
		{own, "hunter2", true},
		{own, "hunter", false},
		// bcrypt reads 72 bytes: this is of 72 times "a".
		{longBcrypt(t), long[:72], true},
		{longBcrypt(t), long[:73], false},
		{longBcrypt(t), long[:71], false},
	} {
		h, err := ParseHash(test.hash)
		if err != nil {
			t.Fatalf("%s: %v", test.hash, err)
		}
		if got := h.matches(test.password); got != test.want {
			t.Errorf("%s matches %q: %v", test.hash, test.password, got)
		}
		if h.Text() != test.hash {
			t.Errorf("%s is written as %s", test.hash, h.Text())
		}
		for _, shown := range []string{fmt.Sprint(h), fmt.Sprintf("%+v", h), fmt.Sprintf("%#v", h), fmt.Sprint([]User{{"u", h}})} {
			if strings.Contains(shown, "$") || strings.Contains(shown, "somesalt") {
				t.Errorf("a hash shows itself: %s", shown)
			}
		}
	}
	if one, other := NewHash("a"), NewHash("a"); one == other {
		t.Error("one salt for two hashes")
	}
}

func TestHashRefused(t *testing.T) {
	const salt, sum = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, hash := range []string{
		"", "x", "hunter2", "$", "$argon2id$", "$2a$", "$2y$05$",
		"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "$apr1$Xx$yyyyyyyyyyyyyyyyyyyyyy", "$1$a$b", "$5$a$b", "$6$a$b", "$y$j9T$a$b", "$2$05$" + someBcrypt[7:],
		"$argon2i$v=19$m=8,t=1,p=1$" + salt + "$" + sum,
		"$argon2d$v=19$m=8,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=16$m=8,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$m=8,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=8,t=1$" + salt + "$" + sum,
		"$argon2id$v=19$t=1,m=8,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=8,t=1,p=1,keyid=a$" + salt + "$" + sum,
		"$argon2id$v=19$m=8,t=1,p=0$" + salt + "$" + sum,
		"$argon2id$v=19$m=8,t=0,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=7,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=15,t=1,p=2$" + salt + "$" + sum,
		"$argon2id$v=19$m=08,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=+8,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=-8,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=8 ,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=262144,t=5,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=4294967295,t=4294967295,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=99999999999999999999,t=1,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=8,t=65,p=1$" + salt + "$" + sum,
		"$argon2id$v=19$m=8000,t=1,p=65$" + salt + "$" + sum,
		"$argon2id$v=19$m=8,t=1,p=1$c29tc2Fs$" + sum, // 6 bytes
		"$argon2id$v=19$m=8,t=1,p=1$" + strings.Repeat("AAAA", 22) + "$" + sum,
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$AAAA",
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + strings.Repeat("AAAA", 22),
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + sum + "=",
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + sum[:42] + "d", // bits that no byte has
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "\n$" + sum,
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + sum + "\n",
		"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + sum + "$",
		" $argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + sum,
		"$2x$" + someBcrypt[4:],
		someBcrypt[:59], someBcrypt + "a", someBcrypt[:59] + "*",
		"$2b$03$" + someBcrypt[7:],
		"$2b$16$" + someBcrypt[7:],
		"$2b$32$" + someBcrypt[7:],
		"$2b$ 5$" + someBcrypt[7:],
		"$2b$-5$" + someBcrypt[7:],
	} {
		h, err := ParseHash(hash)
		if err == nil {
			t.Errorf("%q is %v", hash, h)
		} else if len(hash) > 20 && strings.Contains(err.Error(), hash[len(hash)-20:]) {
			t.Errorf("%q is quoted: %v", hash, err)
		}
	}
}

// FuzzHash: what parses is written as it came, and costs no more than it may.
func FuzzHash(f *testing.F) {
	for _, s := range []string{someArgon2, someBcrypt, cheap, "$argon2id$v=19$m=262144,t=4,p=64$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "$2b$15$" + someBcrypt[7:]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		if err != nil {
			if h != (Hash{}) {
				t.Errorf("%q is %v, and %v", s, h, err)
			}
			return
		}
		c := h.cost
		if h.Text() != s || c.dummy().cost != c || c.memory > maxMemory || uint64(c.memory)*uint64(c.passes) > maxWork || c.bcrypt > maxBcrypt {
			t.Errorf("%q is %+v", s, c)
		}
		if c.bcrypt == 0 && (c.passes == 0 || c.lanes == 0 || c.memory < 8*uint32(c.lanes)) {
			t.Errorf("%q is %+v, which cannot be computed", s, c)
		}
		if d := c.dummy(); c.bcrypt > 0 {
			if again, err := ParseHash(d.text); err != nil || again.cost != c {
				t.Errorf("the dummy for %q is %q: %v", s, d.text, err)
			}
		}
	})
}
