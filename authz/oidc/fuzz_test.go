package oidc

import (
	"errors"
	"testing"

	"github.com/weir-registry/weir/authz"
)

// FuzzToken shows anything as a token of a provider that has keys.
func FuzzToken(f *testing.F) {
	k := someKeys()
	p := newProvider("https://op.example", public("1", &k.rsa.PublicKey), public("2", &k.rsa2.PublicKey))
	for _, token := range badTokens(p, nil, map[string]signingKeys{p.url: k}) {
		f.Add(token)
	}
	a, err := New([]Provider{of(p, "corp")}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	f.Fuzz(func(t *testing.T, token string) {
		for _, r := range []string{"bearer", "basic"} {
			request := bearer(token)
			if r == "basic" {
				request = password("ann", token)
			}
			if who, err := a.Authenticate(request); !errors.Is(err, authz.ErrNone) || who.Authenticated() {
				t.Errorf("%s %q: for %q, %v", r, token, who.ID, err)
			}
		}
	})
}

// FuzzObject: what is read is UTF-8 and has each name once.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":2}`, `{"a":{"b":[null,true,"\ud800"]}}`, `[]`, `{"a":1}x`, "{\"\xff\":1}", `{"a"`, ` {"a":"\"]"} `, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		members, err := object(text)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Error(err)
			}
			return
		}
		again, err := object([]byte(encode(members)))
		if err != nil || encode(again) != encode(members) {
			t.Errorf("%q is read as %v, then as %v (%v)", text, members, again, err)
		}
	})
}

// FuzzSet: no set of keys breaks anything, and it gives no key but public ones.
func FuzzSet(f *testing.F) {
	k := someKeys()
	for _, s := range []string{`{"keys":[]}`, `{"keys":[` + encode(public("1", &k.ec.PublicKey)) + `]}`, `{"keys":[null,7,{}]}`, `{"keys":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSet(text)
		if err != nil {
			return
		}
		for _, key := range s.keys {
			if !key.IsPublic() || !key.Valid() {
				t.Errorf("%+v is taken", key)
			}
		}
		for _, alg := range append(Algorithms(), "HS256", "none", "") {
			s.find("1", alg)
			s.find("", alg)
		}
	})
}
