package basic

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// longBcrypt is of 72 times "a".
func longBcrypt(t testing.TB) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(strings.Repeat("a", bcryptInput)), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func TestHtpasswd(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want string // names; "!..." is the error
	}{
		"one":              {"ann:" + cheap + "\n", "ann"},
		"no line end":      {"ann:" + cheap, "ann"},
		"two kinds":        {"ann:" + cheap + "\nbob:" + someBcrypt + "\n", "ann bob"},
		"of Windows":       {"ann:" + cheap + "\r\nbob:" + someBcrypt + "\r\n", "ann bob"},
		"remarks":          {"# people\n\n  \nann:" + cheap + "\n#bob:x\n", "ann"},
		"remarks only":     {"# nobody yet\n", ""},
		"any name":         {"Jürgen M. <j@corp>:" + cheap, "Jürgen M. <j@corp>"},
		"empty":            {"", "!it is empty"},
		"blank":            {" \n\n", "!it is empty"},
		"no hash":          {"ann\n", "!line 1: no name:hash"},
		"no name":          {":" + cheap, "!line 1: a user without a name"},
		"plain":            {"ann:" + cheap + "\nbob:hunter2\n", "!line 2: neither Argon2id"},
		"SHA-1":            {"ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n", "!line 1: neither Argon2id"},
		"MD5":              {"\nann:$apr1$Xx$yyyyyyyyyyyyyyyyyyyyyy\n", "!line 2: neither Argon2id"},
		"a third field":    {"ann:" + someBcrypt + ":Ann", "!line 1: no bcrypt hash"},
		"space behind":     {"ann:" + someBcrypt + " \n", "!line 1: no bcrypt hash"},
		"cut":              {"ann:" + cheap + "\nbob:" + someBcrypt[:40], "!line 2: no bcrypt hash"},
		"a hash that ends": {"ann:" + cheap[:len(cheap)-1], "!line 1: no Argon2id hash"},
		"twice":            {"ann:" + cheap + "\n\nann:" + someBcrypt, "!line 3: the user of line 1 again"},
		"control":          {"a\tb:" + cheap, "!line 1: the name of a user holds a control"},
		"no text":          {"a\xff:" + cheap, "!line 1: the name of a user holds a control"},
		"a long name":      {strings.Repeat("a", 256) + ":" + cheap, "!line 1: the name of a user is longer"},
	} {
		t.Run(name, func(t *testing.T) {
			users, err := ParseHtpasswd(test.text)
			if prefix, wrong := strings.CutPrefix(test.want, "!"); wrong {
				if err == nil || !strings.HasPrefix(err.Error(), prefix) || users != nil {
					t.Errorf("%v, %v; want %s", users, err, prefix)
				}
				if err != nil && strings.Contains(err.Error(), "hunter2") {
					t.Error("a line is quoted")
				}
				return
			}
			var names []string
			for _, u := range users {
				names = append(names, u.Name)
			}
			if err != nil || strings.Join(names, " ") != test.want {
				t.Errorf("%q, %v; want %q", names, err, test.want)
			}
		})
	}
}

// FuzzHtpasswd: what parses is a list of users that could be written again and read as
// the same.
func FuzzHtpasswd(f *testing.F) {
	f.Add("ann:" + cheap + "\nbob:" + someBcrypt + "\n")
	f.Add("# x\n\nann:" + cheap + "\r\n")
	f.Add("ann:" + cheap + "\nann:" + cheap)
	f.Add("a:b:c")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := ParseHtpasswd(text)
		if err != nil {
			if users != nil {
				t.Errorf("%v and %v", users, err)
			}
			return
		}
		var b strings.Builder
		b.WriteString("#\n")
		for _, u := range users {
			b.WriteString(u.Name + ":" + u.Hash.Text() + "\n")
		}
		again, err := ParseHtpasswd(b.String())
		if err != nil || len(again) != len(users) {
			t.Fatalf("%q: %v", b.String(), err)
		}
		for i := range again {
			if again[i] != users[i] {
				t.Errorf("%v, and then %v", users[i], again[i])
			}
		}
		if _, err := newSet(users); err != nil {
			t.Error(err)
		}
	})
}
