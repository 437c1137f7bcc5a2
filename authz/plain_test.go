package authz_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
)

func everyField() authz.Identity {
	return authz.Identity{
		ID: "oidc:github:me", Username: "me", Groups: []string{"a", "b"}, Method: authz.MethodToken,
		Certificate: &authz.Certificate{CommonName: "cn", Organizations: []string{"o"}, DNSNames: []string{"d"}, URIs: []string{"u"}},
		OIDC:        &authz.OIDC{Provider: "github", Subject: "me", Claims: map[string]any{"ref": "main", "n": 1.5}},
		Scope:       authz.Scope{{Type: "repository", Name: "a", Actions: []string{"pull"}}},
		Client:      authz.Client{IP: netip.MustParseAddr("::ffff:192.0.2.7"), Local: true},
	}
}

// change makes another value of what v is, in place.
func change(t *testing.T, v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.8")))
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.Kind() == reflect.Slice:
		v.Set(v.Slice(0, v.Len()-1))
	case v.Kind() == reflect.Map:
		v.Set(reflect.ValueOf(map[string]any{"ref": "other"}))
	default:
		t.Fatalf("a %s: decide how it is a part of the key", v.Type())
	}
}

// TestKeyHoldsAllOfAnIdentity: whatever is added to one tells two apart, unless
// somebody decides otherwise here.
func TestKeyHoldsAllOfAnIdentity(t *testing.T) {
	was, ok := everyField().Key()
	if again, _ := everyField().Key(); !ok || again != was {
		t.Fatal("not the same key twice")
	}
	differs := func(path string, i authz.Identity, want bool) {
		t.Helper()
		if key, ok := i.Key(); !ok || (key != was) != want {
			t.Errorf("with another %s the key differs: %v", path, key != was)
		}
	}
	kind := reflect.TypeFor[authz.Identity]()
	for n := range kind.NumField() {
		i := everyField()
		field, path := reflect.ValueOf(&i).Elem().Field(n), kind.Field(n).Name
		switch {
		case path == "Scope":
			field.SetZero()
			differs(path, i, false)
		case field.Kind() == reflect.Pointer:
			for m := range field.Elem().NumField() {
				if !field.Elem().Type().Field(m).IsExported() {
					continue // made of the others
				}
				other := everyField()
				change(t, reflect.ValueOf(&other).Elem().Field(n).Elem().Field(m))
				differs(path+"."+field.Elem().Type().Field(m).Name, other, true)
			}
			field.SetZero()
			differs(path, i, true)
		case path == "Client":
			for m := range field.NumField() {
				other := everyField()
				change(t, reflect.ValueOf(&other).Elem().Field(n).Field(m))
				differs(path+"."+field.Type().Field(m).Name, other, true)
			}
		default:
			change(t, field)
			differs(path, i, true)
		}
	}
	summed := everyField()
	summed.OIDC = summed.OIDC.Summed()
	differs("Sum that was made before", summed, false)
	// Where one text ends and the next begins is a part of it.
	a, _ := authz.Identity{Groups: []string{"ab", "c"}}.Key()
	b, _ := authz.Identity{Groups: []string{"a", "bc"}}.Key()
	c, _ := authz.Identity{Groups: []string{"a\xff"}}.Key()
	d, _ := authz.Identity{Groups: []string{"a\xfe"}}.Key()
	if a == b || c == d {
		t.Error("different groups have one key")
	}
	if _, ok := (authz.Identity{OIDC: &authz.OIDC{Claims: map[string]any{"f": func() {}}}}).Key(); ok {
		t.Error("what is no JSON has a key")
	}
}

func TestPlain(t *testing.T) {
	at := time.Date(2026, 11, 27, 1, 2, 3, 0, time.UTC)
	for _, test := range []struct {
		plain map[string]any
		want  string
	}{
		{
			authz.Identity{}.Plain(),
			`{"authenticated":false,"client_ip":"","groups":[],"id":"","method":"none","username":""}`,
		},
		{
			everyField().Plain(),
			`{"authenticated":true,"certificate":{"common_name":"cn","dns_names":["d"],"organizations":["o"],"uris":["u"]},` +
				`"client_ip":"192.0.2.7","groups":["a","b"],"id":"oidc:github:me","method":"token",` +
				`"oidc":{"claims":{"n":1.5,"ref":"main"},"provider":"github","subject":"me"},"username":"me"}`,
		},
		{
			authz.Identity{Certificate: &authz.Certificate{}, OIDC: &authz.OIDC{}}.Plain(),
			`{"authenticated":false,"certificate":{"common_name":"","dns_names":[],"organizations":[],"uris":[]},"client_ip":"",` +
				`"groups":[],"id":"","method":"none","oidc":{"claims":{},"provider":"","subject":""},"username":""}`,
		},
		{
			authz.Access{Action: authz.Pull, Time: at}.Plain(),
			`{"action":"pull","artifact_type":"","digest":"","from":"","operation":"","repository":"","tag":"","time":"2026-11-27T01:02:03Z","upstream":""}`,
		},
		{
			authz.Access{
				Action: authz.Push, Operation: "put-manifest", Repository: "r", Upstream: "u", Tag: "t", Digest: "d", From: "f",
				ArtifactType: "a", MediaType: "m", Size: 7, Time: at,
			}.Plain(),
			`{"action":"push","artifact_type":"a","digest":"d","from":"f","media_type":"m","operation":"put-manifest",` +
				`"repository":"r","size":7,"tag":"t","time":"2026-11-27T01:02:03Z","upstream":"u"}`,
		},
	} {
		text, err := json.Marshal(test.plain)
		if err != nil || string(text) != test.want {
			t.Errorf("%v, got\n%s\nwant\n%s", err, text, test.want)
		}
	}
}
