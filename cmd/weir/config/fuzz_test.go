package config

import (
	"bytes"
	"testing"
)

// aHash is a hash, a key and a password.
const aHash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"

func FuzzConfig(f *testing.F) {
	f.Add([]byte("log: {level: debug, levels: {mirror: warn}}\nserver:\n  listen: [127.0.0.1:5000, 'unix:/run/w.sock']\n"))
	f.Add([]byte("mirror:\n  default: ghcr.io\n  upstreams:\n    - name: ghcr.io\n      public: true\n      endpoints:\n        - {url: https://ghcr.io/a, username: 'a${HOME}b', password: \"x\\u0000y\"}\n"))
	f.Add([]byte("origin: {immutable_tags: ['v.*', '$${x'], max_blob_size: 10GB, upload_expiry: 1d12h}\nstore: {metadata: {filesystem: {root: \"a\\nb\"}}}\n"))
	f.Add([]byte("authz: {policy: {default: deny, allow: [identity.authenticated, \"'$${x}' == ''\"]}, webhooks: [{name: a, url: 'http://u:p@h/x/', cache_ttl: 0s}], webhook: a}\nrepositories: [{match: 'team/**', policy: {deny: ['request.tag == \"x\"']}, webhook: none}]\n"))
	f.Add([]byte("authz: {realm: a b, basic: {users: [{name: a, hash: '" + aHash + "'}]}, token: {ttl: 1h, key: '" + aHash + "'}}\n"))
	f.Add([]byte("authz: {oidc: [{name: a, issuer: 'https://a/', audience: weir, algorithms: [ES256], required_claims: [a=b], jwks_uri: 'https://a/k?p=1', groups_claim: ''}]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte(redacted)) {
			return // it is no secret then
		}
		env := func(name string) (string, bool) { return name, len(name) > 1 }
		c, err := load([]source{{"fuzz.yaml", text}}, env, nil)
		if err != nil {
			return
		}
		printed, err := c.Effective()
		if err != nil {
			t.Fatal(err)
		}
		// Secrets are not printed: one that is good for all of them stands in.
		again, err := load([]source{{"printed.yaml", bytes.ReplaceAll(printed, []byte(redacted), []byte(aHash))}}, env, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		twice, err := again.Effective()
		if err != nil {
			t.Fatal(err)
		}
		if string(twice) != string(printed) {
			t.Errorf("printed\n%s\nthen\n%s", printed, twice)
		}
	})
}

// FuzzValue lets the environment hold anything: what comes from there is printed
// so that it reads back as it was.
func FuzzValue(f *testing.F) {
	for _, s := range []string{
		"", " ", "a", "a: b", "- a", "#a", "a #b", "~", "null", "true", "0x1", "012", "1e3", "'", `"`, `\`, "*a", "&a", "!a", "%a", "@a", "`",
		"a\nb", "a\n", "\n", "\ta", "a\t", "{a}", "[a", "|", ">", "a\\nb", "${", "$${A}", "ä", "\u2028", "\ufeff", "2001-01-01", ".inf", "<<", "=", "?", ": ", "a:", "---", "...",
		"a\r\nb", "a\n  b", "  a\nb", "a\n\nb\n\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		env := func(string) (string, bool) { return s, true }
		const file = "mirror: {upstreams: [{name: x, public: true, endpoints: [{url: http://x, username: '${S}', password: p}]}]}"
		c, err := load([]source{{"fuzz.yaml", []byte(file)}}, env, nil)
		if !isPrintable(s) {
			if err == nil {
				t.Fatalf("%q was taken", s)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		printed, err := c.Effective()
		if err != nil {
			t.Fatal(err)
		}
		again, err := load([]source{{"printed.yaml", printed}}, env, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, printed)
		}
		if got := again.Mirror.Upstreams[0].Endpoints[0].Username; got != s {
			t.Errorf("%q was printed as %q", s, got)
		}
	})
}
