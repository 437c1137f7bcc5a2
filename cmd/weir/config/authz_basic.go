package config

import (
	"fmt"
	"strconv"

	"github.com/weir-registry/weir/authz/basic"
)

// Basic are the people who have a name and a password.
type Basic struct {
	// Htpasswd is a file of name:hash lines, which is read again when it changes.
	Htpasswd string `yaml:"htpasswd"`
	Users    []User `yaml:"users"`
}

// User is one of them.
type User struct {
	Name string `yaml:"name"`
	// Hash is the hashed password, Argon2id or bcrypt, as weir hash-password prints it.
	Hash Secret `yaml:"hash"`
}

// IsZero reports whether nobody has a password.
func (b Basic) IsZero() bool { return b.Htpasswd == "" && len(b.Users) == 0 }

// People are the users of the configuration as they are now.
// Errors: those of files that hold hashes, and of hashes that are none.
func (b Basic) People() ([]basic.User, error) {
	people := make([]basic.User, len(b.Users))
	for i, u := range b.Users {
		h, err := u.hash()
		if err != nil {
			return nil, fmt.Errorf("the hash of the user %q: %w", u.Name, err)
		}
		people[i] = basic.User{Name: u.Name, Hash: h}
	}
	return people, nil
}

func (u User) hash() (basic.Hash, error) {
	text, err := u.Hash.Value()
	if err != nil {
		return basic.Hash{}, err
	}
	return basic.ParseHash(text)
}

func (v *validator) basic(b *Basic) {
	const path = "authz.basic"
	listed := map[string]bool{}
	if b.Htpasswd != "" {
		users, err := basic.ReadHtpasswd(b.Htpasswd)
		if err != nil {
			v.fail(path+".htpasswd", "is %s: %s", b.Htpasswd, reason(err))
		}
		for _, u := range users {
			listed[u.Name] = true
		}
	}
	first := map[string]int{}
	for i, u := range b.Users {
		at := path + ".users[" + strconv.Itoa(i) + "]"
		if err := basic.CheckName(u.Name); err != nil {
			v.fail(at+".name", "is none: %v", err)
		} else if j, again := first[u.Name]; again {
			v.fail(at+".name", "is that of users[%d] too", j)
		} else if first[u.Name] = i; listed[u.Name] {
			v.fail(at+".name", "is in %s too", b.Htpasswd)
		}
		if u.Hash.IsZero() {
			v.fail(at+".hash", "is missing: weir hash-password makes one")
		} else if _, err := u.hash(); err != nil {
			v.fail(v.secret(at+".hash", u.Hash), "is %s", of(u.Hash, err))
		}
	}
}

// secret is the key by which a secret is said.
func (v *validator) secret(path string, s Secret) string {
	if s.File() != "" {
		return path + fileSuffix
	}
	return path
}

// of is what the matter is with a secret, with the name of its file if it is in one.
func of(s Secret, err error) string {
	if s.File() != "" {
		return s.File() + ": " + reason(err)
	}
	return reason(err)
}
